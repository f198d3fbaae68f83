"""All contexts that a model meets in a task, where they are finitely many."""

import functools

from extrap.errors import UsageError
from extrap.evaluation.contexts import Enumeration
from extrap.evaluation.operation_contexts import operation_contexts
from extrap.evaluation.product_contexts import product_contexts
from extrap.evaluation.product_trace_contexts import product_trace_contexts
from extrap.evaluation.string_contexts import string_contexts
from extrap.evaluation.summation_contexts import summation_contexts
from extrap.evaluation.trace_contexts import trace_contexts
from extrap.models.positions import PlaceWindow
from extrap.models.transformer import Transformer
from extrap.tasks.multiplication import Multiplication
from extrap.tasks.numbers import NumberTask
from extrap.tasks.product_trace import ProductTrace
from extrap.tasks.strings import StringTask
from extrap.tasks.summation import Summation


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
