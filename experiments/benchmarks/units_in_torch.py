"""One run of the arithmetic benchmark in PyTorch, laid out as the original.

AndreasMadsen/stable-nalu trains one run a process: every iteration numpy draws
the inputs in double precision and sums the subsets, both become float32
tensors, and two layers, the squared error, its regulariser, Adam and clipping
follow, an operation at a time; every 1,000 iterations 10,000 validation and
10,000 test examples are scored. So it is here, written anew, without what the
original does besides: logs for TensorBoard, messages, a temperature that is not
used. That favours this side.

Imported only where PyTorch is compared with; it is no requirement.

Shape key: B examples, I inputs, O outputs.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from extrap.factors import Ramp
from extrap.models.units import MODELS
from extrap.models.units.base import EPSILON
from extrap.regression import HELD_OUT, SPLITS
from extrap.tasks.arithmetic import OPERATIONS, Arithmetic

Weights = Mapping[str, torch.Tensor]
Layer = Callable[[Weights, torch.Tensor], torch.Tensor]
BOUNDS = {'nau': (-1.0, 1.0), 'nmu': (0.0, 1.0)}  # Weights are clipped there.

torch.set_num_threads(1)


def linear(weights: Weights, x_BI: torch.Tensor) -> torch.Tensor:
  return x_BI @ weights['weight'] + weights['bias']


def nau(weights: Weights, x_BI: torch.Tensor) -> torch.Tensor:
  return x_BI @ torch.clamp(weights['weight'], -1.0, 1.0)


def nmu(weights: Weights, x_BI: torch.Tensor) -> torch.Tensor:
  weight_IO = weights['weight']
  return torch.prod(x_BI[:, :, None] * weight_IO + (1 - weight_IO), dim=1)


def nac_add(weights: Weights, x_BI: torch.Tensor) -> torch.Tensor:
  return x_BI @ used(weights)


def nac_mul(weights: Weights, x_BI: torch.Tensor) -> torch.Tensor:
  return torch.exp(torch.log(torch.abs(x_BI) + EPSILON) @ used(weights))


def nalu(weights: Weights, x_BI: torch.Tensor) -> torch.Tensor:
  gate_BO = torch.sigmoid(x_BI @ weights['gate'])
  sum_BO, product_BO = nac_add(weights, x_BI), nac_mul(weights, x_BI)
  return gate_BO * sum_BO + (1 - gate_BO) * product_BO


LAYERS: Mapping[str, Layer] = {
  of.__name__: of for of in (linear, nau, nmu, nac_add, nac_mul, nalu)
}


def used(weights: Weights) -> torch.Tensor:
  """The matrix that ought to be of -1, 0 and 1."""
  if 'weight' in weights:
    return weights['weight']
  return torch.tanh(weights['w_hat']) * torch.sigmoid(weights['m_hat'])


def distance(weight_IO: torch.Tensor) -> torch.Tensor:
  """Of each element from the closest of -1, 0 and 1."""
  size_IO = torch.abs(weight_IO)
  return torch.minimum(size_IO, torch.abs(1 - size_IO))


class Model(nn.Module):
  """Two layers of given weights."""

  def __init__(
    self, unit: str, weights: Mapping[str, Mapping[str, np.ndarray]]
  ) -> None:
    super().__init__()
    self.names = MODELS[unit]
    self.layers = nn.ModuleList(
      nn.ParameterDict(
        {
          name: nn.Parameter(torch.tensor(weight, dtype=torch.float32))
          for name, weight in of.items()
        }
      )
      for of in (weights['first'], weights['second'])
    )

  def forward(self, x_BI: torch.Tensor) -> torch.Tensor:
    for name, weights in zip(self.names, self.layers, strict=True):
      x_BI = LAYERS[name](weights, x_BI)
    return x_BI

  def penalty(self) -> torch.Tensor:
    """The regulariser: the sum over layers."""
    return sum(torch.mean(distance(used(weights))) for weights in self.layers)

  def sparsity_error(self) -> torch.Tensor:
    """Largest distance of a weight of either layer from -1, 0 or 1."""
    errors = [torch.max(distance(used(weights))) for weights in self.layers]
    return torch.max(torch.stack(errors))

  def clip(self) -> None:
    """Weights where they belong, after an update."""
    with torch.no_grad():
      for name, weights in zip(self.names, self.layers, strict=True):
        if name in BOUNDS:
          weights['weight'].clamp_(*BOUNDS[name])


class Run:
  """One model that learns one operation."""

  def __init__(
    self,
    unit: str,
    operation: str,
    weights: Mapping[str, Mapping[str, np.ndarray]],
    task: Arithmetic,
    ramp: Ramp,
    seed: int = 0,
  ) -> None:
    """Makes the model and its held-out sets.

    Args:
      unit: of `MODELS`.
      operation: of `OPERATIONS`.
      weights: to begin with, by layer.
      task: the inputs and their subsets; each range is one interval.
      ramp: of the regulariser.
      seed: of the inputs, and of where the subsets are.
    """
    self._task, self._ramp = task, ramp
    self._operation = OPERATIONS[operation]
    self._offset = task.offset(seed)
    self._rng = np.random.RandomState(seed)
    self._model = Model(unit, weights)
    self._optimizer = torch.optim.Adam(self._model.parameters(), lr=1e-3)
    self._criterion = nn.MSELoss()
    self._held_out = {
      split: self._draw(np.random.RandomState(seed), SPLITS[split], 10_000)
      for split, seed in HELD_OUT.items()
    }

  def _draw(
    self, rng: np.random.RandomState, interval: str, rows: int
  ) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, [B, I], and targets, [B, 1]."""
    task = self._task
    low, high = getattr(task, interval)
    x_BI = rng.uniform(low, high, size=(rows, task.inputs))
    first, second = self._offset, self._offset + task.second
    a_B, b_B = (
      np.sum(x_BI[:, start : start + task.size], axis=1)
      for start in (first, second)
    )
    target_B1 = self._operation(a_B, b_B)[:, None]
    return (
      torch.tensor(x_BI, dtype=torch.float32),
      torch.tensor(target_B1, dtype=torch.float32),
    )

  def evaluate(self) -> dict[str, float]:
    """Held-out errors, and the sparsity error."""
    with torch.no_grad():
      found = {
        split: self._criterion(self._model(x_BI), target_B1).item()
        for split, (x_BI, target_B1) in self._held_out.items()
      }
      return found | {'sparsity': self._model.sparsity_error().item()}

  def train(self, steps: int, batch_size: int, every: int) -> None:
    """Iterations, with an evaluation before each of so many."""
    ramp = self._ramp
    for step in range(steps):
      x_BI, target_B1 = self._draw(self._rng, 'trained', batch_size)
      self._optimizer.zero_grad()
      if step % every == 0:
        self.evaluate()
      loss = self._criterion(self._model(x_BI), target_B1)
      if ramp.factor:
        grown = (step - ramp.start) / (ramp.end - ramp.start)
        scale = ramp.factor * max(0.0, min(1.0, grown))
        loss = loss + scale * self._model.penalty()
      loss.backward()
      self._optimizer.step()
      self._model.clip()
