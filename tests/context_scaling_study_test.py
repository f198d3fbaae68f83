"""The study of scales, small, and what its tables say."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from text_models import build, random_params, write_modules

from experiments import context_scaling
from experiments.context_scaling import Config, check, problem
from experiments.context_scaling_nets import nets_of, readings_of
from experiments.context_scaling_tables import (
  CLAIMS,
  claims_table,
  grid_methods,
  grid_table,
  heat_map,
  main_table,
)
from experiments.length_nets import Reading, reader_of
from extrap import cli
from extrap.config_flags import from_arguments
from extrap.datasets.stdlib_text import read
from extrap.errors import ExtrapError, UsageError
from extrap.evaluation.length import windows
from extrap.evaluation.results import arms_of, read_csv, select
from extrap.models.positions import CLEX, POSITIONS, YaRN
from extrap.models.positions.given import given
from extrap.reporting import panels
from extrap.training.config import TrainConfig
from extrap.training.loop import fit
from tests import made_rows

SMALL = (
  *('--steps=4', '--replicas=2', '--length=16', '--longest=32', '--windows=4'),
  *('--asked=8', '--batch_size=4', '--train.steps_per_dispatch=2'),
  *('--model.depth=1', '--model.width=8', '--model.heads=2'),
  *('--model.ffn_width=8', '--window=2', '--tuning_steps=2'),
  *('--scales=1,2', '--trained_scales=2', '--methods=yarn', '--grid=yarn'),
  '--tuned=',
)


@pytest.fixture(scope='module')
def text(tmp_path_factory):
  return write_modules(tmp_path_factory.mktemp('text'))


@pytest.fixture(scope='module')
def ran(text, tmp_path_factory):
  """The folder of a whole run."""
  path = tmp_path_factory.mktemp('runs') / 'run'
  flags = (*SMALL, f'--text={text}', f'--workdir={path}')
  with pytest.raises(SystemExit) as caught:
    cli.run(context_scaling.main, Config, argv=['context_scaling', *flags])
  assert not caught.value.code
  return path


def test_nets_go_on_from_one_population_and_are_read_at_every_scale(ran):
  results, _ = read_csv(ran / 'results.csv')
  assert arms_of(results) == [
    *('rotary', 'rotary_cut', 'sliding_rotary', 'yarn x2'),
    *('yarn 2 x1', 'yarn 2 x2'),
  ]
  assert {(row.size, row.n) for row in results} == {('16', 4), ('32', 4)}
  loss = {(row.arm, row.size): row.value for row in select(results, replica=1)}
  assert loss['rotary_cut', '16'] == pytest.approx(
    loss['rotary', '16'], abs=1e-5
  )
  # All else differs, but that one layer that slides is as good as cut.
  assert len({round(value, 6) for value in loss.values()}) == len(loss) - 3
  # The rotary nets' cost is in that of others.
  cost = {row.arm: (row.steps, row.samples, row.flops) for row in results}
  assert cost['rotary'][:2] == (4, 16) and cost['yarn x2'] == cost['rotary']
  assert cost['yarn 2 x2'][:2] == (6, 20)
  assert cost['yarn 2 x2'][2] > 1.4 * cost['rotary'][2]
  notes = {row.arm: json.loads(row.hparams) for row in results}
  assert notes['yarn 2 x1']['position'] == 'rotary'
  assert notes['yarn 2 x2']['settings']['scale'] == 2
  assert notes['yarn 2 x2']['of'] == 'yarn_2'
  assert notes['yarn x2']['of'] == 'rotary'
  assert notes['yarn 2 x2']['planned_steps'] == 6
  report = (ran / 'report.md').read_text()
  assert '## Claims' in report and 'evaluation scale: yarn' not in report
  assert (ran / 'plots' / 'loss_by_context.png').exists()


def test_rates_that_are_parameters_read_as_the_encoding_does(text):
  """One program, whatever the scale; the factor of YaRN is among them."""
  config = from_arguments(Config, *SMALL, f'--text={text}')
  params = random_params(build(YaRN()), 1)
  rows = windows(read(str(text)).validation, np.array([40, 90]), 32, 8)
  yarn = YaRN(scale=4.0, trained=16)
  reading = Reading(arm='a', position_at=lambda length: yarn)
  reader = reader_of(config, params, reading)
  assert type(reader.model_at(32).config.position).__name__ == 'GivenRates'
  by_length = Reading(
    arm='a', position_at=lambda n: dataclasses.replace(yarn, scale=n / 8)
  )
  direct = reader_of(config, params, by_length)
  assert direct.model_at(32).config.position == yarn
  one, other = (r.score(rows, lambda: None).loss_RNQ for r in (reader, direct))
  np.testing.assert_allclose(one, other, atol=1e-5)
  for name in ('dynamic_ntk', 'longrope', 'clex', 'rerope', 'window', 'alibi'):
    assert given(POSITIONS.get(name)(), 4, 1) is None


def test_training_begins_with_parameters_and_draws_what_they_lack(text):
  config = from_arguments(Config, *SMALL, f'--text={text}')
  nets = nets_of(dataclasses.replace(config, tuned=('clex',)))
  params = random_params(build(YaRN()), 2)
  none = TrainConfig(steps=0, schedule_steps=1, evaluate_every=0)
  data = context_scaling.stored(config)
  clex = nets['clex'].problem(config)
  state = fit(clex, none, replicas=2, data=data, params=params).params
  assert set(state) - set(params) == {'position_up', 'position_down'}
  assert np.abs(state['position_up']).sum() > 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    kept = dict(jax.tree_util.tree_leaves_with_path(state))[path]
    np.testing.assert_array_equal(kept, leaf)
  wider = dataclasses.replace(config.model, width=16)
  other = dataclasses.replace(config, model=wider)
  with pytest.raises(UsageError, match='parameters of another model'):
    fit(problem(other), none, replicas=2, data=data, params=params)


def test_the_sweep_has_every_method_and_the_whole_grid(text):
  config = Config()
  few = dict(text=str(text), windows=2, longest=128)
  check(dataclasses.replace(config, **few))
  nets = nets_of(config)
  assert nets['linear_8'].position.scale == 8
  assert nets['yarn_4'].position.trained == 64
  assert nets['yarn_4'].problem(config).length == 256
  assert nets['yarn_4'].problem(config).batch_size == 8
  assert nets['clex'].position == CLEX(trained=64, scale=16)
  assert nets['clex'].problem(config).length == 64
  assert nets['clex_long'].position == CLEX(trained=256, scale=4)
  arms = {arm.arm for name in nets for arm in readings_of(config, name)}
  assert {f'linear {t} x{s}' for t in (2, 4, 8) for s in (1, 2, 4, 8)} <= arms
  assert {f'linear 1 x{s}' for s in (2, 4, 8)} | {'rotary 1 x1'} <= arms
  assert {'power', 'self_extend', 'longrope x8', 'power tuned'} <= arms
  # Every claim is of arms that there are.
  assert {a for c in CLAIMS for a in (c.lower, c.upper)} <= arms
  large = from_arguments(Config, '--size=gpu')
  assert large.lengths[-1] == 2048 and 'ntk_16' not in nets_of(large)
  assert {'ntk_8', 'yarn_2', 'linear_4'} <= nets_of(large).keys()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'grid': ('power',)}, '--grid=power: name each once, of linear'),
    ({'tuned': ('rerope',)}, '--tuned=rerope: name each once'),
    ({'methods': ('alibi',)}, '--methods=alibi: name each once'),
    ({'scales': (2, 4)}, '--scales: begin with 1'),
    ({'trained_scales': (1, 4, 2)}, '--trained_scales=1,4,2: not in order'),
    ({'window': 3}, '--window=3 does not divide --batch_size=32'),
    ({'window': 1000}, '--length=64000: the text has'),
    ({'init_from': 'x'}, 'trains from scratch'),
  ],
)
def test_bad_input_is_refused_before_training(changes, message, text):
  few = dict(windows=2, longest=128, text=str(text))
  with pytest.raises(UsageError, match=message):
    check(dataclasses.replace(Config(), **few | changes))


def made(arm, pairs, method='linear', trained=0, scale=1, steps=(9, 9)):
  """Rows of two seeds; losses by length."""
  source = made_rows.source(
    'context_scaling',
    arm,
    2,
    {'method': method, 'trained_scale': trained, 'scale': scale}
    | {'text': 'a', 'python': '3.11', 'planned_steps': 9},
    rung='L0 none',
    steps=steps,
    samples=(9, 9),
    flops=(1.0 + trained, 1.0 + trained),
  )
  return [
    source.row(
      replica, f'{"in" if n == 64 else "out_of"}_distribution', str(n), 'loss',
      pair[replica], 512,
    )
    for n, pair in pairs.items()
    for replica in range(2)
  ]  # fmt: skip


def sweep():
  near = (1.5, 1.5)
  losses = {
    (0, 1): (3.0, 3.1), (0, 4): (2.4, 2.41), (2, 2): (2.2, 2.2),
    (2, 4): (2.0, 2.1), (4, 2): (1.9, 1.9), (4, 4): (1.6, 1.61),
  }  # fmt: skip
  rows = [
    *made('rotary', {64: near, 256: losses[0, 1]}, 'rotary'),
    *made('rotary_cut', {64: near, 256: (1.5, 1.49)}, 'rotary_cut', 0, -1),
    *made('linear x4', {64: (1.8, 1.8), 256: losses[0, 4]}, scale=4),
    *made('clex', {64: near, 256: (1.4, 1.42)}, 'clex', -1, -1, steps=(9, 5)),
  ]
  for (trained, scale), pair in losses.items():
    if trained:
      name = f'linear {trained} x{scale}'
      rows += made(name, {64: near, 256: pair}, 'linear', trained, scale)
  return rows


def test_a_grid_has_a_row_a_training_scale_and_the_control():
  rows = sweep()
  assert grid_methods(rows) == ['linear']
  table = grid_table(rows, 'linear')
  assert table.headers == [
    *('context', 'trained at', 'read at 1', 'read at 2', 'read at 4'),
    'cut rotary',
  ]
  far = {line[1]: line[2:] for line in table.rows if line[0] == '256'}
  assert list(far) == ['not further', '2', '4']
  assert far['not further'][0].startswith('3.050 ±')
  assert far['not further'][1] == far['2'][0] == 'not run'
  assert far['4'][1:3] == ['1.900 ± 0.000', '1.605 ± 0.064']
  assert far['2'][2].startswith('2.050') and far['2'][3].startswith('1.495')


def test_claims_are_judged_seed_by_seed_where_their_arms_are():
  found = claims_table(sweep()).rows
  assert [line[0] for line in found] == ['CLEX below linear']
  assert found[0][1:] == [
    *('256', '+0.195 ± 0.064', 'confirmed', 'clex', 'linear 4 x4'),
  ]
  shallow = [r for r in sweep() if r.arm != 'clex']
  worse = made('clex', {64: (1.5, 1.5), 256: (1.7, 1.5)}, 'clex', -1, -1)
  (line,) = claims_table(shallow + worse).rows
  assert line[3] == 'not resolved at this size'


def test_every_arm_is_read_beside_the_control_and_its_cost():
  table = main_table(sweep())
  lines = {
    line[0]: dict(zip(table.headers, line, strict=True)) for line in table.rows
  }
  assert lines['clex']['below cut rotary'] == '+0.085 ± 0.191'
  assert lines['clex']['training'] == '0.00, 1 of 2 seeds diverged'
  assert lines['linear x4']['it gains'] == 'refuted'
  assert lines['linear 4 x4']['training'] == '5.00'
  assert lines['rotary_cut (control)']['it gains'] == ''


def test_the_heatmap_has_a_panel_for_each_context(monkeypatch, tmp_path):
  drawn = []
  figure = panels.values_figure
  monkeypatch.setattr(
    panels,
    'values_figure',
    lambda *given: drawn.append(figure(*given)) or drawn[0],
  )
  path = heat_map(sweep(), 'linear', tmp_path / 'grid.png')
  assert path.read_bytes()[:4] == b'\x89PNG'
  near, far, bar = drawn[0].axes
  assert [near.get_title('left'), far.get_title('left')] == [
    *('64 bytes', '256 bytes'),
  ]
  rows = [label.get_text() for label in near.get_yticklabels()]
  assert rows == ['not further', '2', '4']
  assert [label.get_text() for label in far.get_xticklabels()] == [*'124']
  assert [text.get_text() for text in far.texts] == [
    *('3.05', '2.41', '2.20', '2.05', '1.90', '1.60'),
  ]
  assert bar.get_ylabel() == 'loss (nats)'
  image = far.images[0].get_array()
  np.testing.assert_allclose(image[2, 2], 1.605)
  assert image.mask[0, 1] and far.images[0].get_clim()[0] == 1.5
  flat = [row for row in sweep() if 'linear 2' not in row.arm]
  assert grid_methods(flat) == []
  with pytest.raises(ExtrapError, match='no values'):
    panels.values_figure(np.full((1, 1, 1), np.nan), ([''],) * 3, ('',) * 3)
