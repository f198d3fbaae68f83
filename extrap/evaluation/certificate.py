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

Shape key: R replicas, C contexts, V vocabulary, T tokens, B rows of a call.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from extrap.errors import UsageError
from extrap.evaluation.contexts import Contexts
from extrap.evaluation.operation_contexts import operation_contexts
from extrap.evaluation.product_contexts import product_contexts
from extrap.evaluation.results import Provenance, Result
from extrap.evaluation.string_contexts import string_contexts
from extrap.models.positions import PlaceWindow
from extrap.models.transformer import Params, Transformer
from extrap.tasks.multiplication import Multiplication
from extrap.tasks.numbers import NumberTask
from extrap.tasks.strings import StringTask

SAFETY = 100  # how many times the largest difference the margin must be
SHIFT, SHIFTED = 300, 500  # places moved, and contexts checked so
TOKENS = 1 << 15  # of one call and replica: bounds memory

STATEMENT = (
  'In one layer whose heads see a bounded window of places, and nothing that '
  'tells the place itself, each token of the answer is a function of the '
  'digits in that window and of the token before it. Every context that can '
  'occur, at the start, inside and at the end of an answer of any length, was '
  'enumerated, and the most likely token is right in each. By induction over '
  'the answer: the first query sees the prompt alone, and once all tokens so '
  'far are right, the next query stands in one of these contexts. Hence the '
  'answer is right at every length, up to rounding: the smallest margin is at '
  f'least {SAFETY} times the largest difference of a logit that float64, '
  'another order of hidden units and head widths, gathered keys or a shift '
  'of all places made (measured, not derived).'
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
  model: Transformer, params: Params, task: NumberTask
) -> list[Certificate]:
  """Certifies every replica of a population.

  Args:
    model: one layer, hard window of places.
    params: leading replica axis.
    task: see `contexts_of`.

  Raises:
    UsageError: the model cannot be certified.
  """
  behind, ahead = check_model(model)
  contexts = contexts_of(task, behind, ahead)
  moved, still = _moved(task, contexts, behind, ahead)

  def logits(model: Transformer, params: Params, at: Contexts) -> np.ndarray:
    return _logits(model, params, task, at)

  base_RCV = logits(model, params, contexts)
  gathered = _variant(model, attention='gathered')
  others = {
    'float64': _in_float64(model, params, task, contexts),
    'summation order': logits(model, _permute(params), contexts),
    'gathered keys': logits(gathered, params, contexts),
  }
  moved_RXV = logits(model, params, moved)
  certificates = []
  for replica, base_CV in enumerate(base_RCV):
    rounding = {
      cause: _distance(base_CV, other_RCV[replica])
      for cause, other_RCV in others.items()
    }
    rounding[f'{SHIFT} places further'] = _distance(
      base_CV[still], moved_RXV[replica]
    )
    certificates.append(_judge(task, contexts, base_CV, rounding))
  return certificates


@functools.lru_cache(maxsize=8)
def contexts_of(
  task: NumberTask, behind: int, ahead: int, **some: int
) -> Contexts:
  """All contexts of a task, kept; see `operation_contexts`.

  Raises:
    UsageError: they are not enumerated, or too many.
  """
  if isinstance(task, StringTask):
    return string_contexts(task, behind, ahead, **some)
  if isinstance(task, Multiplication):
    return product_contexts(task, behind, ahead, **some)
  return operation_contexts(task, behind, ahead, **some)


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


def _moved(
  task: NumberTask, contexts: Contexts, behind: int, ahead: int
) -> tuple[Contexts, np.ndarray]:
  """Some contexts further up in longer numbers, and their rows."""
  moved = contexts_of(task, behind, ahead, shift=SHIFT, most=SHIFTED)
  row = {tuple(shown): row for row, shown in enumerate(contexts.shown)}
  return moved, np.array([row[tuple(shown)] for shown in moved.shown])


def _judge(
  task: NumberTask,
  contexts: Contexts,
  logits_CV: np.ndarray,
  rounding: dict[str, float],
) -> Certificate:
  """The certificate of one replica, from its logits."""
  margin_C = _margins(logits_CV, contexts.target)
  tightest, wrong_C = int(np.argmin(margin_C)), ~(margin_C > 0)
  offender = None
  if wrong_C.any():
    row = int(np.argmax(wrong_C))
    offender = (
      f'{contexts.describe(task, row)}: right is '
      f'{task.names[contexts.target[row]]}, the model says '
      f'{task.names[int(np.argmax(logits_CV[row]))]}'
    )
  return Certificate(
    contexts=len(contexts),
    wrong=int(wrong_C.sum()),
    margin=float(margin_C[tightest]),
    tightest=contexts.describe(task, tightest),
    rounding=rounding,
    offender=offender,
  )


def _margins(logits_CV: np.ndarray, target_C: np.ndarray) -> np.ndarray:
  """Right logit less the best wrong one; -inf where not finite."""
  row_C = np.arange(len(target_C))
  others_CV = logits_CV.copy()
  others_CV[row_C, target_C] = -np.inf
  margin_C = logits_CV[row_C, target_C] - others_CV.max(axis=1)
  return np.where(np.isfinite(logits_CV).all(axis=1), margin_C, -np.inf)


def _logits(
  model: Transformer, params: Params, task: NumberTask, contexts: Contexts
) -> np.ndarray:
  """Logits [R, C, V] of the one query asked in each context."""
  run = _program(model, task)
  rows = max(1, TOKENS // contexts.tokens.shape[1])
  parts = []
  for first in range(0, len(contexts), rows):
    # The last call repeats a row, so that every call has the same shape.
    take = np.minimum(np.arange(first, first + rows), len(contexts) - 1)
    tokens_BT, query_B = contexts.tokens[take], contexts.query[take]
    parts.append(np.asarray(run(params, tokens_BT, query_B[:, None])))
  return np.concatenate(parts, axis=1)[:, : len(contexts)]


@functools.lru_cache(maxsize=8)
def _program(model: Transformer, task: NumberTask) -> Callable:
  """(params of all replicas, tokens, query) -> logits [R, B, V]."""

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, None, None))
  def run(params: Params, tokens_BT: jax.Array, query_B1: jax.Array):
    logits_B1V = model.apply(
      {'params': params}, tokens_BT, task.structure(tokens_BT), query_B1
    )
    return logits_B1V[:, 0]

  return run


def _in_float64(
  model: Transformer, params: Params, task: NumberTask, contexts: Contexts
) -> np.ndarray:
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
    return _logits(_variant(model, dtype='float64'), wide, task, contexts)


def _variant(model: Transformer, **changes: str) -> Transformer:
  config = dataclasses.replace(model.config, **changes)
  return model.clone(config=config)


def _permute(params: Params) -> Params:
  """The same function with hidden units and head widths in another order."""
  rng = np.random.default_rng(0)
  attention = dict(params['layers']['attention'])
  ffn = {name: dict(part) for name, part in params['layers']['ffn'].items()}
  # Replicas and layers lead: query is [R, L, E, H, D], out [R, L, H, D, E].
  head = rng.permutation(attention['query'].shape[-1])
  for name in ('query', 'key', 'value'):
    attention[name] = attention[name][..., head]
  attention['out'] = attention['out'][:, :, :, head]
  for name in ('query_norm', 'key_norm'):
    if name in attention:
      attention[name] = {'scale': attention[name]['scale'][..., head]}
  hidden = rng.permutation(ffn['out']['kernel'].shape[2])
  for name in ffn:
    kernel = ffn[name]['kernel']
    ffn[name]['kernel'] = (
      kernel[:, :, hidden] if name == 'out' else kernel[..., hidden]
    )
  layers = params['layers'] | {'attention': attention, 'ffn': ffn}
  return params | {'layers': layers}


def _distance(one_CV: np.ndarray, other_CV: np.ndarray) -> float:
  """Largest difference of any logit; infinite where one is not finite."""
  distance = np.abs(one_CV.astype(np.float64) - other_CV).max()
  return float(distance) if np.isfinite(distance) else float('inf')
