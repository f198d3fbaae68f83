"""Encodings by their names."""

import dataclasses

import pytest

from extrap.errors import UsageError
from extrap.models.positions import FIRE, POSITIONS, NoPosition, Position
from extrap.models.positions.named import Named


@dataclasses.dataclass(frozen=True, kw_only=True)
class Around(Position):
  """Stands for an encoding with another one in it."""

  base: Position = dataclasses.field(default_factory=NoPosition)
  gain: float = 1.0


def test_settings_may_be_encodings_again(monkeypatch):
  monkeypatch.setitem(POSITIONS._entries, 'around', Around)
  inside = Named('fire', {'hidden': 4})
  named = Named('around', {'base': inside, 'gain': 2.0})
  assert named.make() == Around(base=FIRE(hidden=4), gain=2.0)


@pytest.mark.parametrize(
  ('named', 'message'),
  [
    (Named('rotory'), "unknown position 'rotory'; did you mean 'rotary'"),
    (Named('rotary', {'bass': 2.0}), "'rotary' has no 'bass'; has: base"),
    (Named('none', {'bass': 2.0}), 'has: no fields'),
    (Named('fire', {'hidden': 0}), '--model.position.hidden=0: must be'),
  ],
)
def test_what_there_is_not_is_refused_in_one_line(named, message):
  with pytest.raises(UsageError, match=message) as caught:
    named.make()
  assert '\n' not in str(caught.value)
