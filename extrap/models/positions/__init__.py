"""Position encodings, one protocol, one file a family."""

from extrap.models.positions.absolute import Learned, NoPosition, Sinusoidal
from extrap.models.positions.bias import FIRE, ALiBi
from extrap.models.positions.collinear import CoCA
from extrap.models.positions.combined import AbacusFIRE, AbacusRotary
from extrap.models.positions.differential import Differential
from extrap.models.positions.digits import Abacus, Coupling, Coupling2
from extrap.models.positions.dropped import DroPE
from extrap.models.positions.hierarchical import HiRoPE
from extrap.models.positions.near_far import LMInfinite, ReRoPE, SelfExtend
from extrap.models.positions.ordered import Ordered, Recency
from extrap.models.positions.patterns import SWAN, Gemma, IRoPE, RNoPESWA
from extrap.models.positions.place import PlaceBias, PlaceWindow
from extrap.models.positions.pointers import Pointers
from extrap.models.positions.polar import PoPE
from extrap.models.positions.position import POSITIONS, Param, Position
from extrap.models.positions.previous import Previous
from extrap.models.positions.randomised import (
  PoSE,
  RandomFloat,
  Randomised,
  RandomSteps,
)
from extrap.models.positions.rotary import Rotary
from extrap.models.positions.scale_invariant import ScaleInvariant
from extrap.models.positions.settings import with_settings
from extrap.models.positions.temperature import Llama4Temperature, LogN
from extrap.models.positions.windows import Chunked, Window
from extrap.models.positions.wrapped import Wrapped

__all__ = [
  'FIRE',
  'POSITIONS',
  'SWAN',
  'ALiBi',
  'Abacus',
  'AbacusFIRE',
  'AbacusRotary',
  'Chunked',
  'CoCA',
  'Coupling',
  'Coupling2',
  'Differential',
  'DroPE',
  'Gemma',
  'HiRoPE',
  'IRoPE',
  'LMInfinite',
  'Learned',
  'Llama4Temperature',
  'LogN',
  'NoPosition',
  'Ordered',
  'Param',
  'PlaceBias',
  'PlaceWindow',
  'PoPE',
  'PoSE',
  'Pointers',
  'Position',
  'Previous',
  'RNoPESWA',
  'RandomFloat',
  'RandomSteps',
  'Randomised',
  'ReRoPE',
  'Recency',
  'Rotary',
  'ScaleInvariant',
  'SelfExtend',
  'Sinusoidal',
  'Window',
  'Wrapped',
  'with_settings',
]
