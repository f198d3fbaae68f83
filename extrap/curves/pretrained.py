"""What networks that come along have in common: sizes, parameters, a file."""

import os
from pathlib import Path
from typing import ClassVar, Self

import jax

from extrap.curves import weights
from extrap.curves.causal_pfn import CausalPFN, CausalPFNConfig
from extrap.training.problem import Params


class Pretrained:
  """A network and its parameters, on the device.

  Class attributes:
    shipped: the file of the network that comes along.
    kind: what it forecasts, as its file says.
  """

  shipped: ClassVar[Path]
  kind: ClassVar[str]

  def __init__(self, config: CausalPFNConfig, params: Params) -> None:
    self.model = CausalPFN(config)
    self.params = jax.device_put(params)

  @classmethod
  def load(cls, path: str | os.PathLike[str] | None = None) -> Self:
    """The network of a file, by default the one that comes along.

    Raises:
      ExtrapError: there is no such file, or it holds no network, or one of
        another kind.
    """
    return cls(*weights.load(path or cls.shipped, cls.kind))
