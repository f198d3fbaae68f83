"""Retrieval and memory: samplers against plain Python, and what they draw.

Shape key: B examples, N tokens of the longest context, T tokens, Q answer
queries.
"""

import collections
import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from task_checks import check_causal

from extrap.errors import UsageError
from extrap.evaluation.grid import Suite, draw_rows
from extrap.models import Transformer, TransformerConfig
from extrap.sequence import SequenceProblem
from extrap.tasks.altered_facts import AlteredFacts, world_of
from extrap.tasks.associative_recall import AssociativeRecall
from extrap.tasks.counting import LARGEST, Counting
from extrap.tasks.flip_flop import FlipFlop
from extrap.tasks.haystack import DEPTHS
from extrap.tasks.induction import Induction
from extrap.tasks.lines import WIDTH, Lines
from extrap.tasks.needles import RULER, Needles
from extrap.tasks.selective_copying import SelectiveCopying
from extrap.tasks.symbols import QuestionTask, SymbolTask
from extrap.tasks.variable_tracking import VariableTracking
from extrap.tasks.word_counts import (
  CommonWords,
  FrequentWords,
  shortest_ranked,
  zeta,
)
from extrap.training.problem import Context

TASKS = {
  'passkey': Needles(haystack='repeat', fillers=5),
  'turns': Needles(needles=4, queries=3, digits=2, asks='turns'),
  'values': Needles(
    needles=3, values=2, queries=2, digits=1, haystack='digits'
  ),
  'needles': Needles(digits=2, keys=24, haystack='needles'),
  'lines': Lines(words=10, shared=True),
  'facts': AlteredFacts(facts=3),
  'recall': AssociativeRecall(symbols=128),
  'recall, far': AssociativeRecall(
    symbols=128, pairs=3, power=1.0, fill='random'
  ),
  'induction': Induction(),
  'crowded': Induction(symbols=4, trigger='special', crowded=True),
  'selective copying': SelectiveCopying(count=6, used=2),
  'flip-flop': FlipFlop(),
  'counting': Counting(variables=2),
  'tracking': VariableTracking(chains=2, hops=2),
  'tracking, value': VariableTracking(chains=2, hops=2, asks='value'),
  'common words': CommonWords(common=3, often=6, seldom=2, words=30),
  'frequent words': FrequentWords(),
}
MAX_SIZE, ROWS = 64, 500

of_every_task = pytest.mark.parametrize('name', TASKS)


@functools.cache
def sampler(name):
  return jax.jit(TASKS[name].sample, static_argnames='max_size')


def draw(name, seed):
  """Sizes 1 .. MAX_SIZE and a batch, as numpy arrays."""
  key = jax.random.key(seed)
  size_B1 = np.random.default_rng(seed).integers(1, MAX_SIZE + 1, (ROWS, 1))
  batch = sampler(name)(key, size_B1, max_size=MAX_SIZE)
  return size_B1[:, 0], jax.tree.map(np.asarray, batch)


def drawn(name, seed):
  """Size, tokens, queries, targets and mask of each row."""
  size_B, batch = draw(name, seed)
  fields = (batch.tokens, batch.queries, batch.targets, batch.mask)
  return zip(size_B, *fields, strict=True)


@functools.cache
def rows(name):
  """For each row its size and instance, checked in the first test."""
  size_B, batch = draw(name, 0)
  read = (TASKS[name].read(tokens_T) for tokens_T in batch.tokens)
  return [(n, *instance) for n, (instance, _) in zip(size_B, read, strict=True)]


def near(total, expected, variance):
  """Whether a sum is within four standard deviations of what is expected."""
  return abs(total - expected) < 4 * math.sqrt(variance)


def even(share_B):
  """Whether numbers are spread evenly over 0 .. 1, by sixths."""
  count = np.histogram(share_B, 6, (0, 1))[0]
  return all(near(n, len(share_B) / 6, len(share_B) / 6) for n in count)


@of_every_task
def test_answers_are_those_of_plain_python_and_follow_from_the_prompt(name):
  task, (size_B, batch) = TASKS[name], draw(name, 0)
  assert batch.tokens.shape == (ROWS, task.token_length(MAX_SIZE))
  for row, tokens_T in enumerate(batch.tokens):
    instance, answer = task.read(tokens_T)
    expected = task.oracle(instance)
    mask_Q = batch.mask[row]
    queries = batch.queries[row][mask_Q]
    order = np.argsort(queries)
    targets = batch.targets[row][mask_Q][order].tolist()
    end = [task.end] if isinstance(task, QuestionTask) else []
    assert targets == [*expected, *end]
    length = max(size_B[row], task.shortest)
    if isinstance(task, FlipFlop):
      length -= length % 2
    assert len(instance[0]) == length
    if isinstance(task, AssociativeRecall):
      assert answer is None
    else:
      assert answer == expected
      assert tokens_T[queries[order] + 1].tolist() == targets
    spelt = np.flatnonzero(tokens_T != task.pad)
    assert spelt[-1] == len(spelt) - 1


@of_every_task
def test_keys_decide_what_is_drawn(name):
  size_B1 = np.full((ROWS, 1), MAX_SIZE)
  tokens = [
    np.asarray(sampler(name)(key, size_B1, max_size=MAX_SIZE).tokens)
    for key in map(jax.random.key, (0, 0, 1))
  ]
  np.testing.assert_array_equal(tokens[0], tokens[1])
  assert (tokens[0] == tokens[2]).all(axis=1).mean() < 0.02
  # Rows of a batch differ, too.
  assert (tokens[0] == tokens[0][:1]).all(axis=1).mean() < 0.02


@pytest.mark.parametrize(
  'name',
  [
    *('needles', 'recall', 'induction', 'selective copying', 'flip-flop'),
    *('counting', 'common words', 'frequent words'),
  ],
)
def test_the_same_row_is_drawn_into_every_shape(name):
  task, spelt = TASKS[name], []
  size_11 = jnp.full((1, 1), 60)
  for max_size in (60, 72):
    batch = jax.jit(task.sample, static_argnames='max_size')(
      jax.random.key(3), size_11, max_size=max_size
    )
    spelt.append([x for x in batch.tokens[0].tolist() if x != task.pad])
  assert spelt[0] == spelt[1]


@of_every_task
def test_structure_counts_tokens_and_tells_nothing_else(name):
  task = TASKS[name]
  assert type(task).structure is SymbolTask.structure
  last = task.token_length(MAX_SIZE) - 1
  assert task.largest_ids(MAX_SIZE) == (
    {'position': last, 'place': last, 'role': 0, 'run': 0}
  )
  assert len(task.names) == task.vocab_size == len(set(task.names))
  assert 0 < task.chance(MAX_SIZE) < 1
  assert all(harder.names == task.names for harder in task.stress.values())
  assert type(task)() not in type(task)().stress.values()


def test_structure_is_causal():
  task = FlipFlop()
  check_causal(task, draw('flip-flop', 0)[1].tokens[0, :9])
  tokens_BT = jnp.zeros((2, task.token_length(9)), jnp.int32)
  structure = task.structure(tokens_BT)
  for field, largest in task.largest_ids(9).items():
    assert int(getattr(structure, field).max()) == largest


@functools.cache
def at_every_depth(name):
  task = TASKS[name]
  size_B2 = np.array([(n, d + 1) for n in (7, 33, 64) for d in range(DEPTHS)])
  hide = jax.jit(task.at_depth, static_argnums=2)
  batch = hide(jax.random.key(0), jnp.asarray(size_B2), MAX_SIZE)
  return size_B2, [task.read(tokens_T) for tokens_T in batch.tokens]


@pytest.mark.parametrize(('name', 'width'), [('passkey', 6), ('induction', 2)])
def test_depth_is_uniform_in_training_and_given_in_tests(name, width):
  place = [
    (context.index(question[0]), size - width)
    for size, context, question in rows(name)
    if size > 2 * width
  ]
  at_B, last_B = np.array(place).T
  random = np.random.default_rng(0).uniform(size=len(place))
  assert even((at_B + random) / (last_B + 1))
  assert at_B.min() == 0 and (at_B == last_B).any()
  size_B2, read = at_every_depth(name)
  for (size, depth), (instance, answer) in zip(size_B2, read, strict=True):
    context, question = instance
    assert context.index(question[0]) == (
      round((depth - 1) * (size - width) / (DEPTHS - 1))
    )
    assert answer == TASKS[name].oracle(instance)


def test_the_first_of_several_needles_is_pinned_among_the_others():
  task, others = TASKS['turns'], 3
  size_B2, read = at_every_depth('turns')
  for (size, depth), (instance, answer) in zip(size_B2, read, strict=True):
    context, question = instance
    assert len(context) == max(size, 12)
    at = context.index(question[0])
    before = [task.index('key', token) is not None for token in context[:at]]
    # A needle of three tokens has one slot, as a token of filler has.
    slots = len(context) - 2 * (1 + others)
    share = np.float32(depth - 1) / np.float32(DEPTHS - 1)
    assert at - 2 * sum(before) == round(share * np.float32(slots - 1))
    assert answer == task.oracle(instance)


def test_a_passkey_is_hidden_in_a_sentence_that_repeats():
  task = TASKS['passkey']
  for _, context, _ in rows('passkey'):
    filler = [task.index('filler', x) for x in context]
    filler = [x for x in filler if x is not None]
    assert filler == [n % 5 for n in range(len(context) - 6)]


@pytest.mark.parametrize(
  ('name', 'needles'), [('turns', 4), ('values', 3), ('needles', None)]
)
def test_needles_are_as_many_as_they_should_be_with_distinct_keys(
  name, needles
):
  task, asked = TASKS[name], collections.Counter()
  for _, context, question in rows(name):
    keys = [x for x in context if task.index('key', x) is not None]
    count = needles or len(context) // task.width
    assert len(keys) == count * task.values
    assert len(set(keys)) == count
    assert len(question) == len(set(question)) == task.queries
    asked[list(dict.fromkeys(keys)).index(question[-1])] += 1
  # The last of the keys asked for is any of those in the context.
  if needles:
    shares = [asked[rank] / ROWS for rank in range(needles)]
    assert max(shares) - min(shares) < 0.2


def test_needles_of_the_benchmark_are_its_own():
  counts = {
    name: (task.needles, task.values, task.queries)
    for name, task in RULER.items()
  }
  assert counts['niah_multikey_1'] == (4, 1, 1)
  assert counts['niah_multivalue'] == (1, 4, 1)
  assert counts['niah_multiquery'] == (4, 1, 4)
  assert RULER['niah_multikey_2'].haystack == 'needles'
  dense = Needles(needles=3, queries=3, digits=1, asks='turns')
  assert dense.token_length(20) == 20 + 1 + 3 * 2 + 1
  assert dense.chance(20) == pytest.approx(1e-3)


def test_lines_share_the_fewest_words_that_there_can_be():
  task, most = TASKS['lines'], 0
  for _, context, question in rows('lines'):
    firsts = {x for x in context if task.index('adjective', x) is not None}
    lines = [
      context[at : at + 2] for at, x in enumerate(context) if x in firsts
    ]
    assert len(lines) == len(set(lines)) == len(context) // WIDTH
    assert question in lines
    side = math.ceil(math.sqrt(len(lines)))
    assert len(firsts) <= side
    assert len({noun for _, noun in lines}) <= side
    most = max(most, len(firsts))
  assert most == 3


def test_facts_are_altered_by_the_rule_and_wherever_they_stand():
  task, altered, distractors, steps = TASKS['facts'], 0, 0, set()
  world = world_of(task.entities, task.world)
  for _, context, (entity,) in rows('facts'):
    assert context.count(entity) == task.mentions
    index = task.index('entity', entity)
    known = int(world.value[index])
    number = task.oracle((context, (entity,)))
    now = int(''.join(str(task.index('digit', x)) for x in number))
    altered += now != known
    if index % 2 == 0:
      assert 1000 <= known <= 2100
      steps.add(now - known)
    else:
      assert len(str(now)) == len(str(known)) <= 3
    for other in {x for x in context if task.index('entity', x) is not None}:
      if other != entity:
        stands = task.oracle((context, (other,)))
        value = int(''.join(str(task.index('digit', x)) for x in stands))
        true = int(world.value[task.index('entity', other)])
        assert value == (now if true == known else true)
        distractors += 1
  assert near(altered, ROWS / 2, ROWS / 4)
  assert steps == set(range(-10, 11))
  assert distractors == ROWS * task.facts


def test_rows_can_be_answered_from_memory():
  task = TASKS['facts']
  size_B, batch = draw('facts', 0)
  recalled = jax.jit(task.remembered, static_argnums=2)(
    jax.random.key(0), jnp.asarray(size_B)[:, None], MAX_SIZE
  )
  values = world_of(task.entities, task.world).value
  for row, tokens_T in enumerate(recalled.tokens):
    instance, answer = task.read(tokens_T)
    assert instance == task.read(batch.tokens[row])[0]
    known = values[task.index('entity', instance[1][0])]
    assert answer == tuple(task.token('digit', int(d)) for d in str(known))


def test_memory_alone_is_right_on_unaltered_rows_alone():
  assert AlteredFacts(altered=0.3).chance(64) == pytest.approx(0.7)
  span = world_of(64, 0).span
  guess = np.mean(1 / (span - 1.0))
  assert AlteredFacts(altered=1.0).chance(64) == pytest.approx(guess)
  assert set(AlteredFacts().stress) == {'altered', 'unaltered'}


@pytest.mark.parametrize('name', ['recall', 'recall, far'])
def test_queries_come_at_gaps_by_the_power_law(name):
  task, sums = TASKS[name], np.zeros(3)
  for size, tokens_T, queries_Q, targets_Q, mask_Q in (
    row for seed in range(4) for row in drawn(name, seed)
  ):
    length, count = max(size, task.shortest), mask_Q.sum()
    assert count == (task.pairs or max(length // 16, 1))
    keys, places = tokens_T[: 2 * count : 2], queries_Q[:count]
    assert tokens_T[places].tolist() == keys.tolist()
    assert len(set(keys)) == len(set(targets_Q[:count])) == count
    gaps = (places - 2 * count) / 2
    room = (length - 2 * count) // 2
    assert set(gaps) <= set(range(room))
    # The first key is drawn before all others, from the whole power law.
    weight = np.arange(1.0, room + 1) ** (task.power - 1)
    weight /= weight.sum()
    log = np.log(np.arange(1.0, room + 1))
    mean = weight @ log
    sums += math.log(gaps[0] + 1), mean, weight @ (log - mean) ** 2
  assert near(*sums)
  # A guess knows that values differ, as they were found to.
  few = dataclasses.replace(task, symbols=8, pairs=2)
  assert few.chance(64) == pytest.approx(1 / (4 * 3))


def test_what_is_not_asked_for_is_blank_or_a_random_value():
  for name, kind in (('recall', 'blank'), ('recall, far', 'value')):
    task, found = TASKS[name], set()
    _, batch = draw(name, 0)
    for row, tokens_T in enumerate(batch.tokens):
      count = batch.mask[row].sum()
      rest = np.ones(len(tokens_T), bool)
      rest[: 2 * count] = rest[batch.queries[row][:count]] = False
      found |= set(tokens_T[rest & (tokens_T != task.pad)].tolist())
    assert found == {task.token(kind, n) for n in range(task.kinds[kind])}


def test_a_crowd_is_of_one_symbol_that_is_not_the_answer():
  task, crowds = TASKS['crowded'], set()
  for size, context, (first,) in rows('crowded'):
    (answer,) = task.oracle((context, (first,)))
    crowd = set(context) - {first, answer}
    assert len(crowd) == (size > 2)
    crowds |= {(answer, *crowd)}
  assert len([pair for pair in crowds if len(pair) == 2]) == 4 * 3


def test_induction_goes_by_a_symbol_that_stands_once():
  task, firsts = TASKS['induction'], set()
  for _, context, (first,) in rows('induction'):
    assert context.count(first) == 1
    firsts.add(first)
  assert firsts == set(range(task.symbols))


def test_symbols_to_copy_stand_anywhere_or_at_an_end():
  task, shares = TASKS['selective copying'], []
  used = set()
  for size, context, _ in rows('selective copying'):
    blank = task.token('blank')
    places = [at for at, token in enumerate(context) if token != blank]
    assert len(places) == task.count
    used |= {context[at] for at in places}
    assert len(set(context) - {blank}) <= 2
    if size > 20:
      shares += [(places[size % 6] + 0.5) / size]
  assert used == set(range(task.symbols))
  assert 0.45 < np.mean(shares) < 0.55
  # What says one symbol over and over is right if all are that one.
  assert task.chance(20) == pytest.approx(2 / 16 * 2**-6)
  assert SelectiveCopying(count=6).chance(20) == pytest.approx(16**-6)


@pytest.mark.parametrize('spread', ['early', 'late'])
def test_stress_puts_all_symbols_at_an_end(spread):
  task = SelectiveCopying(count=6).stress[spread]
  batch = jax.jit(task.draw, static_argnums=2)(
    jax.random.key(0), jnp.array([[6], [20], [40]]), 40
  )
  for size, tokens_T in zip((6, 20, 40), batch.tokens, strict=True):
    (context, _), answer = task.read(tokens_T)
    ends = context[:6] if spread == 'early' else context[-6:]
    assert answer == ends == task.oracle((context, ()))
    assert len(context) == size


def test_instructions_are_drawn_with_their_probabilities():
  task, kinds, free, chance = TASKS['flip-flop'], collections.Counter(), 0, 0
  bits = collections.Counter()
  for size, row, _ in rows('flip-flop'):
    assert row[0] == task.token('write') and row[-2] == task.token('read')
    kinds.update(row[2:-2:2])
    free += len(row) // 2 - 2
    bits.update(row[1::2])
    actions = [x for x in row[::2] if x != task.token('ignore')]
    writes_read = sum(
      (one, two) == (task.token('write'), task.token('read'))
      for one, two in itertools.pairwise(actions)
    )
    chance += 0.5**writes_read - task.chance(max(size, task.shortest))
  acts = free * 0.1
  assert near(kinds[task.token('ignore')], free * 0.8, free * 0.16)
  assert near(kinds[task.token('read')], acts, acts)
  assert near(kinds[task.token('write')], acts, acts)
  assert near(bits[0], (bits[0] + bits[1]) / 2, (bits[0] + bits[1]) / 4)
  assert abs(chance) / ROWS < 0.02
  assert {k: t.ignore for k, t in task.stress.items()} == (
    {'sparse': 0.98, 'dense': 0.1}
  )


def test_statements_are_drawn_by_their_weights():
  task, found = TASKS['counting'], np.zeros(3)
  sets, expected, free, grown, values = 0, 0.0, 0, 0, set()
  for _, program, _ in rows('counting'):
    expected += len(program) / 58 + (57 / 58) ** len(program)
    value = {}
    for statement in program:
      raised = task.index('increment', statement)
      if value and max(value.values()) < LARGEST:
        free, grown = free + 1, grown + (raised is not None)
      if raised is not None:
        value[raised] += 1
      elif (start := task.index('set', statement)) is not None:
        sets, value[start] = sets + 1, 0
    values |= set(value.values())
    found[len(value)] += 1
  assert near(sets, expected, expected)
  assert near(grown, free * 7 / 58, free * 7 / 58)
  assert values == set(range(LARGEST + 1))
  assert found[0] == 0 and found[1] > found[2] > 0


def test_chains_are_shuffled_together():
  task, first, apart = TASKS['tracking'], 0, 0
  for _, context, (value,) in rows('tracking'):
    equals = [at for at, x in enumerate(context) if x == task.token('=')]
    assert len(equals) == task.statements
    targets = [context[at - 1] for at in equals]
    assert len(set(targets)) == task.statements
    asked = set(task.oracle((context, (value,))))
    own = [target in asked for target in targets]
    first += own[0]
    apart += own not in ([True] * 3 + [False] * 3, [False] * 3 + [True] * 3)
  assert near(first, ROWS / 2, ROWS / 4)
  assert near(apart, ROWS * 0.9, ROWS * 0.09)


def test_words_stand_as_often_as_they_should():
  task = TASKS['common words']
  for _, context, _ in rows('common words'):
    counts = sorted(collections.Counter(context).values(), reverse=True)
    others = len(context) - 18
    assert counts == [6] * 3 + [2] * (others // 2) + [1] * (others % 2)
  task = TASKS['frequent words']
  for _, context, _ in rows('frequent words'):
    noise = context.count(task.token('noise'))
    counts = collections.Counter(context)
    counts = sorted(counts.values(), reverse=True)
    share = [6 / math.pi**2 / rank**2 for rank in range(2, 7)]
    expected = [int(len(context) * s) for s in share]
    assert counts == [noise, *(n for n in expected if n)]


def test_the_top_ranks_differ_from_the_shortest_context_on():
  assert zeta(2.0) == pytest.approx(math.pi**2 / 6, rel=1e-9)
  assert shortest_ranked(2.0, 3) == 53
  share = 6 / math.pi**2 / np.arange(2, 6) ** 2
  assert len(set(np.floor(52 * share))) == 3
  for length in range(53, 2000):
    assert len(set(np.floor(length * share))) == 4


def test_tasks_are_trained_and_tested_as_others_are():
  task = TASKS['turns']
  model = Transformer(TransformerConfig(width=8, heads=2), task.vocab_size)
  problem = SequenceProblem(task=task, model=model, min_size=12, max_size=16)
  key = jax.random.key(0)

  def loss(key):
    params = problem.init(key)
    ctx = Context(key=key, step=jnp.int32(0), hparams={}, data=None)
    return problem.loss(params, problem.sample(ctx), ctx)[0]

  assert jax.eval_shape(loss, key).shape == ()
  suite = Suite(name='depth', cells=((16, 11),), rows=2, sampler=task.at_depth)
  cell_N2, row_N = jnp.array([[16, 11]] * 2), jnp.arange(2)
  batch = jax.eval_shape(
    lambda: draw_rows(task, suite, cell_N2, row_N, max_size=16)
  )
  assert batch.tokens.shape == (2, task.token_length(16))


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: Needles(digits=0), r'--task.digits=0: must be >= 1'),
    (lambda: Needles(queries=2), '--task.queries=2: there are 1 needles'),
    (
      lambda: Needles(needles=2, values=2, haystack='needles'),
      '--task.haystack=needles: it has one value a key',
    ),
    (lambda: AlteredFacts(altered=1.5), r'--task.altered=1.5: must be'),
    (lambda: AlteredFacts(facts=64), '--task.facts=64: there are 64 entities'),
    (lambda: AssociativeRecall(symbols=5), '--task.symbols=5: half of them'),
    (lambda: SelectiveCopying(used=17), '--task.used=17: there are 16 symbols'),
    (lambda: FlipFlop(ignore=-0.1), '--task.ignore=-0.1: must be'),
    (
      lambda: Counting(dummies=0.0, increments=0.0, sets=0.0),
      'no statement has a weight',
    ),
    (
      lambda: VariableTracking(variables=4),
      '--task.variables=4: 1 chains of 4 hops need 5',
    ),
    (lambda: CommonWords(often=3), '--task.seldom=3: not less than'),
  ],
)
def test_bad_settings_are_refused(make, message):
  with pytest.raises(UsageError, match=message) as caught:
    make()
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('task', 'max_size', 'message'),
  [
    (Needles(), 5, 'a length of 5: Needles needs 6 or more'),
    (
      Needles(haystack='needles', keys=4),
      30,
      'a length of 30 needs 5 keys; --task.keys=4',
    ),
    (Lines(words=2), 35, 'needs 5 pairs of words; --task.words=2'),
    (AssociativeRecall(symbols=4), 48, 'a length of 48 needs 3 keys'),
    (CommonWords(words=20), 333, 'needs 21 words; --task.words=20'),
    (FrequentWords(words=4), 64, 'needs 5 words; --task.words=4'),
  ],
)
def test_sizes_that_do_not_fit_are_refused(task, max_size, message):
  size_B1 = jnp.ones((1, 1), jnp.int32)
  with pytest.raises(UsageError, match=message) as caught:
    task.sample(jax.random.key(0), size_B1, max_size=max_size)
  assert '\n' not in str(caught.value)


def test_settings_are_the_published_ones():
  recall, counting, words = AssociativeRecall(), Counting(), CommonWords()
  assert (recall.power, recall.spacing, recall.fill) == (0.01, 16, 'blank')
  assert (counting.dummies, counting.increments, counting.sets) == (50, 7, 1)
  assert (words.common, words.often, words.seldom) == (10, 30, 3)
  assert (FrequentWords().alpha, FrequentWords().top) == (2, 3)
  tracking = VariableTracking()
  assert (tracking.chains, tracking.hops) == (1, 4)
  assert (SelectiveCopying().count, Induction().symbols) == (16, 16)
  assert (Needles().digits, DEPTHS, AlteredFacts().mentions) == (5, 11, 2)


def test_sizes_below_the_shortest_count_as_it():
  task = dataclasses.replace(TASKS['passkey'], digits=2)
  size_B1 = jnp.array([[0], [2], [3], [4]])
  assert task.lengths(size_B1).tolist() == [3, 3, 3, 4]
