"""How much rounding changes a logit, measured.

Logits are compared with those of float64 arithmetic, another order of
summation, gathered keys, and places that are further on.

Shape key: R replicas, C contexts, V vocabulary; of weights L layers, E width, H
heads, D head width, F hidden units.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from extrap.evaluation.context_logits import context_logits, variant
from extrap.evaluation.contexts import Contexts
from extrap.evaluation.every_context import contexts_for
from extrap.models.layers import ffn_names
from extrap.models.transformer import Params, Transformer
from extrap.tasks.numbers import NumberTask

SHIFT, SHIFTED = 300, 500  # places moved, and contexts checked so


class Rounding:
  """Largest differences of a logit, by their cause, in each replica.

  Args:
    model: one layer, hard window of places.
    params: leading replica axis.
    task: what was learned.
  """

  def __init__(self, model: Transformer, params: Params, task: NumberTask):
    logits = functools.partial(context_logits, model, params, task)
    gathered = variant(model, attention='gathered')
    permuted = reordered(params, ffn_names(model.config))
    self._others = {
      'float64': functools.partial(_in_float64, model, params, task),
      'summation order': functools.partial(
        context_logits, model, permuted, task
      ),
      'gathered keys': functools.partial(
        context_logits, gathered, params, task, near=False
      ),
    }
    self._found = {cause: np.zeros(1) for cause in self._others}
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
      for cause, logits in self._others.items():
        self._keep(cause, logits_RCV, logits(contexts))

  def _keep(
    self, cause: str, one_RCV: np.ndarray, other_RCV: np.ndarray
  ) -> None:
    pairs = zip(one_RCV, other_RCV, strict=True)
    distance_R = [_distance(one_CV, other_CV) for one_CV, other_CV in pairs]
    self._found[cause] = np.maximum(self._found.get(cause, 0.0), distance_R)

  def largest(self) -> list[dict[str, float]]:
    """For each replica, by cause."""
    replicas = zip(*self._found.values(), strict=True)
    return [
      dict(zip(self._found, map(float, one), strict=True)) for one in replicas
    ]


def _in_float64(
  model: Transformer, params: Params, task: NumberTask, contexts: Contexts
) -> np.ndarray:
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
    return context_logits(variant(model, dtype='float64'), wide, task, contexts)


def reordered(params: Params, ffns: Sequence[str]) -> Params:
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
