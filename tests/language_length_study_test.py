"""The study of length, small, and what its tables say."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from text_models import build, random_params, write_modules

from experiments import language_length
from experiments.language_length import (
  Config,
  check,
  make_model,
  make_problem,
  names_of,
  questions_of,
  reader_of,
  stored,
)
from experiments.language_length_arms import (
  TRAINED,
  Recipe,
  model_of,
  recipes,
)
from experiments.language_length_scores import Reader, score_arm, scores_of
from experiments.language_length_tables import all_tables, main_table
from extrap import cli
from extrap.config import option
from extrap.config_flags import from_arguments
from extrap.datasets.stdlib_text import read
from extrap.errors import ExtrapError, UsageError
from extrap.evaluation import brackets
from extrap.evaluation.length import ends
from extrap.evaluation.results import read_csv, select
from extrap.models.positions import FIRE, POSITIONS, Position, Rotary
from tests import made_rows

SMALL = (
  *('--arms=halved', '--steps=4', '--replicas=2', '--length=32'),
  *('--longest=64', '--windows=4', '--prompts=4', '--asked=8'),
  *('--batch_size=4', '--train.steps_per_dispatch=2', '--model.depth=1'),
  *('--model.width=8', '--model.heads=2', '--model.ffn_width=8'),
)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
  """Two more encodings, one of them with parameters, both with a scale."""
  monkeypatch.setattr(POSITIONS, '_entries', dict(POSITIONS._entries))

  @POSITIONS.register('halved')
  @dataclasses.dataclass(frozen=True, kw_only=True)
  class Halved(Rotary):
    scale: float = option(1.0, 'what positions are divided by')

    def rotate(self, x_BTHD, ids):
      return super().rotate(
        x_BTHD, ids.replace(position=ids.position / self.scale)
      )

  @POSITIONS.register('own_parameters')
  @dataclasses.dataclass(frozen=True, kw_only=True)
  class OwnParameters(Position):
    scale: float = option(1.0, 'unused')

    def embed(self, ids, param, width):
      return param('row', jax.nn.initializers.zeros, (1, 1, width))


@pytest.fixture(scope='module')
def text(tmp_path_factory):
  """A folder of forty modules."""
  return write_modules(tmp_path_factory.mktemp('text'))


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(language_length.main, Config, argv=['language_length', *flags])
  return caught.value.code or 0


def value(results, arm, metric, size, replica=1, **columns):
  (row,) = select(
    results, arm=arm, metric=metric, size=str(size), replica=replica, **columns
  )
  return row.value


BEYOND = {'split': ('in_distribution', 'out_of_distribution')}


def test_arms_are_trained_or_read_and_tested_alike(text, tmp_path, capfd):
  path = tmp_path / 'run'
  flags = (*SMALL, f'--text={text}', f'--workdir={path}')
  assert run(*flags) == 0
  results, _ = read_csv(path / 'results.csv')
  arms = ['rotary', 'rotary_cut', 'sliding_rotary', 'halved']
  assert list(dict.fromkeys(row.arm for row in results)) == arms
  assert {row.samples for row in results} == {4 * 4}
  sizes = {(row.metric, row.size, row.split) for row in results}
  for metric in (
    *('loss', 'letters', 'letters_hidden', 'copied', 'exact_match'),
    *('brackets', 'bracket_odds'),
  ):
    assert (metric, '32', 'in_distribution') in sizes
    assert (metric, '64', 'out_of_distribution') in sizes
  # The nets of rotary are read by four arms, alike at the training length.
  for metric in ('loss', 'letters', 'copied', 'bracket_odds'):
    for arm in ('rotary_cut', 'sliding_rotary', 'halved'):
      near = value(results, arm, metric, 32, **BEYOND)
      own = value(results, 'rotary', metric, 32, **BEYOND)
      assert near == pytest.approx(own, abs=1e-6)
  loss = {arm: value(results, arm, 'loss', 64, **BEYOND) for arm in arms}
  assert loss['sliding_rotary'] == pytest.approx(loss['rotary_cut'], abs=1e-5)
  apart = [loss[arm] for arm in ('rotary', 'rotary_cut', 'halved')]
  assert min(abs(np.diff(sorted(apart)))) > 1e-5
  # Halves of a long curve; the same bytes are not asked for twice.
  curve = select(results, split='by_position', arm='halved', replica=0)
  assert [row.size for row in curve] == ['32', '64']
  assert {row.n for row in select(results, metric='loss')} == {1, 4}
  notes = {row.arm: json.loads(row.hparams) for row in results}
  assert {arm: notes[arm]['of'] for arm in arms} == {
    **dict.fromkeys(arms, 'rotary'),
    'rotary': None,
  }
  assert notes['halved']['settings']['scale'] == 2
  assert notes['sliding_rotary']['settings']['window'] == 32
  corpus = read(str(text))
  assert {of['text'] for of in notes.values()} == {corpus.sha256}
  assert [folder.name for folder in (path / 'arms').iterdir()] == ['rotary']
  assert '(control)' in capfd.readouterr().out
  report = (path / 'report.md').read_text()
  assert corpus.sha256 in report and 'nets of rotary' in report
  assert {file.name for file in (path / 'plots').iterdir()} == {
    'loss_by_context.png',
    'loss_by_place.png',
  }
  # A run goes on with its own text alone.
  (text / 'm0.py').write_text('x = 1\n')
  read.cache_clear()
  assert run(*flags, '--arms=alibi') == 2
  assert 'is of another text' in capfd.readouterr().err


def test_every_encoding_that_can_serve_text_is_an_arm():
  found = recipes()
  assert {'none', 'alibi', 'fire', 'sinusoidal', 'rotary'} <= found.keys()
  assert not {'abacus', 'coupling', 'place_bias', 'previous'} & found.keys()
  assert found['alibi'].of is None and found['halved'].of == 'rotary'
  config = Config()
  assert names_of(config)[:3] == ('rotary', 'rotary_cut', 'sliding_rotary')
  assert set(names_of(config)) == found.keys()

  def position(name, length=1024):
    return model_of(config, name, length).position

  assert position('fire').threshold == 16
  assert position('sliding_rotary').window == 64
  assert position('halved', 512).scale == 8
  assert position('fire_randomised').stretch == 1024
  randomised = position('learned_randomised')
  assert (randomised.stretch, randomised.max_size) == (1024, 1024)
  assert position('log_n_none').base == position('none')
  assert model_of(config, 'scale_invariant', 64).qk_norm
  assert found['yarn'].of == 'rotary' and found['clex'].of is None
  assert position('yarn', 256).scale == 4 and position('yarn').trained == 64
  assert position('clex').scale == 16 and position('clex').trained == 64
  assert position('self_extend', 64).group == 1
  extended = position('self_extend')
  # All of the longest context lies within distances that were trained.
  far = 1023 // extended.group + 32 - 32 // extended.group
  assert extended.window == 32 and far <= 64
  assert position('swan').layers[1].window == 16
  # Of 12 pairs the fourth turns around once in 62.8 bytes, the fifth in 135.
  width = config.model.head_width
  turning = position('hope').rates(width)
  assert np.count_nonzero(turning) == 4
  for around in ('log_n_p_rotary', 'scale_invariant'):
    assert np.array_equal(position(around).base.rates(width), turning)
  # By itself p-RoPE is as published: no arm is trained twice.
  assert np.count_nonzero(position('p_rotary').rates(width)) == 9


def test_positions_are_drawn_in_tests_as_they_were_in_training(text):
  config = dataclasses.replace(
    Config(), text=str(text), longest=128, windows=2, prompts=2
  )
  drawn = {name for name in recipes() if reader_of(config, name, None).drawn}
  assert drawn == {
    *('fire_randomised', 'learned_randomised', 'randomised', 'random_float')
  }
  for name in drawn:
    near = make_model(config, name, 64)
    assert near == make_problem(config, name).model
    assert near.config.position.stretch == 128
  # Nets are read at every length, by tables of one size.
  check(dataclasses.replace(config, arms=('learned_randomised',)))


def test_drawn_positions_are_those_of_both_prompts_of_a_pair(text):
  model = build(FIRE(stretch=100, hidden=4))
  corpus = read(str(text)).validation
  rows = brackets.prompts(corpus, ends(corpus, 3, 32, 8), 32, 8)
  token_NT = np.tile(rows.token_NT[:3], (2, 1))  # No bracket differs.
  rows = rows._replace(token_NT=token_NT)
  params = random_params(model, 1)
  reader = Reader(lambda length: model, params, drawn=True)
  found = scores_of(reader, 'brackets', rows, lambda: None)
  assert not brackets.apart(found).any()
  # Other pairs have others.
  shuffled = scores_of(reader, 'loss', rows, lambda: None)
  assert brackets.apart(shuffled).any()


def test_an_arm_with_other_parameters_at_another_length_is_refused(
  text, monkeypatch
):
  sized = Recipe(
    position='learned', settings=lambda _, length: {'max_size': length}
  )
  monkeypatch.setitem(TRAINED, 'sized', sized)
  config = dataclasses.replace(
    Config(), text=str(text), longest=128, windows=2, prompts=2
  )
  with pytest.raises(UsageError, match='parameters that nets of sized lack'):
    check(dataclasses.replace(config, arms=('sized',)))


@pytest.mark.parametrize(
  ('size', 'lengths'),
  [
    ('cpu', (64, 128, 256, 512, 1024)),
    ('gpu', (128, 256, 512, 1024, 2048)),
    ('long', (4096, 8192, 16_384, 32_768, 65_536)),
  ],
)
def test_sizes_have_lengths_of_1_to_16_times(size, lengths, text):
  config = from_arguments(Config, f'--size={size}', f'--text={text}')
  assert config.lengths == lengths
  assert make_problem(config, 'halved').length == lengths[0]
  assert make_model(config, 'halved', lengths[-1]).config.position.scale == 16
  data = stored(config)
  assert data['token'].shape == data['level'].shape


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'arms': ('abacus',)}, 'Abacus reads place: of text it can know'),
    ({'arms': ('nothing',)}, '--arms=nothing: name each once, of rotary'),
    ({'arms': ('alibi', 'alibi')}, 'name each once'),
    ({'arms': ('own_parameters',)}, 'parameters that nets of rotary lack'),
    ({'longest': 1000}, 'not --length=64 times a power of 2'),
    ({'longest': 64}, 'times a power of 2'),
    ({'asked': 65}, '--asked=65: a window of --length=64'),
    ({'longest': 2**20}, 'take a text of'),
    ({'length': 16, 'asked': 8}, 'at least 23'),
    ({'eval': 'none'}, 'always evaluates'),
  ],
)
def test_bad_input_is_refused_before_training(changes, message, text):
  few = dict(windows=2, prompts=2, text=str(text))
  if 'longest' not in changes:
    few['longest'] = 2 * changes.get('length', 64)
  with pytest.raises(UsageError, match=message):
    check(dataclasses.replace(Config(), **few | changes))


def test_what_does_not_fit_memory_is_left_out_or_refused(text, monkeypatch):
  config = dataclasses.replace(
    Config(), text=str(text), longest=128, windows=2, prompts=2
  )
  monkeypatch.setattr(language_length, 'LARGEST_ROW', 4 * 4 * 128**2 - 1)
  assert names_of(config) == ('rotary', 'rotary_cut', 'sliding_rotary')
  with pytest.raises(UsageError, match='single row of 128 bytes'):
    check(config)


def test_beyond_an_encodings_table_there_are_rows_without_values(text):
  config = dataclasses.replace(
    Config(), text=str(text), longest=128, windows=2, prompts=2
  )
  assert model_of(config, 'learned', 64).position.max_size == 64
  questions = dataclasses.replace(questions_of(config), trained=32)
  questions = dataclasses.replace(questions, lengths=(65, 130))
  reader = Reader(lambda length: make_model(config, 'learned', length), None)
  source = source_of('learned')
  rows = score_arm(questions, reader, source, lambda: None)
  assert {row.value for row in rows} == {None} and {row.n for row in rows} == {
    0
  }
  assert {(row.metric, row.size, row.replica) for row in rows} == {
    (metric, size, replica)
    for metric in (
      *('loss', 'letters', 'letters_hidden', 'copied', 'exact_match'),
      *('brackets', 'bracket_odds'),
    )
    for size in ('65', '130')
    for replica in range(2)
  }


def source_of(arm, steps=(9, 9), text='a', of=None):
  """What rows of an arm of two seeds share."""
  return made_rows.source(
    'language_length',
    arm,
    2,
    {'of': of, 'text': text, 'python': '3.11'},
    rung='L0 none',
    steps=steps,
    samples=steps,
  )


def made(arm, losses, letters=(0.5, 0.25), **given):
  """Rows of two seeds; losses by length, one a seed."""
  source, rows = source_of(arm, **given), []
  for length, pair in losses.items():
    split = 'in_distribution' if length == 64 else 'out_of_distribution'
    for replica in range(2):
      row = lambda *of, r=replica: source.row(r, split, str(length), *of)  # noqa: E731, B023
      rows.append(row('loss', pair[replica], 512))
      rows.append(row('letters', letters[replica], 200))
      rows.append(row('letters_hidden', 0.05, 200))
      rows.append(row('brackets', (1.0, 0.96)[replica], 200))
      rows.append(row('bracket_odds', 0.5, 200))
  return rows


def table_of(rows):
  table = main_table(rows)
  return {
    line[0]: dict(zip(table.headers, line, strict=True)) for line in table.rows
  }


def test_only_less_loss_than_with_the_context_cut_is_a_gain():
  cut = {64: (1.5, 1.5), 1024: (1.48, 1.46)}
  rows = [
    *made('rotary', {64: (1.5, 1.5), 1024: (3.7, 3.8)}),
    *made('rotary_cut', cut, of='rotary'),
    *made('flat', {64: (1.6, 1.6), 1024: (1.6, 1.6)}),
    *made('falling', {64: (1.5, 1.5), 1024: (1.401, 1.38)}),
    *made('late', {64: (1.7, 1.6), 1024: (1.7, 1.6)}, steps=(9, 5)),
    *made('same', {64: (1.5, 1.5), 1024: (1.48 - 2e-6, 1.46 - 2e-6)}),
    *made('short', {64: (1.5, 1.5), 1024: (None, None)}),
  ]
  table = table_of(rows)
  order = ['falling', 'same', 'rotary_cut (control)']
  order += ['flat', 'late', 'rotary', 'short']
  assert list(table) == order
  assert table['flat']['more at 1,024'] == '+0.000 ± 0.000'
  assert table['flat']['below cut rotary'] == '-0.130 ± 0.127'
  assert table['flat']['it gains'] == 'refuted'
  assert table['falling']['below cut rotary'] == '+0.080 ± 0.006'
  assert table['falling']['it gains'] == 'confirmed'
  assert table['same']['it gains'] == 'not resolved at this size'
  assert table['rotary']['more at 1,024'] == '+2.250 ± 0.635'
  assert table['rotary']['loss at 64'] == '1.500 ± 0.000'
  assert table['late']['it gains'] == 'not resolved at this size'
  assert table['rotary_cut (control)']['below cut rotary'] == ''
  assert table['rotary_cut (control)']['note'].startswith('nets of rotary')
  assert table['short']['loss at 1,024'] == 'out of table'
  assert table['flat']['brackets at 1,024'] == '98.0 % ± 25.4 % (0.50)'
  letters = 'letters at 64 (chance)'
  assert table['flat'][letters].startswith('37.5 % ±')
  assert table['flat'][letters].endswith('(5.0 %)')


def test_arms_that_have_not_learned_or_diverged_are_called_that():
  first, copies = {1024: (1.0, 1.0)}, dict(letters=(0.5, 0.49))
  table = table_of(
    [
      *made('rotary', {64: (1.5, 1.5)} | first, **copies),
      *made('near', {64: (1.7, 1.59)} | first, **copies),
      *made('far', {64: (1.7, 1.61)} | first, **copies),
      *made('guesses', {64: (1.5, 1.5)} | first, letters=(0.06, 0.05)),
      *made('stopped', {64: (1.5, 1.5)} | first, steps=(9, 5), **copies),
    ]
  )
  assert table['near']['note'] == ''
  assert table['far']['note'] == 'under-trained: 0.16 above the best at 64'
  assert table['guesses']['note'] == 'copies no names at 64'
  assert table['stopped']['note'] == '1 of 2 seeds diverged'


def test_numbers_of_two_texts_share_no_table():
  losses = {64: (1.5, 1.5), 1024: (1.5, 1.5)}
  rows = made('rotary', losses)
  assert 'SHA-256 a, read by Python 3.11' in main_table(rows).caption
  with pytest.raises(ExtrapError, match='rows of 2 texts'):
    all_tables([*rows, *made('alibi', losses, text='b')])
