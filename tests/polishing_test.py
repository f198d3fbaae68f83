"""Least squares after training: exact where it succeeds, honest where not."""

import json

import jax
import numpy as np
import pytest

from experiments import nalu
from extrap import cli
from extrap.errors import Preempted
from extrap.evaluation.results import Provenance, read_csv, select
from extrap.models.units import two_layers
from extrap.polishing import ROWS, polish, sample
from extrap.regression import ArithmeticArm, ArithmeticProblem
from extrap.tasks.arithmetic import Arithmetic

TASK = Arithmetic(inputs=8)


def problem(**arms):
  return ArithmeticProblem(task=TASK, arms=arms, held_out=1000)


def near(subsets, away):
  """Weights of a model that divides, but for some noise; [R, O, ...]."""
  rng = np.random.default_rng(0)

  def noisy(exact):
    return (exact + rng.uniform(-away, away, exact.shape))[None, None]

  second = np.array([[0.9], [-0.9]])
  return {
    'first': {'weight': noisy(np.asarray(subsets, float) * 0.8)},
    'second': {'weight': noisy(second)},
  }


def divider():
  return ArithmeticArm(two_layers('nru', 2), ('div',))


def polished(of, params, finite, seeds, steps):
  given = of, params, np.array(finite), seeds, steps
  return polish(*given, 'test', lambda: None)['nru', 'div']


def solved_from(away, steps):
  of = problem(nru=divider())
  weights = near(TASK.subsets(TASK.offset(3)), away)
  params = {'nru': {'weights': weights, 'alive': np.ones((1, 1))}}
  return polished(of, params, [True], (3,), steps)


def test_divides_to_the_last_digits_of_float64():
  found = solved_from(0.05, 60)
  assert found.test.shape == (1,)
  assert found.test[0] < 1e-25 and found.validation[0] < 1e-25
  solved = found.solved(100, 4.9e-12)
  assert solved.success.tolist() == [True] and solved.step.tolist() == [100]


def test_without_steps_nothing_changes():
  found = solved_from(0.05, 0)
  assert found.test[0] > 1e-6
  assert not found.solved(100, 4.9e-12).success[0]


def test_runs_that_have_failed_stay_failed():
  """Their weights are finite: what says so is a mark, or a frozen replica."""
  of = problem(nru=divider())
  good = near(TASK.subsets(TASK.offset(3)), 0.05)
  weights = jax.tree.map(lambda leaf: np.repeat(leaf, 4, axis=0), good)
  weights['first']['weight'][3] = np.nan
  alive = np.array([[1.0], [0.999], [1.0], [1.0]])
  params = {'nru': {'weights': weights, 'alive': alive}}
  finite = [True, True, False, True]
  # All of one seed, so that all have one task.
  found = polished(of, params, finite, (3,) * 4, 60)
  success = found.solved(1, 4.9e-12).success
  assert success.tolist() == [True, False, False, False]


def test_it_can_be_stopped_between_runs():
  def stop():
    raise Preempted('stopped')

  of = problem(nru=divider())
  weights = near(TASK.subsets(TASK.offset(3)), 0.05)
  params = {'nru': {'weights': weights, 'alive': np.ones((1, 1))}}
  with pytest.raises(Preempted):
    polish(of, params, np.array([True]), (3,), 1, 'test', stop)


def test_a_seed_has_one_sample_of_its_own_in_the_range_of_training():
  one, again, other = (sample(TASK, seed, 50) for seed in (1, 1, 2))
  np.testing.assert_array_equal(one, again)
  assert one.shape == (50, 8) and one.dtype == np.float64
  assert (one != other).mean() > 0.99
  assert one.min() >= 1.0 and one.max() < 2.0


def test_cost_is_that_of_training_and_of_the_polish():
  trained = Provenance(
    study='nalu',
    arm='nru',
    rung='',
    seeds=(3,),
    steps=(100,),
    samples=(12_800,),
    flops=(1e6,),
    seconds=1.0,
  )
  found = solved_from(0.05, 2)
  source = found.source(trained, 2)
  assert source.arm == 'nru, polished'
  assert source.steps == (102,) and source.samples == (12_800 + ROWS,)
  # Of 18 weights: Jacobian and square, then the solution, in both steps.
  each = 2 * (2 * ROWS * 18 * 18) + 2 / 3 * 18**3
  assert source.flops == (1e6 + 2 * each,)
  notes = json.loads(source.hparams)
  assert notes == {'as_published': False, 'polish': 2, 'rows': ROWS}
  assert source.seconds > 1.0


def test_a_study_says_what_came_before_and_after(tmp_path):
  with pytest.raises(SystemExit) as caught:
    cli.run(
      nalu.main,
      nalu.Config,
      argv=[
        'nalu',
        f'--workdir={tmp_path / "run"}',
        '--units=linear',
        '--ops=sub,add',
        '--replicas=2',
        '--steps=20',
        '--polish=40',
        '--task.inputs=8',
        '--threshold=corrected',
        '--train.evaluate_every=20',
        '--train.steps_per_dispatch=20',
      ],
    )
  assert caught.value.code == 0
  results, _ = read_csv(tmp_path / 'run' / 'results.csv')
  for operation in ('sub', 'add'):
    before, after = (
      select(results, arm=arm, split=operation, metric='solved')
      for arm in ('linear', 'linear, polished')
    )
    assert [row.successes for row in before] == [0, 0]
    assert [row.successes for row in after] == [1, 1]
    assert [row.steps for row in after] == [60, 60]
