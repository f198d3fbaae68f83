"""The network of scaling curves, and the study that trains it."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import scaling_pfn as study
from experiments.scaling_benchmark import DOMAINS
from extrap import cli
from extrap.curves import lcpfn
from extrap.curves.causal_pfn import CausalPFN, CausalPFNConfig
from extrap.curves.normalise import (
  Normalisation,
  error,
  loss_from,
  percent,
  percent_error,
  score_in,
  unit,
)
from extrap.curves.scaling_pfn import (
  SHIPPED,
  TIME_RANGE,
  ScalingPFN,
  ScalingProblem,
  merged,
)
from extrap.datasets.scaling_benchmark import load
from extrap.errors import ExtrapError, UsageError
from extrap.evaluation.results import read_csv, select
from extrap.training.problem import Context

TINY = CausalPFNConfig(width=8, layers=1, heads=1, readout=8, components=2)
X_T = np.geomspace(10.0, 1000.0, 12)


@pytest.fixture(scope='module')
def network() -> ScalingPFN:
  return ScalingPFN.load()


def _context(seed: int) -> Context:
  return Context(key=jax.random.key(seed), step=jnp.int32(0), hparams={})


def test_training_asks_for_what_follows_in_units_of_the_last_point():
  made = ScalingProblem(model=CausalPFN(TINY), batch_size=64)
  batch = made.sample(_context(0))
  assert (batch.asked_NTQ > batch.time_NT[..., None]).all()
  last_N = batch.time_NT.max(1)
  low, high = TIME_RANGE
  assert low <= last_N.min() < 1.5 * low and high / 1.5 < last_N.max() <= high
  drawn = made.prior.sample(_context(0).key, 64, made.asked)
  # From the third point on, where there is one.
  from_third_T = np.arange(made.prior.length) >= 2
  np.testing.assert_array_equal(
    batch.counts_NT, drawn.there_NT & from_third_T[None]
  )
  start_N1 = drawn.log_y_NT[:, :1]
  for value, log_y, start in (
    (batch.value_NT, drawn.log_y_NT, start_N1),
    (batch.answer_NTQ, drawn.answer_NTQ, start_N1[..., None]),
  ):
    np.testing.assert_allclose(value, 0.75 + (log_y - start) / 4, atol=1e-5)
  loss, metrics = made.loss(made.init(jax.random.key(1)), batch, _context(0))
  assert np.isfinite(loss) and metrics['log_density'] == -loss


def test_points_that_are_not_there_do_not_count():
  made = ScalingProblem(model=CausalPFN(TINY), batch_size=16)
  batch, params = made.sample(_context(0)), made.init(jax.random.key(1))
  spoilt = batch._replace(
    answer_NTQ=jnp.where(batch.counts_NT[..., None], batch.answer_NTQ, 9.0)
  )
  usual, other = (
    made.loss(params, each, _context(0))[0] for each in (batch, spoilt)
  )
  np.testing.assert_allclose(usual, other, rtol=1e-6)


@pytest.mark.parametrize(
  ('power', 'limit'), [(0.2, 0.0), (0.5, 0.0), (0.5, 0.05)]
)
def test_power_laws_go_on(network, power, limit):
  y_T = X_T**-power + limit
  # Twice as far, five times and thirty times.
  at_NQ = np.array([[2e3, 5e3, 3e4]])
  found = network.predict([(X_T, y_T)], at_NQ)
  truth_NQ = at_NQ**-power + limit
  error_NQ = np.abs(np.log(found.median() / truth_NQ))
  # Repeating the last value would be wrong by more than ten times as much.
  assert (error_NQ < [[0.02, 0.05, 0.2]]).all(), error_NQ
  low_NQ, high_NQ = found.interval(0.95)
  assert ((low_NQ < truth_NQ) & (truth_NQ < high_NQ)).all()


def test_units_of_x_and_y_do_not_matter(network):
  y_T = 2 * X_T**-0.3 + 0.1
  usual = network.predict([(X_T, y_T)], np.array([[1700.0]]))
  scaled = network.predict([(1e5 * X_T, 40 * y_T)], np.array([[1.7e8]]))
  np.testing.assert_allclose(40 * usual.median(), scaled.median(), rtol=1e-4)
  y_NQ = np.array([[0.3]])
  density = usual.log_density(y_NQ), scaled.log_density(40 * y_NQ)
  np.testing.assert_allclose(density[0], density[1] + np.log(40), rtol=1e-3)


@pytest.mark.parametrize('how', [loss_from(1.0), percent()])
def test_density_and_cdf_are_of_one_distribution_of_y(network, how):
  error_T = 2 * X_T**-0.3 + 0.1
  y_T = error_T if how.minimise else 100 - 100 * error_T
  low, high = (0.05, 1.0) if how.minimise else (0.0, 95.0)
  y_Q = np.linspace(low, high, 4001)
  found = network.predict([(X_T, y_T)], np.full((1, 4001), 1700.0), [how])
  density_Q = np.exp(found.log_density(y_Q[None])[0])
  total_Q = np.cumsum(density_Q) * (y_Q[1] - y_Q[0])
  assert total_Q[-1] == pytest.approx(1.0, abs=2e-2)
  below_NQ = found.below(y_Q[None])
  np.testing.assert_allclose(total_Q, below_NQ[0], atol=2e-2)
  np.testing.assert_allclose(1 - below_NQ, found.above(y_Q[None]), atol=1e-5)
  assert below_NQ.min() >= 0 and below_NQ.max() <= 1
  middle = np.searchsorted(y_Q, found.median()[0, 0])
  assert below_NQ[0, middle] == pytest.approx(0.5, abs=0.05)
  beyond = np.full((1, 4001), -1.0 if how.minimise else 101.0)
  assert (found.log_density(beyond) == -np.inf).all()
  sure = found.above(beyond) if how.minimise else found.below(beyond)
  assert (sure == 1).all()


def test_curves_do_not_depend_on_those_beside_them(network):
  pairs = [(X_T, X_T**-0.3), (X_T[:7], X_T[:7] ** -0.1), (X_T, X_T**-0.5)]
  at_NQ = np.array([[1500.0, 2000.0], [200.0, 300.0], [1200.0, 9000.0]])
  together_NQ = network.predict(pairs, at_NQ).median()
  for row, pair in enumerate(pairs):
    alone_Q = network.predict([pair], at_NQ[row : row + 1]).median()[0]
    np.testing.assert_allclose(together_NQ[row], alone_Q, rtol=1e-4)


def test_long_curves_are_merged_side_by_side(network):
  u_T = np.linspace(0, 1, 130)
  few_T, value_T = merged(u_T, 3 * u_T, 64)
  assert len(few_T) == 64 and (np.diff(few_T) > 0).all()
  np.testing.assert_allclose(value_T, 3 * few_T)
  assert few_T[0] == u_T[:3].mean() and few_T[-1] == u_T[-2:].mean()
  np.testing.assert_array_equal(merged(u_T[:64], u_T[:64], 64)[1], u_T[:64])
  x_T, at_NQ = np.exp(u_T), np.array([[4.0, 6.0]])
  pair = x_T, 2 * x_T**-0.4
  own = merged(*map(np.log, pair), 64)
  all_NQ, few_NQ = (
    network.predict([each], at_NQ).median()
    for each in (pair, tuple(map(np.exp, own)))
  )
  np.testing.assert_allclose(all_NQ, few_NQ, rtol=1e-5)


def test_files_say_what_network_they_hold(tmp_path):
  with pytest.raises(ExtrapError, match='of learning curves, not of scaling'):
    ScalingPFN.load(lcpfn.SHIPPED)
  with pytest.raises(ExtrapError, match='of scaling curves, not of learning'):
    lcpfn.LCPFN.load(SHIPPED)


def test_a_file_that_is_none_is_one_line(tmp_path):
  with pytest.raises(ExtrapError, match='holds no network'):
    ScalingPFN.load(tmp_path / 'none.npz')


def test_study_trains_and_keeps_the_network(tmp_path: Path):
  sizes = [f'--model.{name}={value}' for name, value in vars(TINY).items()]
  flags = '--steps=4', '--batch_size=4', '--curves=8', '--replicas=2'
  with pytest.raises(SystemExit) as ended:
    cli.run(
      study.main,
      study.Config,
      argv=['scaling_pfn', *sizes, *flags, f'--workdir={tmp_path}'],
    )
  assert ended.value.code == 0
  results, _ = read_csv(tmp_path / 'results.csv')
  rows = select(results, split='held_out', replica=1)
  assert [row.size for row in rows] == list(DOMAINS)
  network = ScalingPFN.load(tmp_path / 'arms' / 'network' / 'weights_1.npz')
  curves = [curve for curve in load() if curve.domain == 'DD']
  errors = study.network_held_out(network, curves)
  found = select(rows, size='DD')[0].value
  assert found == pytest.approx(np.mean(errors), rel=1e-5)


def test_accuracies_are_forecast_by_their_error(network):
  error_T = X_T**-0.3
  at_NQ = np.array([[1500.0, 4000.0]])
  plain = network.predict([(X_T, 100 * error_T)], at_NQ, [percent_error()])
  risen = network.predict([(X_T, 100 - 100 * error_T)], at_NQ, [percent()])
  np.testing.assert_allclose(risen.median(), 100 - plain.median(), rtol=1e-4)
  low_NQ, high_NQ = plain.interval(0.8)
  np.testing.assert_allclose(risen.interval(0.8)[0], 100 - high_NQ, rtol=1e-4)
  assert (low_NQ < plain.median()).all() and (plain.median() < high_NQ).all()
  for beat in (low_NQ[0, 0], high_NQ[0, 1], -1.0, 150.0):
    np.testing.assert_allclose(
      risen.probability_better(100 - beat),
      plain.probability_better(beat),
      atol=1e-5,
    )
  assert plain.probability_better(low_NQ[0, 0])[0, 0] == pytest.approx(
    0.1, abs=1e-3
  )
  alone = risen.of_row(0)
  np.testing.assert_array_equal(alone.median(), risen.median())


@pytest.mark.parametrize(
  ('x_T', 'y_T', 'at', 'how', 'message'),
  [
    (
      X_T,
      np.linspace(1, 0, 12),
      1500.0,
      loss_from(1.0),
      '1: it is at or beyond 0',
    ),
    (
      X_T,
      np.linspace(0, 1, 12),
      1500.0,
      unit(),
      '1: it is at or beyond 1',
    ),
    (X_T, X_T, 1500.0, score_in(0.0, 1.0), 'rises without an upper bound'),
    (X_T, X_T, 1500.0, score_in(0.0, 1.0, True), 'falls without a lower'),
    (X_T[:2], X_T[:2], 15.0, None, 'curve 1 has 2 points from'),
    (X_T[:0], X_T[:0], 15.0, None, 'curve 1 has no points'),
    (X_T - 10, X_T, 1500.0, None, 'not positive and ascending'),
    (X_T[::-1], X_T, 1500.0, None, 'not positive and ascending'),
    (X_T, X_T[1:], 1500.0, None, 'has 11 values at 12 x'),
    (X_T, X_T * np.nan, 1500.0, None, 'not finite'),
    (X_T, X_T, 999.0, None, 'is seen up to 1000, beyond 999'),
    (X_T, X_T, 5e4, None, 'more than 49 times as far'),
  ],
)
def test_what_no_scaling_law_has_is_refused(
  network, x_T, y_T, at, how, message
):
  with pytest.raises(UsageError, match=message):
    network.predict([(x_T, y_T)], np.array([[at]]), how and [how])
  with pytest.raises(UsageError, match='for each of 0 curves'):
    network.predict([], np.array([[at]]))


def test_a_normalisation_is_one_for_all_or_one_each(network):
  pairs = [(X_T, X_T**-0.3), (X_T, X_T**-0.5)]
  at_NQ = np.array([[1500.0], [1500.0]])
  one, each = (
    network.predict(pairs, at_NQ, how).median()
    for how in (error(), [error(), error()])
  )
  np.testing.assert_array_equal(one, each)
  with pytest.raises(UsageError, match='2 curves, but 1 normalisations'):
    network.predict(pairs, at_NQ, [error()])


def test_points_from_far_before_are_left_out(network):
  x_T = np.geomspace(1e-30, 1e6, 80)
  at_NQ = np.array([[1e7]])
  found = network.predict([(x_T, x_T**-0.1)], at_NQ).median()
  near_T = x_T > 1e6 * np.exp(-7)
  alone = network.predict([(x_T[near_T], x_T[near_T] ** -0.1)], at_NQ).median()
  np.testing.assert_allclose(found, alone, rtol=1e-5)
  assert np.abs(np.log(found / 1e7**-0.1)) < 0.05


def test_a_log_likelihood_rises_to_zero(network):
  falls_T, at_NQ = X_T**-0.3, np.array([[1500.0, 4000.0]])
  how = Normalisation(False, -np.inf, -1.0, 0.0, 0.0)
  risen = network.predict([(X_T, -falls_T)], at_NQ, [how])
  plain = network.predict([(X_T, falls_T)], at_NQ)
  np.testing.assert_allclose(risen.median(), -plain.median(), rtol=1e-5)
