"""What the studies of arithmetic units have in common: settings and ranges."""

import dataclasses
from collections.abc import Mapping, Sequence

from extrap.config import option
from extrap.factors import UNREGULARISED, Fading, Ramp
from extrap.models.units import two_layers
from extrap.regression import ArithmeticArm
from extrap.tasks.arithmetic import Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pinning:
  """The flag of studies whose weights have bounds."""

  pinned: bool = option(
    False,
    'whether weights at a bound have no gradient that leads beyond it: for '
    '--train.optimizer=rotated_adam, which would move all others, too',
  )


NMU_RAMP = Ramp(10.0, 1_000_000, 2_000_000)
# Of two-layer models (Madsen and Johansen 2020, arXiv 2001.05016).
RAMPS: Mapping[str, Ramp] = {
  'nmu': NMU_RAMP,
  'nac_mul_nmu': NMU_RAMP,
  'snmu': NMU_RAMP,
  'gated_nau_nmu': NMU_RAMP,
  'nau': Ramp(0.01, 5_000, 50_000),
}
# The range of training and that of the test, or two of equal width.
RANGES: Mapping[str, tuple[Range, Range]] = {
  '-20..-10': ((-20.0, -10.0), (-40.0, -20.0)),
  '-2..-1': ((-2.0, -1.0), (-6.0, -2.0)),
  '-1.2..-1.1': ((-1.2, -1.1), (-6.1, -1.2)),
  '-0.2..-0.1': ((-0.2, -0.1), (-2.0, -0.2)),
  '-2..2': ((-2.0, 2.0), (-6.0, -2.0, 2.0, 6.0)),
  '0..1': ((0.0, 1.0), (1.0, 5.0)),
  '0.1..0.2': ((0.1, 0.2), (0.2, 2.0)),
  '1..2': ((1.0, 2.0), (2.0, 6.0)),
  '1.1..1.2': ((1.1, 1.2), (1.2, 6.0)),
  '10..20': ((10.0, 20.0), (20.0, 40.0)),
}


def two_layer_arm(
  unit: str,
  operations: Sequence[str],
  *,
  hidden: int = 2,
  factor: float | None = None,
  onset: float = 1.0,
  decay: Fading | None = None,
) -> ArithmeticArm:
  """A two-layer model with its regulariser; all of a name begin alike.

  Args:
    unit: of `MODELS`.
    operations: what it learns.
    hidden: outputs of the first layer.
    factor: of the regulariser if the model has one, in place of its own.
    onset: what the steps are multiplied by between which it sets in.
    decay: of the learning rate.
  """
  ramp = RAMPS.get(unit, UNREGULARISED)
  if ramp.factor:
    factor = ramp.factor if factor is None else factor
    ramp = Ramp(factor, round(onset * ramp.start), round(onset * ramp.end))
  model = two_layers(unit, hidden)
  return ArithmeticArm(model, tuple(operations), ramp, decay=decay, like=unit)
