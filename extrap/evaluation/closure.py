"""A certificate that a looped model finds the parity of every string.

In a doubling model that carries signs, each loop maps the state of a token and
the state of one other token to a new state, and there are finitely many states.
Starting from the states of single bits, all states that can ever occur are
found by applying the loop to every pair until no new one comes. Each then
stands for a stretch of the string: a pair stands for two stretches that lie
side by side. If no state ever stands for stretches of both parities, and every
state of '=' (which stands for a stretch that ends the string) is read out as
its parity, then by induction over the loops the answer is right at every
length. The same holds for the end that follows the answer.

What is left is rounding: the margin is the smallest distance of an entry from
the value at which its sign turns, or of the right logit from the best wrong
one; it is compared with the largest difference that float64 makes in any of
these (measured, not derived).

Shape key: T tokens, E model width, V vocabulary, P pairs, N states.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from extrap.errors import UsageError
from extrap.evaluation.certificate import Certificate
from extrap.models.attention import View
from extrap.models.layers import Layer, final_norm
from extrap.models.loops import carry
from extrap.models.positions import Previous
from extrap.models.transformer import Params, Transformer
from extrap.tasks.parity import Parity

MOST = 512  # states: beyond, a model is refused
ROWS = 4096  # pairs of one call

STATEMENT = (
  'Every state that can occur was found by applying the loop to all pairs of '
  'known states until no new one came. None stands for stretches of both '
  'parities, and each state that is read out is read as its own parity. By '
  'induction over the loops the answer is right at every length, up to '
  'rounding: the smallest margin, of a sign or of a logit, is compared with '
  'the largest difference that float64 makes (measured, not derived).'
)

State = tuple[float, ...]
Known = dict[State, int]  # The parity that a state stands for.


def check_closed(model: Transformer, task: Parity) -> None:
  """Refuses a model or a task whose states are not closed under the loop.

  Raises:
    UsageError: naming what is in the way.
  """
  config = model.config
  for bad, what in (
    (not isinstance(task, Parity) or task.trace, 'its task is not parity'),
    (config.loops != 'doubling', 'its loops do not double'),
    (type(config.position) is not Previous, 'its encoding sees more'),
    (config.carry != 'sign', 'its states are not signs'),
    (config.depth > 1, 'a loop has more than one layer'),
    (config.inject_every > 0, 'a loop reads the input beside the state'),
    (config.logit_scale == 'log_length', 'its logit scale reads the length'),
  ):
    if bad:
      raise UsageError(f'this model has no finite set of states: {what}')


def certify_parity(
  model: Transformer, params: Params, task: Parity
) -> list[Certificate]:
  """Certifies every replica of a population.

  Args:
    model: doubling loops that carry signs.
    params: leading replica axis.
    task: parity without a trace.

  Raises:
    UsageError: the model cannot be certified.
  """
  check_closed(model, task)
  replicas = jax.tree.leaves(params)[0].shape[0]
  return [
    _certify(model, jax.tree.map(lambda x, r=r: x[r], params), task)
    for r in range(replicas)
  ]


@dataclasses.dataclass
class _Found:
  """What has been seen of one model, in float32 and in float64."""

  narrow: '_Numbers'
  wide: '_Numbers'
  contexts: int = 0
  wrong: int = 0
  offender: str | None = None
  margins: dict[str, float] = dataclasses.field(default_factory=dict)
  rounding: dict[str, float] = dataclasses.field(default_factory=dict)

  def refute(self, what: str) -> None:
    self.wrong += 1
    self.offender = self.offender or what

  def note(self, what: str, margin: float, difference: float) -> None:
    self.margins[what] = min(margin, self.margins.get(what, np.inf))
    key = f'float64, {what}'
    self.rounding[key] = max(difference, self.rounding.get(key, 0.0))

  def after_loop(
    self, own: Sequence[State], other: Sequence[State]
  ) -> list[State]:
    """The states that a loop makes of pairs, in order."""
    made_PE = self.narrow.loop(own, other)
    difference = np.abs(made_PE - self.wide.loop(own, other)).max()
    self.note('sign', float(np.abs(made_PE).min()), float(difference))
    self.contexts += len(own)
    return [tuple(row) for row in np.where(made_PE > 0, 1.0, -1.0).tolist()]

  def read(self, states: list[State], target: list[int], what: str) -> None:
    """Checks what the states of a token are read out as."""
    logits_NV = self.narrow.logits(states)
    difference = np.abs(logits_NV - self.wide.logits(states)).max()
    row_N = np.arange(len(states))
    others_NV = logits_NV.copy()
    others_NV[row_N, target] = -np.inf
    margin_N = logits_NV[row_N, target] - others_NV.max(axis=1)
    self.note(f'logit at {what}', float(margin_N.min()), float(difference))
    self.contexts += len(states)
    for _ in range(int((~(margin_N > 0)).sum())):
      self.refute(f'a state of {what} is read out wrong')


def _certify(model: Transformer, params: Params, task: Parity) -> Certificate:
  types = ('float32', 'float64')
  found = _Found(*(_Numbers(model, params, task, dtype) for dtype in types))
  zero, one, equals, *answers = found.narrow.start()
  bits = {_state(zero): 0}
  _add(found, bits, _state(one), 1, 'a bit')
  _close(found, bits, bits, 'a bit')
  start = _state(equals)
  asked: Known = {}
  _once(found, asked, {start: 0}, bits, "'='")
  _close(found, asked, bits, "'='")
  ended: Known = {}
  for answer in answers:
    # Its first loop reads '=' as it began; the later ones read bits.
    _once(found, ended, {_state(answer): 0}, {start: 0}, None)
  _close(found, ended, bits, None)
  found.read(list(asked), list(asked.values()), "'='")
  found.read(list(ended), [task.end] * len(ended), 'the answer')
  tightest = min(found.margins, key=found.margins.get)
  return Certificate(
    contexts=found.contexts,
    wrong=found.wrong,
    margin=found.margins[tightest],
    tightest=f'a {tightest}',
    rounding=found.rounding,
    offender=found.offender,
  )


def _state(x_E: np.ndarray) -> State:
  return tuple(x_E.tolist())


def _add(
  found: _Found, known: Known, state: State, parity: int, what: str
) -> None:
  """One more state; it must not stand for another parity already."""
  if known.setdefault(state, parity) != parity:
    found.refute(f'a state of {what} stands for both parities')


def _once(
  found: _Found, into: Known, own: Known, other: Known, what: str | None
) -> None:
  """Adds what one loop makes of all pairs; `what` None: no parity is kept."""
  pairs = [(a, b) for a in own for b in other]
  made = found.after_loop([a for a, _ in pairs], [b for _, b in pairs])
  for (a, b), state in zip(pairs, made, strict=True):
    parity = own[a] ^ other[b] if what else 0
    _add(found, into, state, parity, what or 'the answer')


def _close(found: _Found, own: Known, other: Known, what: str | None) -> None:
  """Adds what loops make of all pairs, until nothing new comes."""
  before = None
  while before != len(own) and not found.wrong:
    before = len(own)
    if before > MOST:
      found.refute(f'more than {MOST} states of {what or "the answer"}')
      return
    _once(found, own, dict(own), dict(other), what)


class _Numbers:
  """What a model computes of single states and of pairs, in one type."""

  def __init__(
    self, model: Transformer, params: Params, task: Parity, dtype: str
  ) -> None:
    config = dataclasses.replace(model.config, dtype=dtype)
    self._wide, self._dtype = dtype == 'float64', dtype
    self._params, self._task = params, task
    self._layer, self._norm = Layer(config), final_norm(config)
    self._programs = jax.jit(self._loop), jax.jit(self._logits)

  def start(self) -> np.ndarray:
    """States of the bits 0 and 1, of '=', and of the answers 0 and 1."""
    tokens_1T = jnp.array([[0, 1, self._task.token('='), 0, 1]])
    role_1T = self._task.structure(tokens_1T).role
    x_1TE = self._params['embedding'][tokens_1T]
    x_1TE = x_1TE + self._params['position_roles'][role_1T]
    return np.asarray(carry('sign', x_1TE)[0])

  def loop(self, own: Sequence[State], other: Sequence[State]) -> np.ndarray:
    """What a loop makes of pairs, before signs are taken, [P, E]."""
    return self._run(self._programs[0], own, other)

  def logits(self, states: Sequence[State]) -> np.ndarray:
    """How states are read out, [N, V]."""
    return self._run(self._programs[1], states)

  def _run(self, program: Callable, *columns: Sequence[State]) -> np.ndarray:
    """A program on all rows, in parts of one shape."""
    with jax.enable_x64(self._wide):
      params = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, self._dtype), self._params
      )
      arrays = [np.asarray(column, self._dtype) for column in columns]
      parts = []
      for first in range(0, len(arrays[0]), ROWS):
        # The last part repeats a row.
        take = np.minimum(np.arange(first, first + ROWS), len(arrays[0]) - 1)
        parts.append(np.asarray(program(params, *(x[take] for x in arrays))))
    return np.concatenate(parts)[: len(arrays[0])]

  def _loop(
    self, params: Params, own_PE: jax.Array, other_PE: jax.Array
  ) -> jax.Array:
    ids = self._task.structure(jnp.zeros((len(own_PE), 2), jnp.int32))
    layer = jax.tree.map(lambda leaf: leaf[0], params['layers'])
    x_P2E = jnp.stack([other_PE, own_PE], axis=1)
    made_P2E, _ = self._layer.apply({'params': layer}, x_P2E, View(ids, ids))
    return carry('norm', made_P2E[:, 1])

  def _logits(self, params: Params, x_NE: jax.Array) -> jax.Array:
    x_NE = self._norm.apply({'params': params['norm']}, x_NE)
    kernel_EV = params['logits']['kernel']
    return jnp.matmul(x_NE, kernel_EV, precision=jax.lax.Precision.HIGHEST)
