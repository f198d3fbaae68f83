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
  'ReLU',
  'Sin',
  'Siren',
  'Snake',
  'Tanh',
  'XPlusSin',
  'fan',
  'fourier_features',
  'snake',
  'snake_mean',
  'snake_variance',
]
