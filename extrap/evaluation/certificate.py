"""A certificate that a trained model adds numbers of every length.

A one-layer model whose heads see a bounded window of places, and nothing that
tells the place itself, maps finitely many contexts to tokens. If the most
likely token is right in every context that can occur, then by induction over
the tokens of the answer it adds any two numbers: the first query sees the
prompt alone; and if all tokens so far are right, the next query stands in one
of the contexts that were checked.

What is left is rounding. The margin (the right logit less the best wrong one)
is compared with the largest difference that float64 arithmetic, another order
of summation, gathered keys, or a shift of all places makes in any logit. This
is *measured*, not derived: the certificate says so.

Shape key: R replicas, C contexts, V vocabulary, T tokens, B rows of a call, X
tokens that a query sees.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from extrap.errors import UsageError
from extrap.evaluation.contexts import Contexts, Enumeration
from extrap.evaluation.operation_contexts import operation_contexts
from extrap.evaluation.product_contexts import product_contexts
from extrap.evaluation.product_trace_contexts import product_trace_contexts
from extrap.evaluation.results import Provenance, Result
from extrap.evaluation.string_contexts import string_contexts
from extrap.evaluation.summation_contexts import summation_contexts
from extrap.evaluation.trace_contexts import trace_contexts
from extrap.models.layers import ffn_names
from extrap.models.positions import PlaceWindow
from extrap.models.transformer import Params, Transformer
from extrap.tasks.multiplication import Multiplication
from extrap.tasks.numbers import NumberTask
from extrap.tasks.product_trace import ProductTrace
from extrap.tasks.strings import StringTask
from extrap.tasks.summation import Summation
from extrap.tasks.task import Structure

SAFETY = 100  # how many times the largest difference the margin must be
SHIFT, SHIFTED = 300, 500  # places moved, and contexts checked so
ROUNDED = 100_000  # contexts in which rounding is measured, about

STATEMENT = (
  'In one layer whose heads see a bounded window of places, and nothing that '
  'tells the place itself, each token of the answer is a function of the '
  'digits in that window, of the digits and signs that every query or its own '
  'step of a trace sees, and of the token before it. Every context that can '
  'occur, at the start, inside and at the end of an answer of any length, was '
  'enumerated, and the most likely token is right in each. By induction over '
  'the answer: the first query sees the prompt alone, and once all tokens so '
  'far are right, the next query stands in one of these contexts. Hence the '
  'answer is right at every length, up to rounding: the smallest margin is at '
  f'least {SAFETY} times the largest difference of a logit that float64, '
  'another order of hidden units and head widths, gathered keys or a shift '
  f'of all places made (measured, not derived; in up to {ROUNDED:,} contexts '
  'drawn at random where there are more).'
)


@dataclasses.dataclass(frozen=True)
class Certificate:
  """What was found for one replica.

  Attributes:
    contexts: contexts checked, all that can occur.
    wrong: how many of them the model gets wrong.
    margin: smallest logit margin; negative where wrong.
    tightest: the context that has it, in words.
    rounding: largest measured difference of a logit, by its cause.
    offender: the first wrong context with what was expected, or None.
  """

  contexts: int
  wrong: int
  margin: float
  tightest: str
  rounding: dict[str, float]
  offender: str | None

  @property
  def largest_rounding(self) -> float:
    return max(self.rounding.values())

  @property
  def passed(self) -> bool:
    """All contexts right, by a margin that rounding does not reach."""
    enough = self.margin >= SAFETY * self.largest_rounding
    return self.wrong == 0 and bool(enough)

  def __str__(self) -> str:
    if self.wrong:
      return (
        f'FAILED: {self.wrong} of {self.contexts} contexts wrong, '
        f'first: {self.offender}'
      )
    verdict = 'passed (measured)' if self.passed else 'FAILED'
    return (
      f'{verdict}: {self.contexts} of {self.contexts} contexts right, margin '
      f'{self.margin:.3g} at {self.tightest}; largest rounding difference '
      f'{self.largest_rounding:.2g}'
    )


def check_model(model: Transformer) -> tuple[int, int]:
  """The window (behind, ahead) of a model that can be certified.

  Raises:
    UsageError: what the model sees depends on the length of the problem.
  """
  config = model.config
  window = config.position.place_window
  for bad, what in (
    (config.depth * config.recurrences != 1, 'it has more than one layer'),
    (window is None, 'its encoding has no hard window of places'),
    (config.logit_scale == 'log_length', 'its logit scale reads the length'),
    # Another encoding, a subclass too, may do anything in its hooks.
    (
      type(config.position) is not PlaceWindow,
      'its encoding may read absolute places',
    ),
  ):
    if bad:
      raise UsageError(f'this model has no finite set of contexts: {what}')
  return window


def certify(
  model: Transformer,
  params: Params,
  task: NumberTask,
  watched: Callable[[Enumeration], Iterable[Contexts]] = iter,
) -> list[Certificate]:
  """Certifies every replica of a population.

  Args:
    model: one layer, hard window of places.
    params: leading replica axis.
    task: see `contexts_of`.
    watched: gives the parts of an enumeration, and may say how far it is.

  Raises:
    UsageError: the model cannot be certified.
  """
  contexts = contexts_for(model, task)
  measured = _Rounding(model, params, task)
  rng, share = np.random.default_rng(0), ROUNDED / contexts.upper
  tallies = None
  for part in watched(contexts):
    logits_RCV = _logits(model, params, task, part)
    tallies = tallies or [_Tally(task) for _ in logits_RCV]
    for tally, logits_CV in zip(tallies, logits_RCV, strict=True):
      tally.add(part, logits_CV)
    some = np.flatnonzero(rng.random(len(part)) < share)
    measured.add(part.select(some), logits_RCV[:, some])
  return [
    tally.certificate(rounding)
    for tally, rounding in zip(tallies, measured.largest(), strict=True)
  ]


@dataclasses.dataclass
class _Tally:
  """What the contexts of all parts add up to, for one replica."""

  task: NumberTask
  contexts: int = 0
  wrong: int = 0
  margin: float = np.inf
  tightest: str = ''
  offender: str | None = None

  def add(self, part: Contexts, logits_CV: np.ndarray) -> None:
    """Counts a part's contexts."""
    margin_C = _margins(logits_CV, part.target)
    lowest, wrong_C = int(np.argmin(margin_C)), ~(margin_C > 0)
    if self.offender is None and wrong_C.any():
      row = int(np.argmax(wrong_C))
      self.offender = (
        f'{part.describe(self.task, row)}: right is '
        f'{self.task.names[part.target[row]]}, the model says '
        f'{self.task.names[int(np.argmax(logits_CV[row]))]}'
      )
    if margin_C[lowest] < self.margin:
      self.margin = float(margin_C[lowest])
      self.tightest = part.describe(self.task, lowest)
    self.contexts += len(part)
    self.wrong += int(wrong_C.sum())

  def certificate(self, rounding: dict[str, float]) -> Certificate:
    """The verdict on all of them."""
    return Certificate(
      self.contexts,
      self.wrong,
      self.margin,
      self.tightest,
      rounding,
      self.offender,
    )


class _Rounding:
  """Largest differences of a logit, by their cause, in each replica."""

  def __init__(self, model: Transformer, params: Params, task: NumberTask):
    logits = functools.partial(_logits, model, params, task)
    gathered = _variant(model, attention='gathered')
    permuted = _permute(params, ffn_names(model.config))
    self.others = {
      'float64': functools.partial(_in_float64, model, params, task),
      'summation order': functools.partial(_logits, model, permuted, task),
      'gathered keys': functools.partial(
        _logits, gathered, params, task, near=False
      ),
    }
    self.found = {cause: np.zeros(1) for cause in self.others}
    here, moved = (
      contexts_for(model, task, shift=shift, most=SHIFTED).whole()
      for shift in (0, SHIFT)
    )
    self._keep(
      f'{SHIFT} places further',
      logits(here, near=False),
      logits(moved, near=False),
    )

  def add(self, contexts: Contexts, logits_RCV: np.ndarray) -> None:
    """Takes some contexts into account, and what the model says there."""
    if len(contexts):
      for cause, logits in self.others.items():
        self._keep(cause, logits_RCV, logits(contexts))

  def _keep(
    self, cause: str, one_RCV: np.ndarray, other_RCV: np.ndarray
  ) -> None:
    pairs = zip(one_RCV, other_RCV, strict=True)
    distance_R = [_distance(one_CV, other_CV) for one_CV, other_CV in pairs]
    self.found[cause] = np.maximum(self.found.get(cause, 0.0), distance_R)

  def largest(self) -> list[dict[str, float]]:
    """For each replica, by cause."""
    replicas = zip(*self.found.values(), strict=True)
    return [
      dict(zip(self.found, map(float, one), strict=True)) for one in replicas
    ]


def contexts_for(
  model: Transformer, task: NumberTask, **some: int
) -> Enumeration:
  """All contexts that a model meets in a task; see `operation_contexts`.

  Raises:
    UsageError: they are not finite, not enumerated, or too many.
  """
  window = check_model(model)
  traced = isinstance(task, Summation) and task.trace
  traced |= isinstance(task, ProductTrace)
  if traced and not model.config.position.own_step:
    raise UsageError(
      'a query sees all steps of a trace, and nothing tells its own: '
      '--model.position.own_step'
    )
  return contexts_of(task, *window, **some)


@functools.lru_cache(maxsize=8)
def contexts_of(
  task: NumberTask, behind: int, ahead: int, **some: int
) -> Enumeration:
  """All contexts of a task; see `operation_contexts`.

  Raises:
    UsageError: they are not enumerated, or too many.
  """
  if isinstance(task, Multiplication):
    return product_contexts(task, behind, ahead, **some)
  if isinstance(task, ProductTrace):
    return product_trace_contexts(task, behind, ahead, **some)
  if isinstance(task, Summation) and not task.trace:
    return summation_contexts(task, behind, ahead, **some)
  make = operation_contexts
  if isinstance(task, StringTask):
    make = string_contexts
  elif isinstance(task, Summation):
    make = trace_contexts
  return Enumeration.of(make(task, behind, ahead, **some))


def rows(source: Provenance, certified: Sequence[Certificate]) -> list[Result]:
  """Verdict, margin and rounding of each replica."""
  results = []
  for replica, found in enumerate(certified):
    row = source.row
    right = found.contexts - found.wrong
    numbers = {'margin': found.margin, 'rounding': found.largest_rounding}
    results += [
      row(
        replica,
        'certificate',
        'any',
        'certified',
        float(found.passed),
        found.contexts,
        right,
      ),
      *(
        row(replica, 'certificate', 'any', name, value, found.contexts)
        for name, value in numbers.items()
      ),
    ]
  return results


def _margins(logits_CV: np.ndarray, target_C: np.ndarray) -> np.ndarray:
  """Right logit less the best wrong one; -inf where not finite."""
  row_C = np.arange(len(target_C))
  others_CV = logits_CV.copy()
  others_CV[row_C, target_C] = -np.inf
  margin_C = logits_CV[row_C, target_C] - others_CV.max(axis=1)
  return np.where(np.isfinite(logits_CV).all(axis=1), margin_C, -np.inf)


def _logits(
  model: Transformer,
  params: Params,
  task: NumberTask,
  contexts: Contexts,
  near: bool = True,
) -> np.ndarray:
  """Logits [R, C, V] of the one query asked in each context.

  Args:
    model: one layer, hard window of places.
    params: of all replicas.
    task: gives the structure.
    contexts: what is asked.
    near: leave out the tokens that the query does not see.
  """
  run = _program(model, task, near)
  rows = max(1, tokens_of_a_call() // contexts.tokens.shape[1])
  parts = []
  for first in range(0, len(contexts), rows):
    # The last call repeats a row, so that every call has the same shape.
    take = np.minimum(np.arange(first, first + rows), len(contexts) - 1)
    tokens_BT, query_B = contexts.tokens[take], contexts.query[take]
    parts.append(np.asarray(run(params, tokens_BT, query_B[:, None])))
  return np.concatenate(parts, axis=1)[:, : len(contexts)]


def tokens_of_a_call() -> int:
  """Of each replica: bounds memory, and fits the caches of a CPU's core."""
  return 1 << (13 if jax.default_backend() == 'cpu' else 15)


@functools.lru_cache(maxsize=8)
def _program(model: Transformer, task: NumberTask, near: bool) -> Callable:
  """(params of all replicas, tokens, query) -> logits [R, B, V]."""
  if near:  # Tokens that were left out would be missing from the gathered.
    model = _variant(model, attention='dense')

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, None, None))
  def run(params: Params, tokens_BT: jax.Array, query_B1: jax.Array):
    asked = tokens_BT, task.structure(tokens_BT), query_B1
    if near:
      asked = _near(model.config.position, *asked)
    return model.apply({'params': params}, *asked)[:, 0]

  return run


def _near(
  position: PlaceWindow,
  tokens_BT: jax.Array,
  structure: Structure,
  query_B1: jax.Array,
) -> tuple[jax.Array, Structure, jax.Array]:
  """The same rows without the tokens that the query does not see."""
  key, query = structure.expand(1), structure.take(query_B1).expand(2)
  seen_B1T = position.visible(query, key) & (key.index <= query.index)
  rank_X1 = jnp.arange(position.most_seen(structure))[None, :, None]
  is_it_BXT = seen_B1T & (jnp.cumsum(seen_B1T, axis=2) - 1 == rank_X1)
  token_BX, there_BX = jnp.argmax(is_it_BXT, axis=2), is_it_BXT.any(axis=2)
  near = structure.take(token_BX)
  # What is not there comes after the query, which then does not see it.
  index_BX = jnp.where(there_BX, near.index, tokens_BT.shape[1])
  tokens_BX = jnp.take_along_axis(tokens_BT, token_BX, axis=1)
  last_B1 = there_BX.sum(axis=1, keepdims=True) - 1
  return tokens_BX, near.replace(index=index_BX), last_B1


def _in_float64(
  model: Transformer, params: Params, task: NumberTask, contexts: Contexts
) -> np.ndarray:
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
    return _logits(_variant(model, dtype='float64'), wide, task, contexts)


def _variant(model: Transformer, **changes: str) -> Transformer:
  config = dataclasses.replace(model.config, **changes)
  return model.clone(config=config)


def _permute(params: Params, ffns: Sequence[str]) -> Params:
  """The same function with hidden units and head widths in another order."""
  rng = np.random.default_rng(0)
  layers = params['layers']
  changed = {'attention': _permute_heads(layers['attention'], rng)}
  changed |= {name: _permute_hidden(layers[name], rng) for name in ffns}
  return params | {'layers': layers | changed}


def _permute_heads(attention: Params, rng: np.random.Generator) -> Params:
  """Replicas and layers lead: query is [R, L, E, H, D], out [R, L, H, D, E]."""
  attention = dict(attention)
  head = rng.permutation(attention['query'].shape[-1])
  for name in ('query', 'key', 'value'):
    attention[name] = attention[name][..., head]
  attention['out'] = attention['out'][:, :, :, head]
  for name in ('query_norm', 'key_norm'):
    if name in attention:
      attention[name] = {'scale': attention[name]['scale'][..., head]}
  return attention


def _permute_hidden(ffn: Params, rng: np.random.Generator) -> Params:
  """Replicas and layers lead: in is [R, L, E, F], out [R, L, F, E]."""
  kernels = {name: part['kernel'] for name, part in ffn.items()}
  hidden = rng.permutation(kernels['out'].shape[2])
  return {
    name: {
      'kernel': kernel[:, :, hidden] if name == 'out' else kernel[..., hidden]
    }
    for name, kernel in kernels.items()
  }


def _distance(one_CV: np.ndarray, other_CV: np.ndarray) -> float:
  """Largest difference of any logit; infinite where one is not finite."""
  distance = np.abs(one_CV.astype(np.float64) - other_CV).max()
  return float(distance) if np.isfinite(distance) else float('inf')
