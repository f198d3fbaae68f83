"""Arms of the study of Abacus: what a name says of task, encoding and form.

<hints_><randomised_><encoding>_<form>: digits of sums have index hints (Zhou et
al. 2024, arXiv 2402.09371); training spreads positions at random, as far as
places are shifted (Ruoss et al. 2023, arXiv 2305.16843); nope is no encoding.
"""

import dataclasses

from experiments.abacus_settings import FORMS, Setting
from extrap.errors import UsageError
from extrap.models.positions import (
  POSITIONS,
  Abacus,
  Coupling,
  Learned,
  Position,
)
from extrap.models.positions.stretched import Stretched
from extrap.tasks.addition import Addition
from extrap.tasks.numbers import NumberTask

HINTS, RANDOMISED = 'hints_', 'randomised_'
NOPE = 'nope'
ENCODINGS = (NOPE, *(name for name in POSITIONS.names() if name != 'none'))
# Digits stand least significant first, which is a rung of its own.
REVERSED = {'L0 none': 'L1 none', 'L3 abacus': 'L3 Abacus'}


@dataclasses.dataclass(frozen=True)
class ArmName:
  """A name, taken apart."""

  hints: bool
  randomised: bool
  encoding: str
  form: str

  @classmethod
  def of(cls, name: str) -> 'ArmName':
    """Raises UsageError if it is none."""
    plain, _, form = name.rpartition('_')
    if form not in FORMS:
      raise UsageError(f'--arms={name}: end it with _{", _".join(FORMS)}')
    hinted = plain.removeprefix(HINTS)
    encoding = hinted.removeprefix(RANDOMISED)
    if encoding not in ENCODINGS:
      raise UsageError(
        f'--arms={name}: no encoding {encoding!r}; one of '
        f'{", ".join(ENCODINGS)}'
      )
    return cls(hinted != plain, encoding != hinted, encoding, form)

  @property
  def kind(self) -> type[Position]:
    """The encoding."""
    return POSITIONS.get('none' if self.encoding == NOPE else self.encoding)

  @property
  def rung(self) -> str:
    """The structure rung."""
    rung = self.kind().rung
    rung = 'L2 FIRE' if self.encoding == 'fire' else REVERSED.get(rung, rung)
    rung += ', randomised' * self.randomised
    return rung + ', index hints' * self.hints

  def task(self, setting: Setting) -> NumberTask:
    """What is learned; as many hints as the longest test needs."""
    if not self.hints:
      return setting.task
    if not isinstance(setting.task, Addition):
      raise UsageError('--arms: sums alone have index hints')
    hints = setting.task.longest(setting.longest)
    return dataclasses.replace(setting.task, hints=hints)

  def position(self, setting: Setting) -> Position:
    """The encoding; tables of places have the setting's shifts."""
    kind, options = self.kind, {}
    if issubclass(kind, Abacus | Coupling):
      options = dict(shift=setting.shift, max_size=setting.table)
    token_length = self.task(setting).token_length
    if issubclass(kind, Learned):
      options = dict(max_size=token_length(setting.longest))
    if not self.randomised:
      return kind(**options)
    if not issubclass(kind, Stretched) or kind.table == 'place':
      raise UsageError(f'--arms: {self.encoding} has no positions to spread')
    stretch = token_length(setting.trained + setting.shift)
    if issubclass(kind, Learned):
      options['max_size'] = max(stretch, options['max_size'])
    return kind(stretch=stretch, **options)
