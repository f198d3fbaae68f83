"""Maps of queries and keys, and temperatures, by their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from encoding_checks import (
  HEADS,
  TOKENS,
  WIDTH,
  Recorder,
  assert_encodes,
  at_distance,
  product,
  rates,
  softmax_of,
  structure,
  turned,
)

from extrap.errors import UsageError
from extrap.models.positions import (
  CoCA,
  Llama4Temperature,
  LogN,
  NoPosition,
  PoPE,
  ReRoPE,
  Rotary,
  ScaleInvariant,
  polar,
)

FAST = Rotary(base=30.0)  # Its slow pairs turn visibly in seven tokens.


def factors(case, head, m):
  """CoCA's t, one for each pair of coordinates."""
  first, second = np.split(case.key[head, m], 2)
  return np.maximum((first + second) / 2, 0)


def coca_strict(case, head, n, m):
  first, second = np.split(case.query[head, n], 2)
  wave = np.cos((n - m) * rates(case.width))
  terms = factors(case, head, m) * (first**2 + second**2) * wave
  return terms.sum() / np.sqrt(case.width)


def coca_slack(case, head, n, m):
  rate, factor = rates(case.width), factors(case, head, m)
  query = case.query[head, n]
  key = turned(np.concatenate([factor, factor]), m * rate)
  terms = query * turned(query, n * rate) * key
  return terms.sum() / np.sqrt(case.width)


def pope(case, head, n, m):
  width = case.width
  rate = 10_000.0 ** (-np.arange(width) / width)
  phase = np.clip(case.params['phase'][head], -2 * np.pi, 0)
  size = np.logaddexp(0, case.query[head, n])
  size *= np.logaddexp(0, case.key[head, m])
  return size @ np.cos((m - n) * rate + phase) / np.sqrt(width)


def ssmax(case, head, n, m):
  score = at_distance(case, head, n, m, n - m)
  return case.params['log_n'][head] * np.log(n + 1) * score


def su(case, head, n, m):
  factor = max(1, np.log(n + 1) / np.log(3))
  return factor * at_distance(case, head, n, m, min(n - m, 3))


def llama4(case, head, n, m):
  factor = 1 + 0.5 * np.log(np.floor((n + 1) / 2) + 1)
  return factor * product(case, head, n, m)


def scale_invariant(case, head, n, m):
  fall = 2 * np.log(1 + (n - m) / 2.0)
  score = at_distance(case, head, n, m, n - m)
  return np.sqrt(fall + 1) * score - fall


@pytest.mark.parametrize(
  ('position', 'logit', 'others', 'settings'),
  [
    (
      CoCA(),
      coca_strict,
      (CoCA(form='slack'), CoCA(base=FAST)),
      {},
    ),
    (
      CoCA(form='slack'),
      coca_slack,
      (CoCA(), CoCA(form='slack', base=FAST)),
      {},
    ),
    (PoPE(), pope, (PoPE(base=FAST),), {}),
    (LogN(), ssmax, (LogN(form='su'), LogN(base=NoPosition())), {}),
    (
      LogN(form='su', trained=3, base=ReRoPE(window=3)),
      su,
      (
        LogN(form='su', trained=4, base=ReRoPE(window=3)),
        LogN(form='su', trained=3, base=ReRoPE(window=4)),
      ),
      {},
    ),
    (
      Llama4Temperature(growth=0.5, floor=2),
      llama4,
      (
        Llama4Temperature(growth=0.4, floor=2),
        Llama4Temperature(growth=0.5, floor=3),
        Llama4Temperature(growth=0.5, floor=2, base=Rotary()),
      ),
      {},
    ),
    (
      ScaleInvariant(tau=2.0, base=Rotary()),
      scale_invariant,
      (
        ScaleInvariant(tau=2.1, base=Rotary()),
        ScaleInvariant(tau=2.0, base=NoPosition()),
        ScaleInvariant(tau=2.0),
      ),
      dict(qk_norm=True),
    ),
  ],
  ids=lambda x: x.name if hasattr(x, 'name') else '',
)
def test_an_encoding_equals_its_formula(position, logit, others, settings):
  assert_encodes(position, softmax_of(logit), others, **settings)


def start_of(position, name):
  """What a parameter starts with, as maps of queries and keys declare it."""
  made, x_BTHD = {}, jnp.ones((2, TOKENS, HEADS, WIDTH))
  for hook in (position.query_map, position.key_map):
    hook(x_BTHD, structure(TOKENS), Recorder(made, jax.random.key(0)))
  return np.asarray(made[name])


def test_parameters_start_where_the_papers_start():
  np.testing.assert_allclose(start_of(LogN(), 'log_n'), [0.43, 0.43])
  assert (start_of(LogN(start=1.0), 'log_n') == 1).all()
  np.testing.assert_array_equal(
    start_of(PoPE(), 'phase'), np.zeros((HEADS, WIDTH))
  )
  share = jax.random.uniform(jax.random.key(0), (HEADS, WIDTH))
  phase = start_of(PoPE(start='uniform'), 'phase')
  np.testing.assert_allclose(phase, 2 * np.pi * (share - 1), atol=1e-5)


def test_phases_of_phases_are_refused():
  with pytest.raises(UsageError, match='=pope is around another pope'):
    PoPE(base=CoCA(base=PoPE()))


@pytest.mark.parametrize(
  ('phase', 'kept', 'slope'),
  [(0.3, 0.0, 0), (0.0, 0.0, 1), (-2 * np.pi, 0.0, 1), (-7.0, 0.0, 0)],
)
def test_phases_stay_in_a_turn_and_may_leave_its_ends(phase, kept, slope):
  x_BTHD, ids = jnp.ones((2, 1, 1, WIDTH)), structure(1)

  def height(phase):
    param = lambda name, init, shape: jnp.full(shape, phase)  # noqa: E731
    return PoPE().key_map(x_BTHD, ids, param)[0, 0, 0, WIDTH:].mean()

  size = np.log1p(np.e)
  height, gradient = jax.value_and_grad(height)(phase)
  np.testing.assert_allclose(height, size * np.sin(kept), atol=1e-5)
  np.testing.assert_allclose(gradient, size * slope, atol=1e-5)
  np.testing.assert_allclose(polar.LOWEST_PHASE, -2 * np.pi)
