"""Certificates: their contexts, margins and rounding.

Shape key: R replicas, C contexts, V vocabulary.
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from extrap.errors import UsageError
from extrap.evaluation.certificate import Certificate, certify
from extrap.evaluation.context_logits import context_logits
from extrap.evaluation.contexts import ABSENT, BELOW
from extrap.evaluation.every_context import check_model, contexts_of
from extrap.evaluation.grid import Suite, evaluate
from extrap.evaluation.operation_contexts import operation_contexts
from extrap.evaluation.rounding import reordered
from extrap.models.config import TransformerConfig
from extrap.models.positions import NoPosition, PlaceBias, PlaceWindow
from extrap.models.transformer import Params, Transformer
from extrap.tasks.addition import Addition
from extrap.tasks.multiplication import Multiplication
from extrap.tasks.numbers import NumberTask
from extrap.tasks.operation import Operation
from extrap.tasks.product_trace import ProductTrace
from extrap.tasks.subtraction import Subtraction
from extrap.tasks.summation import Summation
from extrap.training import Context, TrainConfig, fit

# What a query sees: its token, the sum's digits before it (nearest first), the
# digits of both numbers; then the right answer.
Seen = tuple[int, ...]


def _digits(numbers: np.ndarray, base: int, places: int) -> np.ndarray:
  """[numbers, places], least significant first, ABSENT above the number."""
  powers = base ** np.arange(places)
  digits = numbers[:, None] // powers % base
  # 0 has one digit.
  present = (numbers[:, None] >= powers) | (powers == 1)
  return np.where(present, digits, ABSENT)


def _occurring(
  pairs: np.ndarray, task: Operation, behind: int, ahead: int
) -> set[Seen]:
  """All contexts of some sums or differences, each with its answer."""
  base, width = task.base, behind + ahead + 1
  # Longer by a place than any sum, and markers under the first place.
  places = len(np.base_repr(pairs.max(), base)) + 1 + ahead
  under = ((0, 0), (behind + 1, 0))
  a, b, total = (
    np.pad(_digits(x, base, places), under, constant_values=BELOW)
    for x in (pairs[:, 0], pairs[:, 1], task.oracle(pairs.T))
  )
  if isinstance(task, Subtraction):  # padded to the first number's length
    total = np.where(a >= 0, np.maximum(total, 0), a)
  total[:, behind] = task.equals
  found = []
  for low in range(places - ahead):
    own = low + behind
    asked = total[:, own] != ABSENT
    successor = total[:, own + 1]
    answer = np.where(successor == ABSENT, task.end, successor)
    before = [total[:, own - back] for back in range(1, behind + 1)]
    # '=' is an anchor: all queries see it, and it is no digit of the sum.
    before = [np.where(x == task.equals, BELOW, x) for x in before]
    window = [*a[:, low : low + width].T, *b[:, low : low + width].T]
    rows = np.stack([total[:, own], *before, *window, answer], axis=1)
    found.append(_distinct(rows[asked]))
  return set(map(tuple, np.concatenate(found).tolist()))


def _distinct(rows: np.ndarray) -> np.ndarray:
  """Each row once; numbers are sorted sooner than whole rows."""
  low, radix = rows.min(), int(np.ptp(rows)) + 1
  assert radix ** rows.shape[1] < 2**63
  spelt = (rows - low) @ radix ** np.arange(rows.shape[1])
  return rows[np.unique(spelt, return_index=True)[1]]


def _enumerated(task: Operation, behind: int, ahead: int) -> list[Seen]:
  contexts = operation_contexts(task, behind, ahead)
  shown = np.concatenate([contexts.shown, contexts.target[:, None]], axis=1)
  return [tuple(row) for row in shown.tolist()]


@pytest.mark.parametrize('operation', [Addition, Subtraction])
@pytest.mark.parametrize(
  ('base', 'behind', 'ahead', 'digits'),
  [
    (2, 0, 1, 6),
    (2, 1, 1, 6),
    (2, 0, 2, 6),
    (2, 2, 1, 6),
    (3, 0, 1, 5),
    (3, 1, 1, 5),
    (3, 0, 2, 5),
  ],
)
def test_contexts_are_those_of_all_pairs(
  operation: type[Operation], base: int, behind: int, ahead: int, digits: int
) -> None:
  # The larger of two long numbers is told by one digit more.
  digits += operation is Subtraction
  task, every = operation(base=base), np.arange(base**digits)
  pairs = np.stack(np.meshgrid(every, every), axis=-1).reshape(-1, 2)
  if operation is Subtraction:
    pairs = pairs[pairs[:, 0] >= pairs[:, 1]]
  wanted = _occurring(pairs, task, behind, ahead)
  found = _enumerated(task, behind, ahead)
  assert set(found) == wanted
  assert len(found) == len(wanted)


def test_contexts_of_base_10() -> None:
  found = _enumerated(Addition(), 0, 1)
  assert len(found) == len(set(found)) == 24_518
  rng = np.random.default_rng(0)
  uniform = rng.integers(10 ** rng.integers(1, 5, (40_000, 2)))
  corners = [0, 1, 5, 9, 10, 19, 90, 99, 100, 909, 990, 999, 1000, 9999]
  corners = np.array(list(itertools.product(corners, corners)))
  occurring = _occurring(np.concatenate([uniform, corners]), Addition(), 0, 1)
  assert occurring <= set(found)
  assert len(occurring) > 15_000


def test_moved_contexts_are_contexts_further_up() -> None:
  task = Addition(base=3)
  here = operation_contexts(task, 0, 1)
  moved = operation_contexts(task, 0, 1, shift=5)
  row = {tuple(shown): row for row, shown in enumerate(here.shown)}
  rows = [row[tuple(shown)] for shown in moved.shown]
  np.testing.assert_array_equal(moved.target, here.target[rows])
  # All but those at the sum's start.
  assert len(set(rows)) == len(moved)
  assert moved.tokens.shape[1] == here.tokens.shape[1] + 3 * 5
  assert not (moved.seen == BELOW).any()


def test_some_contexts_are_spread_over_all() -> None:
  task = Addition(base=5)
  moved = operation_contexts(task, 0, 1, shift=2, most=100)
  assert 50 < len(moved) < 200
  every = operation_contexts(task, 0, 1)
  assert set(moved.own.tolist()) == set(range(5))
  assert set(moved.seen[:, 0, 1].tolist()) == set(every.seen[:, 0, 1].tolist())


def test_too_many_contexts_are_refused() -> None:
  with pytest.raises(UsageError, match='2 places behind') as caught:
    operation_contexts(Addition(), 2, 1)
  assert '\n' not in str(caught.value)


def test_a_context_in_words() -> None:
  contexts = operation_contexts(Addition(base=3), 1, 1)
  words = [
    contexts.describe(Addition(base=3), row) for row in (0, len(contexts) - 1)
  ]
  assert words[0].startswith("'=', digits")
  assert ' after ' in words[1]


@pytest.mark.parametrize(
  ('task', 'ahead'),
  [
    (Addition(order='msb'), 1),
    (Addition(zero_pad=True), 1),
    (Addition(), 0),
  ],
)
def test_other_formats_have_no_contexts(task: Addition, ahead: int) -> None:
  with pytest.raises(UsageError) as caught:
    operation_contexts(task, 0, ahead)
  assert '\n' not in str(caught.value)


TASK = Addition(base=2)


CONTEXTS = operation_contexts(TASK, 0, 1)
GOOD, COLUMN, ROW, NAN = range(4)


def _model(**changes: object) -> Transformer:
  defaults = {
    'position': PlaceWindow(),
    'width': 16,
    'heads': 2,
    'ffn_width': 32,
  }
  config = TransformerConfig(**(defaults | changes))
  return Transformer(config, TASK.vocab_size)


def _logits(model: Transformer, params: Params) -> jax.Array:
  """Of one replica, in every context, [C, V]."""
  structure = TASK.structure(CONTEXTS.tokens)
  query_C1 = CONTEXTS.query[:, None]
  return model.apply(
    {'params': params}, jnp.asarray(CONTEXTS.tokens), structure, query_C1
  )[:, 0]


class AllContexts:
  """Every context is in every batch."""

  def init(self, key: jax.Array) -> Params:
    first = jnp.asarray(CONTEXTS.tokens[:1])
    structure = TASK.structure(first)
    return _model().init(key, first, structure)['params']

  def sample(self, ctx: Context) -> None:
    return None

  def loss(
    self, params: Params, batch: None, ctx: Context
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    loss_C = optax.softmax_cross_entropy_with_integer_labels(
      _logits(_model(), params), jnp.asarray(CONTEXTS.target)
    )
    return jnp.mean(loss_C), {}


@pytest.fixture(scope='module')
def population() -> Params:
  """A model that adds in base 2, and three copies that were damaged."""
  config = TrainConfig(
    steps=500,
    steps_per_dispatch=100,
    learning_rate=2e-2,
    warmup_steps=20,
    evaluate_every=0,
  )
  run = fit(AllContexts(), config, replicas=3)
  best = int(np.argmin(run.history[-1]['train/loss']))
  copies = jax.tree.map(
    lambda x: np.repeat(np.asarray(x[best])[None], 4, axis=0), run.params
  )
  copies['logits']['kernel'][COLUMN, :, 1] *= -1
  copies['embedding'][ROW, 1] *= -3
  copies['norm']['scale'][NAN, 0] = np.nan
  return copies


def _replica(params: Params, replica: int) -> Params:
  return jax.tree.map(lambda x: jnp.asarray(x[replica]), params)


@pytest.fixture(scope='module')
def certificates(population: Params) -> list[Certificate]:
  return certify(_model(), population, TASK)


def test_a_model_that_adds_passes(certificates: list[Certificate]) -> None:
  good = certificates[GOOD]
  assert good.passed, good
  assert (good.contexts, good.wrong, good.offender) == (86, 0, None)
  assert good.margin > 0.5
  assert str(good).startswith('passed (measured): 86 of 86 contexts right')
  assert good.tightest in str(good)


def test_rounding_differs_a_little_for_every_cause(
  certificates: list[Certificate],
) -> None:
  rounding = certificates[GOOD].rounding
  assert list(rounding) == [
    'float64',
    'summation order',
    'gathered keys',
    '300 places further',
  ]
  for difference in rounding.values():
    assert 0 < difference < 1e-4
  assert certificates[GOOD].largest_rounding == max(rounding.values())


def test_what_passed_adds_long_numbers(population: Params) -> None:
  suite = Suite(name='uniform', cells=((60, 60), (60, 9)), rows=16)
  counts = evaluate(_model(), population, TASK, suite)
  for right in counts.values():
    assert right[GOOD] == 16 and right[COLUMN] == right[NAN] == 0


@pytest.mark.parametrize('replica', [GOOD, COLUMN, ROW])
def test_margins_are_those_of_the_logits(
  population: Params, certificates: list[Certificate], replica: int
) -> None:
  logits_CV = jax.jit(functools.partial(_logits, _model()))(
    _replica(population, replica)
  )
  margins = []
  for logits, target in zip(logits_CV.tolist(), CONTEXTS.target, strict=True):
    margins.append(logits.pop(target) - max(logits))
  found = certificates[replica]
  lowest = int(np.argmin(margins))
  assert found.margin == pytest.approx(margins[lowest], abs=1e-4)
  assert found.tightest == CONTEXTS.describe(TASK, lowest)
  assert found.wrong == sum(margin <= 0 for margin in margins)
  if found.wrong:
    first = next(row for row, margin in enumerate(margins) if margin <= 0)
    said = TOKENS[int(np.argmax(logits_CV[first]))]
    right = TOKENS[CONTEXTS.target[first]]
    assert found.offender == (
      f'{CONTEXTS.describe(TASK, first)}: right is {right}, '
      f'the model says {said}'
    )


TOKENS = ['0', '1', "'+'", "'='", 'the end', 'padding']


@pytest.mark.parametrize('replica', [COLUMN, ROW])
def test_a_damaged_model_fails_and_says_where(
  certificates: list[Certificate], replica: int
) -> None:
  found = certificates[replica]
  assert not found.passed and found.wrong > 0 and found.margin < 0
  assert str(found).startswith(f'FAILED: {found.wrong} of 86 contexts wrong')
  assert found.offender is not None and found.offender in str(found)


def test_nan_fails_everywhere(certificates: list[Certificate]) -> None:
  found = certificates[NAN]
  assert not found.passed
  assert found.wrong == found.contexts and found.margin == -np.inf
  assert found.largest_rounding == np.inf
  assert str(found).startswith('FAILED: 86 of 86')


def test_a_margin_that_rounding_reaches_fails() -> None:
  found = Certificate(86, 0, 1.0, 'here', {'a': 0.001, 'b': 0.009}, None)
  assert found.passed
  close = dataclasses.replace(found, rounding={'a': 0.011, 'b': 0.0})
  assert not close.passed and str(close).startswith('FAILED: 86 of 86')
  assert not dataclasses.replace(found, margin=np.nan).passed
  tie = dataclasses.replace(found, wrong=1, margin=0.0, rounding={'a': 0.0})
  assert not tie.passed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Custom(PlaceWindow):
  """A user's encoding: what it reads is not known."""


@pytest.mark.parametrize(
  ('changes', 'what'),
  [
    ({'depth': 2}, 'more than one layer'),
    ({'recurrences': 2}, 'more than one layer'),
    ({'position': NoPosition()}, 'no hard window'),
    ({'position': PlaceBias()}, 'no hard window'),
    ({'logit_scale': 'log_length'}, 'reads the length'),
    ({'position': Custom()}, 'absolute places'),
  ],
)
def test_refuses_models_without_finite_contexts(
  changes: dict[str, object], what: str
) -> None:
  with pytest.raises(UsageError, match=what) as caught:
    check_model(_model(**changes))
  assert '\n' not in str(caught.value)
  # Before anything is computed.
  with pytest.raises(UsageError, match=what):
    certify(_model(**changes), {}, TASK)


def test_window_of_a_model() -> None:
  position = PlaceWindow(behind=2, ahead=3)
  model = _model(position=position, logit_scale='learned', qk_norm=True)
  assert check_model(model) == (2, 3)


def _untrained(task: NumberTask, **window: int) -> tuple[Transformer, Params]:
  """Two replicas that nothing was learned by."""
  config = dataclasses.replace(_model().config, position=PlaceWindow(**window))
  model = Transformer(config, task.vocab_size)
  tokens = jnp.zeros((1, 2), jnp.int32)
  init = jax.jit(
    jax.vmap(
      lambda key: nn.unbox(model.init(key, tokens, task.structure(tokens)))
    )
  )
  return model, init(jax.random.split(jax.random.key(0), 2))['params']


@pytest.mark.parametrize(
  ('task', 'window'),
  [
    pytest.param(Summation(base=3), {}, marks=pytest.mark.slow),
    (Summation(base=3, trace=True), {'own_step': True}),
    pytest.param(
      *(Multiplication(base=2, second_digits=2), {'behind': 1}),
      marks=pytest.mark.slow,
    ),
    (ProductTrace(base=2), {'behind': -1, 'ahead': 2, 'own_step': True}),
  ],
)
def test_what_a_query_does_not_see_does_not_matter(
  task: NumberTask, window: dict[str, int]
) -> None:
  model, params = _untrained(task, **window)
  contexts = contexts_of(task, *model.config.position.place_window).whole()
  near, whole = (
    context_logits(model, params, task, contexts, near=near)
    for near in (True, False)
  )
  np.testing.assert_allclose(near, whole, atol=1e-5)
  assert near.std(axis=1).min() > 0.1


def test_parts_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
  task = Summation(base=3)
  model, params = _untrained(task)
  once = certify(model, params, task)
  contexts_of.cache_clear()
  monkeypatch.setattr('extrap.evaluation.summation_contexts.PART', 200)
  assert len(contexts_of(task, 0, 1).parts) > 5
  parts = certify(model, params, task)
  contexts_of.cache_clear()
  for one, other in zip(once, parts, strict=True):
    assert (one.contexts, one.wrong) == (other.contexts, other.wrong)
    assert one.margin == pytest.approx(other.margin, abs=1e-5)
    assert 0 < one.wrong < one.contexts and other.offender is not None


@pytest.mark.slow
def test_near_tokens_are_enough_whatever_the_attention() -> None:
  model = _model(attention='gathered')
  first = jnp.asarray(CONTEXTS.tokens[:1])
  params = nn.unbox(
    model.init(jax.random.key(0), first, TASK.structure(first))
  )['params']
  params = jax.tree.map(lambda leaf: leaf[None], params)
  near, whole = (
    context_logits(model, params, TASK, CONTEXTS, near=near)
    for near in (True, False)
  )
  np.testing.assert_allclose(near, whole, atol=1e-4)


def test_another_order_is_the_same_function() -> None:
  model = _model(qk_norm=True, ffn='swiglu', ffn_depth=2)
  first = jnp.asarray(CONTEXTS.tokens[:1])
  shapes = jax.eval_shape(
    lambda key: nn.unbox(model.init(key, first, TASK.structure(first))),
    jax.random.key(0),
  )['params']
  # Not as they start out: scales of 1 would hide that they are not permuted.
  rng = np.random.default_rng(1)
  params = jax.tree.map(
    lambda x: np.float32(rng.normal(size=(1, *x.shape)) / 2), shapes
  )
  other = reordered(params, ['ffn', 'ffn_2'])
  assert jax.tree.structure(other) == jax.tree.structure(params)
  logits = jax.jit(functools.partial(_logits, model))
  before, after = (logits(_replica(p, 0)) for p in (params, other))
  np.testing.assert_allclose(after, before, atol=1e-4)
  assert (np.asarray(after) != np.asarray(before)).any()
  moved = {
    jax.tree_util.keystr(path, simple=True, separator='/')
    for (path, a), b in zip(
      jax.tree.leaves_with_path(params), jax.tree.leaves(other), strict=True
    )
    if (a != b).any()
  }
  assert moved == {
    *(f'layers/attention/{x}' for x in ('query', 'key', 'value', 'out')),
    *(f'layers/attention/{x}_norm/scale' for x in ('query', 'key')),
    *(f'layers/ffn/{x}/kernel' for x in ('in', 'gate', 'out')),
    *(f'layers/ffn_2/{x}/kernel' for x in ('in', 'gate', 'out')),
  }
