"""Arithmetic units, one protocol, one file a family."""

from extrap.models.units.additive import NAU, NACAdd
from extrap.models.units.base import (
  OPERATIONS,
  UNITS,
  Bounded,
  Bounds,
  Unit,
  UnitLayer,
)
from extrap.models.units.baselines import Linear, ReLU, ReLU6
from extrap.models.units.division import NMRU, NRU
from extrap.models.units.dmu import DMU
from extrap.models.units.gated import GNALU, NALU, GatedNAUNMU
from extrap.models.units.inalu import INALU
from extrap.models.units.mass import MCFC, MulMCFC
from extrap.models.units.multiplicative import (
  NMU,
  SNMU,
  NACMul,
  NACMulNMU,
  NACMulSigma,
)
from extrap.models.units.power import NPU, RealNPU
from extrap.models.units.register import StatusRegister
from extrap.models.units.two_layers import MODELS, TwoLayers, two_layers

__all__ = [
  'DMU',
  'GNALU',
  'INALU',
  'MCFC',
  'MODELS',
  'NALU',
  'NAU',
  'NMRU',
  'NMU',
  'NPU',
  'NRU',
  'OPERATIONS',
  'SNMU',
  'UNITS',
  'Bounded',
  'Bounds',
  'GatedNAUNMU',
  'Linear',
  'MulMCFC',
  'NACAdd',
  'NACMul',
  'NACMulNMU',
  'NACMulSigma',
  'ReLU',
  'ReLU6',
  'RealNPU',
  'StatusRegister',
  'TwoLayers',
  'Unit',
  'UnitLayer',
  'two_layers',
]
