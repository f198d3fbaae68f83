"""The study of our own curves, small, and what it makes of curves."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import own_curves, own_curves_scaling, publishing
from experiments.own_curves import Config, check
from experiments.own_curves_forecasts import item_of, token_of
from experiments.own_curves_parts import emergence_of, stopping_of
from experiments.own_curves_pictures import examples
from experiments.own_curves_runs import (
  METRICS,
  Looks,
  Run,
  read_runs,
  write_runs,
)
from experiments.own_curves_scaling import budgets, data_curves, scaling_of
from experiments.own_curves_tables import (
  all_tables,
  emergence_table,
  forecast_table,
  route_table,
)
from experiments.own_curves_training import curves
from extrap import cli
from extrap.curves import weights
from extrap.curves.causal_pfn import CausalPFNConfig, fresh
from extrap.errors import ExtrapError, UsageError
from extrap.evaluation.results import read_csv, select

SIZES = CausalPFNConfig(width=8, layers=1, heads=1, readout=8, components=2)
SMALL = (
  '--widths=4',
  '--rates=0.001,0.03',
  '--replicas=1',
  '--steps=20',
  '--digits=2',
  '--batch_size=4',
  '--held_out=8',
  '--model.heads=2',
  '--train.evaluate_every=2',
  '--train.steps_per_dispatch=10',
  '--families=last_value',
  '--orders=2',
)


class _Going:
  """Takes the place of a run folder that nobody stops."""

  def check(self) -> None:
    pass


@pytest.fixture(scope='module')
def network(tmp_path_factory) -> Path:
  path = tmp_path_factory.mktemp('network') / 'net.npz'
  return weights.save(path, SIZES, fresh(SIZES, jax.random.key(0)))


def run(*flags: str) -> int:
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(own_curves.main, Config, argv=['own_curves', *flags])
  return caught.value.code or 0


def made(
  width: int = 8,
  rate: float = 0.01,
  seed: int = 0,
  loss_T: np.ndarray | None = None,
  exact_match_T: np.ndarray | None = None,
) -> Run:
  """A run whose metrics are told by its loss, if nothing else is said."""
  loss_T = np.geomspace(2, 0.01, 20) if loss_T is None else np.asarray(loss_T)
  accuracy_T = np.exp(-loss_T)
  whole_T = accuracy_T**11.5 if exact_match_T is None else exact_match_T
  looks = Looks(10, 11.5, 200, loss_T, np.asarray(whole_T), accuracy_T)
  return Run(
    width=width,
    parameters=100 * width,
    learning_rate=rate,
    seed=seed,
    rung='L5',
    batch_size=32,
    flops=1e6,
    seconds=2.0,
    step_T=50.0 * np.arange(1, len(loss_T) + 1),
    inside=looks,
    beyond=dataclasses.replace(looks, digits=15, tokens=16.5),
  )


def test_a_sweep_is_trained_and_asked_and_asked_again_from_its_file(
  tmp_path, capfd, network, monkeypatch
):
  monkeypatch.setattr(own_curves_scaling, 'LAWS', ('last_value',))
  path, again = tmp_path / 'run', tmp_path / 'again'
  own = f'--weights={network}'
  assert run(*SMALL, own, f'--workdir={path}') == 0
  results, _ = read_csv(path / 'results.csv')
  runs = read_runs(path / 'runs.csv')
  assert [(r.learning_rate, r.seed) for r in runs] == [(0.001, 0), (0.03, 1)]
  for each in runs:
    assert each.step_T.tolist() == list(range(2, 21, 2)) and each.whole
    assert [looks.digits for looks in each.looks] == [2, 3]
    # Two digits and their sum: two or three tokens, and the end.
    assert 3 <= each.inside.tokens <= 4 <= each.beyond.tokens <= 5
    assert (each.inside.of('token_accuracy') >= each.inside.of('exact_match'))[
      :1
    ].all()
  assert runs[0].inside.loss_T[-1] != runs[1].inside.loss_T[-1]
  assert {row.samples for row in select(results, arm='width 4')} == {80}
  out = capfd.readouterr().out
  assert 'error at the end' in out and 'epochs saved' in out
  assert (path / 'plots' / 'emergence.png').exists()
  # Nothing is trained any more: parts are made from the file alone.
  monkeypatch.setattr(own_curves, 'train_width', None)
  flags = ('--families=last_value', '--orders=2', own)
  file = f'--runs={path / "runs.csv"}'
  assert run(file, *flags, f'--workdir={again}') == 0
  remade, _ = read_csv(again / 'results.csv')
  ends = [row for row in results if row.size in '23' and row.metric in METRICS]
  assert remade == [row for row in results if row not in ends]
  folder = tmp_path / 'results'
  monkeypatch.setattr(publishing, 'RESULTS', folder)
  publishing.publish(path)
  assert (folder / 'own_curves_runs.csv').read_bytes() == (
    path / 'runs.csv'
  ).read_bytes()
  assert len(read_csv(folder / 'own_curves.csv')[0]) == len(results)


def test_runs_are_kept_to_five_digits_and_gaps_stay(tmp_path):
  loss_T = np.append(np.full(11, 1 / 3), np.nan)
  path = write_runs(tmp_path / 'runs.csv', [made(), made(9, loss_T=loss_T)][1:])
  (back,) = read_runs(path)
  assert back.inside.loss_T[0] == 0.33333 and not back.whole
  assert np.isnan(back.inside.loss_T[-1])
  assert back.source.steps == (550,) and back.source.samples == (550 * 32,)
  assert (back.width, back.rung, back.beyond.tokens) == (9, 'L5', 16.5)
  ends = select(back.ends(), metric='loss', size='15')
  assert ends[0].value == 0.33333 and ends[0].split == 'out_of_distribution'


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda text: '', 'no table of runs'),
    (lambda text: text.replace('width', 'wide', 1), 'no table of runs'),
    (lambda text: text.replace(',loss,', ',lost,', 1), 'rows of loss'),
    (lambda text: text.replace(',2,', ',x,'), 'from line 5: could not'),
    (lambda text: text + '8,800\n', 'from line 11: a row is shorter'),
  ],
)
def test_a_file_that_is_no_table_of_runs_is_refused(tmp_path, change, message):
  path = write_runs(tmp_path / 'runs.csv', [made()])
  path.write_text(change(path.read_text()))
  with pytest.raises(UsageError, match=message):
    check(Config(runs=str(path)))


def test_a_file_that_is_not_there_is_one_line(capsys, tmp_path):
  assert run('--runs=nowhere.csv', f'--workdir={tmp_path / "run"}') == 2
  said = capsys.readouterr().err
  assert said.startswith('error: nowhere.csv') and said.count('\n') == 1
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'eval': 'none'}, 'always evaluates'),
    ({'families': ('pow4',)}, 'last_value must be among them'),
    ({'families': ('last_value', 'x')}, '--families=x'),
    ({'widths': ()}, '--widths needs at least one'),
    ({'rates': (0.1, 0.1)}, '--rates needs at least one entry, each once'),
    ({'widths': (8, 10)}, 'heads=4 does not divide'),
    ({'steps': 3010}, '10 to 100 times'),
    ({'steps': 5050}, '10 to 100 times'),
    ({'steps': 450}, '10 to 100 times'),
    ({'weights': 'none.npz'}, 'none.npz'),
  ],
)
def test_bad_input_is_refused_before_training(changes, message):
  with pytest.raises(ExtrapError, match=message):
    check(dataclasses.replace(Config(), **changes))


def test_a_file_of_few_looks_is_refused(tmp_path):
  path = write_runs(tmp_path / 'runs.csv', [made(loss_T=np.full(9, 0.5))])
  with pytest.raises(UsageError, match='9 looks at a run; 10 to 100'):
    check(Config(runs=str(path)))


def test_a_first_part_must_be_a_shorter_run():
  config = Config()
  for change in (dict(schedule='cosine'), dict(enough=0.9), dict(ema=0.9)):
    train = dataclasses.replace(config.train, **change)
    with pytest.raises(UsageError, match='is a shorter run only with'):
      check(dataclasses.replace(config, train=train))


def test_a_replica_that_fails_has_no_values_from_then_on():
  config = Config(rates=(0.1, 0.2), replicas=1, digits=2, widths=(8,))
  names = [
    f'{metric}{end}' for metric in (*METRICS, 'tokens') for end in ('', '_2')
  ]
  records = [
    {'step': step} | {f'held_out/{name}': [0.5, 0.4] for name in names}
    for step in (50, 100, 150)
  ]
  records.append({'step': 150, 'train/loss': [1.0, 1.0]})
  source = dataclasses.replace(
    made().source, seeds=(0, 1), steps=(150, 120), flops=(3.0, 2.0)
  )
  one, other = curves(config, 8, 1248, source, records)
  assert one.whole and not other.whole
  assert np.isnan(other.beyond.exact_match_T).tolist() == [False, False, True]
  assert other.source.steps == (100,) and other.flops == 2


def test_what_is_forecast_of_exact_match_is_the_share_that_is_wrong():
  right_T = np.linspace(0, 1, 20)
  run = made(exact_match_T=right_T)
  item = item_of(run, 'exact_match')
  np.testing.assert_allclose(item.value_T, 1 - right_T)
  np.testing.assert_allclose(item.normalisation.forward(item.value_T), right_T)
  assert item.time_T[[0, -1]].tolist() == [1, 20]
  np.testing.assert_allclose(
    token_of('loss', run.inside.loss_T), run.inside.token_accuracy_T
  )
  np.testing.assert_allclose(
    token_of('token_accuracy', item_of(run, 'token_accuracy').value_T),
    run.inside.token_accuracy_T,
  )


def test_loss_by_data_is_that_of_the_best_rate_for_each_budget():
  fast_T = np.append(np.full(10, 0.5), np.full(10, 0.4))
  slow_T = np.append(np.full(10, 0.9), np.full(10, 0.1))
  runs = [made(rate=0.1, loss_T=fast_T), made(rate=0.2, seed=9, loss_T=slow_T)]
  (curve,) = data_curves(runs)
  at = budgets(20)
  assert at[-1] == 19 and (np.diff(at) > 0).all()
  np.testing.assert_allclose(curve.loss_T, np.where(at < 10, 0.5, 0.1))
  np.testing.assert_allclose(curve.samples_T, 50 * 32 * (at + 1))
  assert curve.run is runs[1]
  failed = made(rate=0.1, loss_T=np.full(20, np.nan))
  assert list(data_curves([failed])) == []


def test_a_power_law_is_continued_by_data_and_by_size(monkeypatch):
  monkeypatch.setattr(own_curves_scaling, 'LAWS', ('last_value', 'm1'))
  step_T = np.arange(1.0, 41)
  runs = [
    made(width, seed=seed, loss_T=20 / width / step_T**0.5)
    for width in (4, 8, 16, 32, 64)
    for seed in (0, 1)
  ]
  rows = scaling_of(None, None, runs)
  off = select(rows, split='data: m1', metric='log_error')
  assert len(off) == 3 * 10 and {row.size for row in off} == {
    '12.5',
    '25',
    '50',
  }
  assert max(row.value for row in off) < 0.01
  naive = select(rows, split='data: last_value', metric='log_error', size='25')
  assert naive[0].value == pytest.approx(np.log(2), abs=0.01)
  sizes = select(rows, split='size: m1', metric='forecast')
  assert [row.size for row in sizes] == ['3200', '6400'] * 2
  came = select(rows, split='size: m1', metric='came')
  np.testing.assert_allclose(
    [row.value for row in sizes], [row.value for row in came], rtol=0.01
  )
  # Each repeat by its own smaller sizes.
  more = [*runs, made(128, seed=0, loss_T=20 / 128 / step_T**0.5)]
  sizes = select(scaling_of(None, None, more), split='size: last_value')
  assert {(row.size, row.n) for row in sizes} == {
    *(('3200', 3), ('6400', 3), ('6400', 4), ('12800', 4))
  }
  fewer = scaling_of(None, None, runs[:8])  # Two smaller sizes are no curve.
  assert not [row for row in fewer if row.split.startswith('size')]


def test_repeats_are_the_seeds_of_a_rate_in_order():
  runs = [made(rate=r, seed=s) for s, r in ((0, 1.0), (1, 1.0), (2, 2.0))]
  found = {c.repeat: c.run.seed for c in data_curves(runs)}
  assert set(found) == {0, 1} and found[1] == 1


def test_emergence_is_of_whole_runs_at_both_lengths():
  # Exact match begins when the likelihood has made most of its way.
  loss_T = np.append(np.linspace(2.3, 0.05, 40), np.full(10, 0.005))
  runs = [made(seed=seed, loss_T=loss_T) for seed in range(3)]
  runs.append(made(seed=3, loss_T=np.full(50, 2.0)))
  runs.append(made(seed=4, loss_T=np.append(loss_T[:-1], np.nan)))
  rows = emergence_of(None, None, runs)
  assert {row.seed for row in rows} == {0, 1, 2, 3}
  assert {row.size for row in rows} == {'10', '15'}
  gap = select(rows, metric='gap_token_accuracy', size='10')
  np.testing.assert_allclose([row.value for row in gap], 0, atol=1e-5)
  assert select(rows, metric='gap_loss', size='15')[0].value > 0.01
  line = emergence_table(rows).rows[0]
  cells = dict(zip(emergence_table(rows).headers, line, strict=True))
  assert cells['runs'] == '3 of 4'
  assert cells['onset of exact match'].startswith('0.7')
  assert float(cells['made by then: accuracy'].split()[0]) > 0.5
  assert cells['exact match is sharper'] == 'confirmed'


def test_rules_are_replayed_on_losses_and_on_exact_match(network):
  good = made(loss_T=np.geomspace(2, 0.01, 10))
  bad = made(seed=1, loss_T=np.append(1.9, np.full(9, 2.0)))
  late = made(seed=2, loss_T=np.append(np.full(8, 2.2), [0.001, 0.001]))
  failed = made(seed=3, loss_T=np.append(2.0, np.full(9, np.nan)))
  config = Config(orders=6, weights=str(network))
  rows = stopping_of(config, _Going(), [bad, good, late, failed])

  def of(metric: str, rule: str, name: str) -> list[float]:
    split = f'stopping by {metric}: {rule}'
    return [row.value for row in select(rows, split=split, metric=name)]

  assert of('loss', 'none', 'saved') == [0] * 6
  assert of('loss', 'none', 'won') == [1] * 6
  # Two epochs of each of those that do not improve, one of that which fails.
  saved = 1 - (10 + 2 + 2 + 1) / (3 * 10 + 1)
  np.testing.assert_allclose(
    of('loss', 'patience 0', 'saved'), saved, atol=1e-4
  )
  assert of('loss', 'patience 0', 'won') == [0] * 6
  assert min(of('loss', 'patience 0', 'regret')) > 0
  assert len(of('exact_match', 'fine', 'saved')) == 6
  assert of('exact_match', 'none', 'same') == [1]


def test_forecasts_stand_beside_the_last_value_and_routes_beside_themselves():
  runs, rows = [made(seed=seed) for seed in range(4)], []
  for number, run in enumerate(runs):
    for method, scale in (('lcpfn', 1.0), ('last_value', 2.0)):
      for metric in ('final_error', 'rmse', 'mae', 'log_density'):
        of = (f'exact_match: {method}', '20', metric)
        rows.append(run.row(*of, scale * (0.1 + 0.01 * number), 9))
      of = (f'exact_match by loss: {method}', '20', 'final_error')
      rows.append(run.row(*of, 0.05, 1))
      of = (f'exact_match by token_accuracy: {method}', '20', 'final_error')
      rows.append(run.row(*of, 0.3, 1))
    of = ('exact_match: lcpfn_guarded', '20', 'log_density')
    rows.append(run.row(*of, 7.0, 9))
  table = forecast_table(rows)
  network, naive, guarded = (
    dict(zip(table.headers, row, strict=True)) for row in table.rows
  )
  assert network['MASE'] == '0.5 (0.5..0.5)'
  assert naive['MASE'] == '1 (1..1)'
  assert network['error at the end'].startswith('0.115 (')
  assert guarded['MASE'] == '' and guarded['median log density'] == '7'
  first, second = route_table(rows).rows
  assert first[:6] == ['20 %', 'lcpfn', '4', '0.115', '0.050', '0.300']
  assert first[-1] == second[-1] == 'confirmed'
  assert set(all_tables(rows)) == {'Forecasts', 'Exact match by single tokens'}


def test_pictures_are_of_runs_that_are_not_chosen_by_their_end():
  runs = [
    made(width, rate, seed)
    for width in (16, 8)
    for rate in (0.1, 0.2, 0.3)
    for seed in (1, 0)
  ]
  assert [(r.width, r.learning_rate, r.seed) for r in examples(runs)] == [
    (8, 0.2, 0),
    (16, 0.2, 0),
  ]
  assert examples([]) == []
