"""Forecasting learning curves; usable without the rest of the project.

The names below are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from extrap.curves.forecast import Forecast
  from extrap.curves.lcpfn import LCPFN
  from extrap.curves.reading import Curve, read_curves

_HOMES = {
  'Curve': 'extrap.curves.reading',
  'Forecast': 'extrap.curves.forecast',
  'LCPFN': 'extrap.curves.lcpfn',
  'read_curves': 'extrap.curves.reading',
}

__all__ = ['LCPFN', 'Curve', 'Forecast', 'read_curves']


def __getattr__(name: str) -> object:
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_HOMES[name]), name)
