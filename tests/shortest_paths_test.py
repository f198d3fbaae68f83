"""Shortest paths: graphs, single hops, and hops that are repeated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap.composition import CompositionProblem
from extrap.models.comparators import HEADS
from extrap.models.composites import Relaxation
from extrap.models.units import NAU
from extrap.relaxation import path_errors
from extrap.tasks.shortest_paths import ShortestPaths, dijkstra


def relaxed(neighbour_NK, weight_NK, distance_N):
  """One hop, written out."""
  return np.min(distance_N[neighbour_NK] + weight_NK, axis=1)


def test_training_shows_every_hop_of_one_graph():
  task = ShortestPaths()
  x_BI, answer_B = map(np.asarray, jax.jit(task.sample)(jax.random.key(3)))
  assert x_BI.shape == (task.rows, task.numbers) == (90, 20)
  pair = x_BI.reshape(9, 10, 10, 2)
  np.testing.assert_array_equal(
    answer_B.reshape(9, 10), pair.sum(axis=3).min(axis=2)
  )
  # What a hop gives is what the next one reads: a node sees itself at 0.
  own = np.einsum('tnnp->tnp', pair)
  np.testing.assert_array_equal(own[1:, :, 0], answer_B.reshape(9, 10)[:-1])
  assert (own[:, :, 1] == 0).all()
  assert sorted(own[0, :, 0]) == [0] + [100] * 9
  weights = pair[0, :, :, 1]
  np.testing.assert_array_equal(weights, weights.T)
  assert weights.max() <= 9 and (weights > 0).sum() >= 2 * 9
  last = answer_B.reshape(9, 10)[-1]
  assert last.max() < 100  # All nodes are reached.
  edges = [
    {int(j): int(row[j]) for j in np.flatnonzero(row)} for row in weights
  ]
  start = int(np.argmin(own[0, :, 0]))
  assert dijkstra(edges, start)[0] == last.tolist()
  other, _ = task.sample(jax.random.key(4))
  assert (np.asarray(other) != x_BI).any()


@pytest.mark.parametrize('nodes', [2, 40])
def test_distances_are_those_that_hops_come_to(nodes):
  graphs = ShortestPaths().test(nodes, 80, 5)
  for graph in graphs:
    distance_N = graph.begin_N
    assert sorted(distance_N)[:2] == [0, nodes * 80]
    for _ in range(graph.hops):
      distance_N = relaxed(graph.neighbour_NK, graph.weight_NK, distance_N)
    np.testing.assert_array_equal(distance_N, graph.distance_N)
    assert (graph.neighbour_NK[:, -1] == np.arange(nodes)).all()
  assert max(graph.weight_NK.max() for graph in graphs) > 40
  degrees = [np.mean((g.weight_NK > 0).sum(axis=1)) for g in graphs]
  assert 1 <= np.mean(degrees) < 3.5


def test_a_distance_counts_by_weight_and_a_path_by_hops():
  edges = [{1: 9, 2: 1}, {0: 9, 3: 1}, {0: 1, 3: 1}, {1: 1, 2: 1}]
  assert dijkstra(edges, 0) == ([0, 3, 1, 2], 3)


def test_hops_with_right_weights_find_the_paths_of_large_graphs():
  problem = CompositionProblem(
    task=ShortestPaths(), model=Relaxation(HEADS['nsr'](1, jnp.float32))
  )
  params = jax.jit(problem.init)(jax.random.key(0))
  params['message'] = {'weight': jnp.ones((2, 1)), 'bias': jnp.zeros((1, 1))}
  params['head'] = {
    'first': jnp.array([[0.0], [40.0]]),
    'second': jnp.array([[40.0], [0.0]]),
    'sign': jnp.full((1, 1), 60.0),
    'zero': jnp.zeros((1, 1)),
    'bias': jnp.zeros((1, 1)),
  }
  wrong = jax.tree.map(lambda leaf: leaf, params)
  wrong['message'] = params['message'] | {'bias': jnp.ones((1, 1))}
  both = jax.tree.map(lambda *leaves: jnp.stack(leaves), params, wrong)
  graphs = ShortestPaths().test(40, 80, 3)
  found = path_errors(problem, both, graphs)
  assert found[0] < 1e-3
  assert found[1] == pytest.approx(max(g.hops for g in graphs), abs=1e-3)
  lost = both | {
    'message': both['message'] | {'bias': jnp.full((2, 1, 1), jnp.nan)}
  }
  assert np.isinf(path_errors(problem, lost, graphs)).all()


def test_messages_of_an_arithmetic_unit_are_sums():
  relaxation = Relaxation(HEADS['nsr'](1, jnp.float32), NAU())
  x_BI = jnp.array([[3.0, 4.0, 1.0, 9.0]])
  params = relaxation.init(jax.random.key(0), x_BI)
  (weight,) = jax.tree.leaves(params['message'])
  assert weight.shape == (2, 1), 'a weight for each of two numbers, no bias'
  half = params | {
    'message': jax.tree.map(lambda x: jnp.full_like(x, 0.5), params['message'])
  }
  whole = params | {
    'message': jax.tree.map(lambda x: jnp.full_like(x, 3.0), params['message'])
  }
  assert relaxation.penalty(half) > relaxation.penalty(
    relaxation.project(whole)
  )
  projected = relaxation.project(whole)
  assert jax.tree.leaves(projected['message'])[0].max() == 1.0
  low, high = 7.0, 10.0
  found = relaxation.apply(projected, x_BI, 1.0)
  assert low <= float(found[0]) <= high
