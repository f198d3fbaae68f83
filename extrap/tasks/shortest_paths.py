"""Shortest paths from a node of a random graph, hop by hop.

In a hop the distance of each node becomes the least of its neighbours'
distances, each with the weight of the edge between them, and its own. A model
learns single hops of one small graph (Faber and Wattenhofer 2020, arXiv
2004.07085) and is tested on whole paths of larger ones.

Shape key: B nodes in all hops of training, I numbers of each, N nodes, K
neighbours of a node, itself among them.
"""

import dataclasses
import heapq
import random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from extrap.randomness import named
from extrap.tasks.comparing_functions import uniform

FURTHER = 0.5  # Edges beside those of a tree, a pair: this over the nodes.


class Graph(NamedTuple):
  """A connected graph of a test, on the host.

  Attributes:
    neighbour_NK: of each node; itself, as often as is needed to fill up.
    weight_NK: of the edges; 0 to itself.
    begin_N: distances before the first hop: 0 at the start, else more than
      any path has.
    distance_N: the answer.
    hops: of the shortest paths, at most.
  """

  neighbour_NK: np.ndarray
  weight_NK: np.ndarray
  begin_N: np.ndarray
  distance_N: np.ndarray
  hops: int


@dataclasses.dataclass(frozen=True)
class ShortestPaths:
  """The task; see the module's docstring.

  Attributes:
    nodes: of the graph of training; below: what its weights are below.
  """

  nodes: int = 10
  below: int = 10

  @property
  def numbers(self) -> int:
    """Distance and weight of each neighbour, where all nodes are some."""
    return 2 * self.nodes

  @property
  def rows(self) -> int:
    """Nodes in all hops."""
    return self.nodes * (self.nodes - 1)

  def sample(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each node in each hop, inputs [B, I] and answers [B]; integers.

    Inputs are distance and weight of every neighbour; a node that is none is
    replaced by the node itself, at a weight of 0.
    """
    n = self.nodes
    edge_NN, weight_NN = self._edges(key)
    start = uniform(named(key, 'start'), (), 0, n - 1)
    distance_N = jnp.where(jnp.arange(n) == start, 0, n * self.below)

    def hop(
      distance_N: jax.Array, _: None
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
      own_NN = jnp.broadcast_to(distance_N[:, None], (n, n))
      from_NN = jnp.where(edge_NN, distance_N[None], own_NN)
      next_N = jnp.min(from_NN + weight_NN, axis=1)
      x_NI = jnp.stack([from_NN, weight_NN], axis=2).reshape(n, -1)
      return next_N, (x_NI, next_N)

    _, (x, answer) = jax.lax.scan(hop, distance_N, length=n - 1)
    return x.reshape(-1, self.numbers), answer.reshape(-1)

  def _edges(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether two nodes are neighbours, and the weights, 0 where not."""
    n = self.nodes
    share_N = jax.random.uniform(named(key, 'tree'), (n,))
    parent_N = jnp.int32(share_N * jnp.arange(n))
    tree_NN = parent_N[:, None] == jnp.arange(n)[None]
    further_NN = jax.random.bernoulli(named(key, 'edges'), FURTHER / n, (n, n))
    edge_NN = jnp.tril(tree_NN | further_NN, -1)
    weight_NN = uniform(named(key, 'weights'), (n, n), 1, self.below - 1)
    weight_NN = jnp.where(edge_NN, weight_NN, 0)
    return edge_NN | edge_NN.T, weight_NN + weight_NN.T

  def test(self, nodes: int, below: int, graphs: int) -> list[Graph]:
    """Graphs of so many nodes, with weights below a number."""
    draws = random.Random(f'{nodes} {below}')
    return [_graph(draws, nodes, below) for _ in range(graphs)]


def _graph(draws: random.Random, nodes: int, below: int) -> Graph:
  edges: list[dict[int, int]] = [{} for _ in range(nodes)]
  for node in range(1, nodes):
    parent = draws.randrange(node)
    for other in range(node):
      if other == parent or draws.random() < FURTHER / nodes:
        weight = draws.randint(1, below - 1)
        edges[node][other] = edges[other][node] = weight
  start = draws.randrange(nodes)
  distances, hops = dijkstra(edges, start)
  widest = 1 + max(map(len, edges))
  neighbour_NK = np.repeat(np.arange(nodes)[:, None], widest, axis=1)
  weight_NK = np.zeros((nodes, widest), int)
  for node, of_node in enumerate(edges):
    neighbour_NK[node, : len(of_node)] = list(of_node)
    weight_NK[node, : len(of_node)] = list(of_node.values())
  begin_N = np.where(np.arange(nodes) == start, 0, nodes * below)
  return Graph(neighbour_NK, weight_NK, begin_N, np.array(distances), hops)


def dijkstra(edges: list[dict[int, int]], start: int) -> tuple[list[int], int]:
  """Distances from a node, and the most hops that a shortest path needs.

  Args:
    edges: of each node, weights by the other node.
    start: the node.
  """
  found: dict[int, tuple[int, int]] = {}
  queue = [(0, 0, start)]
  while queue:
    distance, hops, node = heapq.heappop(queue)
    if node in found:
      continue
    found[node] = distance, hops
    for other, weight in edges[node].items():
      if other not in found:
        heapq.heappush(queue, (distance + weight, hops + 1, other))
  nodes = range(len(edges))
  return [found[node][0] for node in nodes], max(h for _, h in found.values())
