"""Position encodings, one protocol, one file a family."""

from extrap.models.positions.absolute import Learned, NoPosition, Sinusoidal
from extrap.models.positions.adaptive import DAPE, DAPE2
from extrap.models.positions.bias import FIRE, ALiBi, HardALiBi
from extrap.models.positions.clex import CLEX
from extrap.models.positions.collinear import CoCA
from extrap.models.positions.combined import AbacusFIRE, AbacusRotary
from extrap.models.positions.cope import CoPE
from extrap.models.positions.differential import Differential
from extrap.models.positions.digits import Abacus, Coupling, Coupling2
from extrap.models.positions.distance import CPB, KERPLE, T5, Sandwich
from extrap.models.positions.dropped import DroPE
from extrap.models.positions.forgetting import Forgetting
from extrap.models.positions.hierarchical import HiRoPE
from extrap.models.positions.lumina import Lumina
from extrap.models.positions.near_far import LMInfinite, ReRoPE, SelfExtend
from extrap.models.positions.ordered import Ordered, Recency
from extrap.models.positions.path import PaTH
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
from extrap.models.positions.scaled_rotary import (
  DynamicNTK,
  Llama3,
  LongRoPE,
  NTKAware,
  PositionInterpolation,
  YaRN,
)
from extrap.models.positions.settings import with_settings
from extrap.models.positions.slow_pairs import (
  HoPE,
  PartialRotary,
  PowerBasis,
  PRotary,
  TruncatedBasis,
  turning_share,
)
from extrap.models.positions.stick_breaking import StickBreaking
from extrap.models.positions.temperature import Llama4Temperature, LogN
from extrap.models.positions.wall import Wall
from extrap.models.positions.windows import Chunked, Window
from extrap.models.positions.wrapped import Wrapped
from extrap.models.positions.xpos import XPos

__all__ = [
  'CLEX',
  'CPB',
  'DAPE',
  'DAPE2',
  'FIRE',
  'KERPLE',
  'POSITIONS',
  'SWAN',
  'T5',
  'ALiBi',
  'Abacus',
  'AbacusFIRE',
  'AbacusRotary',
  'Chunked',
  'CoCA',
  'CoPE',
  'Coupling',
  'Coupling2',
  'Differential',
  'DroPE',
  'DynamicNTK',
  'Forgetting',
  'Gemma',
  'HardALiBi',
  'HiRoPE',
  'HoPE',
  'IRoPE',
  'LMInfinite',
  'Learned',
  'Llama3',
  'Llama4Temperature',
  'LogN',
  'LongRoPE',
  'Lumina',
  'NTKAware',
  'NoPosition',
  'Ordered',
  'PRotary',
  'PaTH',
  'Param',
  'PartialRotary',
  'PlaceBias',
  'PlaceWindow',
  'PoPE',
  'PoSE',
  'Pointers',
  'Position',
  'PositionInterpolation',
  'PowerBasis',
  'Previous',
  'RNoPESWA',
  'RandomFloat',
  'RandomSteps',
  'Randomised',
  'ReRoPE',
  'Recency',
  'Rotary',
  'Sandwich',
  'ScaleInvariant',
  'SelfExtend',
  'Sinusoidal',
  'StickBreaking',
  'TruncatedBasis',
  'Wall',
  'Window',
  'Wrapped',
  'XPos',
  'YaRN',
  'turning_share',
  'with_settings',
]
