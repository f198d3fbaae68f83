"""Position encodings, one protocol, one file a family."""

from extrap.models.positions.absolute import Learned, NoPosition, Sinusoidal
from extrap.models.positions.bias import FIRE, ALiBi
from extrap.models.positions.combined import AbacusFIRE, AbacusRotary
from extrap.models.positions.cope import CoPE
from extrap.models.positions.digits import Abacus, Coupling, Coupling2
from extrap.models.positions.ordered import Ordered, Recency
from extrap.models.positions.path import PaTH
from extrap.models.positions.place import PlaceBias, PlaceWindow
from extrap.models.positions.pointers import Pointers
from extrap.models.positions.position import POSITIONS, Param, Position
from extrap.models.positions.previous import Previous
from extrap.models.positions.rotary import Rotary
from extrap.models.positions.stick_breaking import StickBreaking
from extrap.models.positions.wall import Wall

__all__ = [
  'FIRE',
  'POSITIONS',
  'ALiBi',
  'Abacus',
  'AbacusFIRE',
  'AbacusRotary',
  'CoPE',
  'Coupling',
  'Coupling2',
  'Learned',
  'NoPosition',
  'Ordered',
  'PaTH',
  'Param',
  'PlaceBias',
  'PlaceWindow',
  'Pointers',
  'Position',
  'Previous',
  'Recency',
  'Rotary',
  'Sinusoidal',
  'StickBreaking',
  'Wall',
]
