"""The two-layer models of the arithmetic benchmark, by name.

Shape key: B examples, I inputs, O outputs.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from extrap.errors import UsageError
from extrap.models.units.base import UNITS, Unit, UnitLayer
from extrap.models.weights import Weights
from extrap.randomness import named

# The names of units in the first and in the second layer. The first eleven are
# Madsen and Johansen's (2020, arXiv 2001.05016); behind them come the units
# that were published without such a model, after an NAU where they only
# multiply.
MODELS: Mapping[str, tuple[str, str]] = {
  'linear': ('linear', 'linear'),
  'relu': ('relu', 'linear'),
  'relu6': ('relu6', 'linear'),
  'nac_add': ('nac_add', 'nac_add'),
  'nac_mul': ('nac_add', 'nac_mul'),
  'nac_mul_sigma': ('nac_add', 'nac_mul_sigma'),
  'nac_mul_nmu': ('nau', 'nac_mul_nmu'),
  'nalu': ('nalu', 'nalu'),
  'nau': ('nau', 'nau'),
  'nmu': ('nau', 'nmu'),
  'gated_nau_nmu': ('gated_nau_nmu', 'gated_nau_nmu'),
  'g_nalu': ('g_nalu', 'g_nalu'),
  'inalu': ('inalu', 'inalu'),
  'snmu': ('nau', 'snmu'),
  'npu': ('nau', 'npu'),
  'real_npu': ('nau', 'real_npu'),
  'nru': ('nau', 'nru'),
  'nmru': ('nau', 'nmru'),
  'mcfc': ('mcfc', 'mcfc'),
  'mul_mcfc': ('mcfc', 'mul_mcfc'),
  'dmu': ('nau', 'dmu'),
}
LAYERS = ('first', 'second')

Params = Mapping[str, Weights]


class TwoLayers(nn.Module):
  """One unit after another: sums of inputs, then an operation on them.

  Attributes:
    first: unit of the first layer.
    second: unit of the second.
    hidden: outputs of the first.
    outputs: outputs of the second.
    dtype: type of the parameters.
  """

  first: Unit
  second: Unit
  hidden: int = 2
  outputs: int = 1
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(
    self, x_BI: jax.Array, key: jax.Array | None = None
  ) -> jax.Array:
    """[B, O]; the key is the randomness of training, None in evaluation."""
    for name, width in zip(LAYERS, (self.hidden, self.outputs), strict=True):
      layer = UnitLayer(getattr(self, name), width, self.dtype, name=name)
      x_BI = layer(x_BI, None if key is None else named(key, name))
    return x_BI

  @nn.nowrap
  def products(self, params: Params) -> dict[str, jax.Array]:
    """What inputs are multiplied by, as `Unit.products` of the first layer."""
    return self.first.products(params['first'])

  @nn.nowrap
  def finish(
    self,
    params: Params,
    product: Mapping[str, jax.Array],
    key: jax.Array | None = None,
  ) -> jax.Array:
    """What the model makes of these products, [B, O]."""
    hidden_BI = self.first.finish(params['first'], product)
    key = None if key is None else named(key, 'second')
    return self.second.apply(params['second'], hidden_BI, key)

  @nn.nowrap
  def project(self, params: Params) -> dict[str, Weights]:
    """Parameters clipped to where they belong, after an update."""
    return {name: getattr(self, name).project(params[name]) for name in LAYERS}

  @nn.nowrap
  def penalty(self, params: Params) -> jax.Array:
    """What is added to the loss, times a factor: the sum over layers."""
    return sum(getattr(self, name).penalty(params[name]) for name in LAYERS)

  @nn.nowrap
  def sparsity_error(self, params: Params) -> jax.Array:
    """Largest distance of a weight of either layer from -1, 0 or 1."""
    errors = [
      getattr(self, name).sparsity_error(params[name]) for name in LAYERS
    ]
    return jnp.max(jnp.stack(errors))


def two_layers(
  name: str,
  hidden: int = 2,
  outputs: int = 1,
  dtype: jax.typing.DTypeLike = jnp.float32,
) -> TwoLayers:
  """The model of that name, its units at their default settings.

  Raises:
    UsageError: there is none.
  """
  if name not in MODELS:
    known = ', '.join(sorted(MODELS))
    raise UsageError(f'unknown two-layer model {name!r}; known: {known}')
  first, second = (UNITS.get(unit)() for unit in MODELS[name])
  return TwoLayers(first, second, hidden, outputs, dtype)
