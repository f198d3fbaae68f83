"""Forecasting learning curves; usable without the rest of the project.

The names below are imported when they are first used.
"""

from typing import TYPE_CHECKING

from extrap.lazy import getter

if TYPE_CHECKING:
  from extrap.curves.forecast import Forecast
  from extrap.curves.lcpfn import LCPFN
  from extrap.curves.reading import Curve, read_curves
  from extrap.curves.scaling_pfn import ScalingPFN

_HOMES = {
  'Curve': 'extrap.curves.reading',
  'Forecast': 'extrap.curves.forecast',
  'LCPFN': 'extrap.curves.lcpfn',
  'ScalingPFN': 'extrap.curves.scaling_pfn',
  'read_curves': 'extrap.curves.reading',
}

__all__ = ['LCPFN', 'Curve', 'Forecast', 'ScalingPFN', 'read_curves']


__getattr__ = getter(__name__, _HOMES)
