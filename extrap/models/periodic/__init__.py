"""Periodic activations and layers, one file a kind."""

from extrap.models.periodic.activation import (
  ACTIVATIONS,
  ActivatedLayer,
  Activation,
  ReLU,
  Sin,
  Tanh,
  XPlusSin,
)
from extrap.models.periodic.fan import FANLayer, fan
from extrap.models.periodic.fourier import FourierFeatures, fourier_features
from extrap.models.periodic.least_squares import (
  least_squares,
  matching_pursuit,
)
from extrap.models.periodic.lines import LineSpectrum, amplitudes
from extrap.models.periodic.network import (
  Network,
  fan_network,
  fourier_network,
  mlp,
)
from extrap.models.periodic.siren import Siren
from extrap.models.periodic.snake import (
  Snake,
  snake,
  snake_mean,
  snake_variance,
)

__all__ = [
  'ACTIVATIONS',
  'ActivatedLayer',
  'Activation',
  'FANLayer',
  'FourierFeatures',
  'LineSpectrum',
  'Network',
  'ReLU',
  'Sin',
  'Siren',
  'Snake',
  'Tanh',
  'XPlusSin',
  'amplitudes',
  'fan',
  'fan_network',
  'fourier_features',
  'fourier_network',
  'least_squares',
  'matching_pursuit',
  'mlp',
  'snake',
  'snake_mean',
  'snake_variance',
]
