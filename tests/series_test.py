"""Series as a problem: its loss, its penalty, replicas that fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.compilation import jit_once
from extrap.factors import Fading
from extrap.models.periodic import LineSpectrum, Tanh, mlp
from extrap.series import SeriesProblem
from extrap.training.config import TrainConfig
from extrap.training.loop import fit
from extrap.training.problem import Context

TIME = np.linspace(-1, 1, 9, dtype='f4')
VALUE = np.stack([np.sin(3 * TIME), np.cos(TIME), TIME])


def context(step=0, **hparams):
  return Context(
    jax.random.key(0), jnp.int32(step), {'series': 1.0, 'scale': 2.0} | hparams
  )


def test_a_factor_fades():
  fading = Fading(0.3, 0.1, 10)
  found = [float(fading.at(jnp.int32(step))) for step in (0, 5, 10, 99)]
  assert found == pytest.approx([0.3, 0.2, 0.1, 0.1])


def test_loss_is_the_error_of_its_series_at_scaled_times():
  problem = SeriesProblem(model=mlp(Tanh(), 4), time_B=TIME, value_RB=VALUE)
  params = jit_once(problem.init)(jax.random.key(1))
  batch = problem.sample(context())
  np.testing.assert_array_equal(batch[1][:, 0], VALUE[1])
  loss, _ = jit_once(problem.loss)(params, batch, context())
  found = jit_once(problem.model.apply)({'params': params}, 2 * TIME[:, None])
  wanted = np.mean((found[:, 0] - VALUE[1]) ** 2)
  assert float(loss) == pytest.approx(float(wanted), rel=1e-5)


def test_the_penalty_counts_by_its_factor():
  problem = SeriesProblem(
    model=LineSpectrum(3),
    time_B=TIME,
    value_RB=VALUE,
    factor=Fading(1.0, 0.5, 10),
  )
  params = jit_once(problem.init)(jax.random.key(1))
  params |= {'cosine': jnp.array([[3.0], [0], [0]])}
  params |= {'sine': jnp.array([[4.0], [0], [2]])}
  batch, loss_of = problem.sample(context()), jit_once(problem.loss)
  for step, factor in ((0, 1.0), (20, 0.5)):
    loss, metrics = loss_of(params, batch, context(step))
    added = float(loss - metrics['error'])
    assert added == pytest.approx(factor * 7, rel=1e-3)


def test_one_that_overflows_does_not_stop_the_others():
  value = np.stack([VALUE[0], np.full_like(TIME, 1e30)])
  problem = SeriesProblem(model=LineSpectrum(3), time_B=TIME, value_RB=value)
  config = TrainConfig(steps=4, optimizer='adam', steps_per_dispatch=4)
  hparams = {'series': [0, 1], 'scale': 1.0}
  fitted = fit(problem, config, replicas=2, hparams=hparams)
  assert fitted.finite.tolist() == [True, False]
  assert fitted.state.step.tolist() == [4, 0]
