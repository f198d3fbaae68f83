"""Arms of the study of length: what is trained, and how its nets are read.

An encoding of the registry that can serve text is an arm of its own name. One
with a `scale` is not trained: the rotary nets are read by it, at a scale of the
tested length over the training length, so that nothing changes at the latter.
What is neither is said here by name.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from extrap.config import Value
from extrap.models import TransformerConfig
from extrap.models.positions import POSITIONS, Position
from extrap.tasks.text import RunningText

Settings = Mapping[str, Value]

# Settings that follow the training length, of any encoding that has them.
FOLLOWING: Mapping[str, Callable[[int], Value]] = {
  'max_size': lambda trained: trained,
  'window': lambda trained: trained,
  # Of FIRE: 512 where its authors trained on 2,048 tokens.
  'threshold': lambda trained: trained / 4,
}


def _as_they_are(trained: int, length: int) -> Settings:
  del trained, length
  return {}


def _scaled(trained: int, length: int) -> Settings:
  return {'scale': length / trained}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """How an arm is made.

  Attributes:
    position: its encoding, by its name in the registry.
    of: the arm whose nets are read by that encoding; None: it has its own.
    settings: of the encoding, by training length and tested length; the longest
      where it is trained.
    model: what else of the model is different.
    cut: whether no prediction sees more than the last tokens, as many as the
      training length.
  """

  position: str
  of: str | None = None
  settings: Callable[[int, int], Settings] = _as_they_are
  model: Settings = dataclasses.field(default_factory=dict)
  cut: bool = False

  def position_of(self, trained: int, length: int) -> Position:
    """The encoding, for a training length and a tested one."""
    entry = POSITIONS.get(self.position)
    fields = {field.name for field in dataclasses.fields(entry)}
    following = {
      name: rule(trained) for name, rule in FOLLOWING.items() if name in fields
    }
    return entry(**following | self.settings(trained, length))


# What every table is read beside: the nets of `BASE`, with what is farther than
# the training length cut off, or hidden from each layer by itself.
BASE, CUT, SLIDING = 'rotary', 'rotary_cut', 'sliding_rotary'
CONTROLS = (CUT, SLIDING)

NAMED: Mapping[str, Recipe] = {
  BASE: Recipe(position=BASE),
  CUT: Recipe(position=BASE, of=BASE, cut=True),
  SLIDING: Recipe(position=SLIDING, of=BASE),
  'fire_randomised': Recipe(
    position='fire', settings=lambda _, longest: {'stretch': longest}
  ),
  'learned_randomised': Recipe(
    position='learned',
    settings=lambda _, longest: {'stretch': longest, 'max_size': longest},
  ),
  'none_log_length': Recipe(
    position='none', model={'logit_scale': 'log_length'}
  ),
  'rotary_log_length': Recipe(
    position=BASE, model={'logit_scale': 'log_length'}
  ),
}


def recipes() -> dict[str, Recipe]:
  """All arms that there are now, those named here first."""
  return {**NAMED, **dict(_of_registry())}


def _of_registry() -> Iterator[tuple[str, Recipe]]:
  for name in POSITIONS.names():
    entry = POSITIONS.get(name)
    if name in NAMED or not set(entry.reads) <= set(RunningText.reads):
      continue
    if any(field.name == 'scale' for field in dataclasses.fields(entry)):
      yield name, Recipe(position=name, of=BASE, settings=_scaled)
    else:
      yield name, Recipe(position=name)


def model_of(
  base: TransformerConfig, name: str, trained: int, length: int
) -> TransformerConfig:
  """The model of an arm as it is tested at a length."""
  there = recipes()
  recipe = there[name]
  changes = there[recipe.of or name].model
  position = recipe.position_of(trained, length)
  return dataclasses.replace(base, **changes, position=position)
