"""Shortest paths by repeating a hop that a model has learned.

Shape key: G graphs, N nodes, K neighbours, I numbers of a node, R replicas.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from extrap.composition import CompositionProblem
from extrap.models.comparators import Params
from extrap.tasks.shortest_paths import Graph


def path_errors(
  problem: CompositionProblem, params: Params, graphs: Sequence[Graph]
) -> np.ndarray:
  """Mean absolute error of distances after all hops, [R].

  Args:
    problem: what was trained.
    params: leading axis of replicas.
    graphs: of equally many nodes; each has as many hops as the longest needs.
  """
  dtype, widest = np.dtype(problem.dtype), _widest(graphs)
  neighbour_GNK = np.stack([_filled(g.neighbour_NK, widest) for g in graphs])
  weight_GNK = np.stack([_filled(g.weight_NK, widest) for g in graphs])
  begin_GN = np.stack([g.begin_N for g in graphs])
  distance_GN = np.stack([g.distance_N for g in graphs])
  hops = max(g.hops for g in graphs)
  arrays = (x.astype(dtype) for x in (weight_GNK, begin_GN, distance_GN))
  return np.asarray(_path_errors(problem, params, hops, neighbour_GNK, *arrays))


def _widest(graphs: Sequence[Graph]) -> int:
  return max(graph.neighbour_NK.shape[1] for graph in graphs)


def _filled(array_NK: np.ndarray, widest: int) -> np.ndarray:
  """The last neighbour, which is the node itself, as often as is needed."""
  more = widest - array_NK.shape[1]
  return np.pad(array_NK, ((0, 0), (0, more)), mode='edge')


@functools.partial(jax.jit, static_argnums=0)
def _path_errors(
  problem: CompositionProblem,
  params: Params,
  hops: jax.Array,
  neighbour_GNK: jax.Array,
  weight_GNK: jax.Array,
  begin_GN: jax.Array,
  distance_GN: jax.Array,
) -> jax.Array:
  final = problem.sharpening.final
  nodes = begin_GN.shape[1]

  def found(params: Params) -> jax.Array:
    def hop(_: int, now_GN: jax.Array) -> jax.Array:
      from_GNK = jax.vmap(lambda now_N, at_NK: now_N[at_NK])(
        now_GN, neighbour_GNK
      )
      pair = jnp.stack([from_GNK, weight_GNK], axis=3)
      x_BI = pair.reshape(pair.shape[0] * nodes, -1)
      return problem.answer(params, x_BI, final).reshape(now_GN.shape)

    return jax.lax.fori_loop(0, hops, hop, begin_GN)

  error_R = jax.vmap(
    lambda params: jnp.mean(jnp.abs(found(params) - distance_GN))
  )(params)
  return jnp.where(jnp.isfinite(error_R), error_R, jnp.inf)
