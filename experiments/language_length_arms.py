"""Arms of the study of length: what is trained, and how its nets are read.

An encoding of the registry that can serve text is an arm of its own name, with
settings that follow the training length L; some have others, said here. One
with a `scale` is not trained: the rotary nets are read by it, at a scale of the
tested length over the training length. So are others that are meant for it;
mostly nothing changes up to L then.
"""

import dataclasses
from collections.abc import Callable, Mapping

from experiments.length_config import LengthConfig
from extrap.config import Value
from extrap.models import TransformerConfig
from extrap.models.positions import (
  POSITIONS,
  NoPosition,
  Position,
  PRotary,
  turning_share,
)
from extrap.tasks.text import RunningText

Settings = Mapping[str, Value]

Rule = Callable[[LengthConfig, int], Settings]  # of the tested length

# Settings that follow the training length, of any encoding that has them.
FOLLOWING: Mapping[str, Callable[[int], Value]] = {
  'max_size': lambda trained: trained,
  'max_distance': lambda trained: trained,
  'trained': lambda trained: trained,
  'window': lambda trained: trained,
  # Of FIRE: 512 where its authors trained on 2,048 tokens.
  'threshold': lambda trained: trained / 4,
}


def _as_they_are(config: LengthConfig, length: int) -> Settings:
  del config, length
  return {}


def _scaled(config: LengthConfig, length: int) -> Settings:
  return {'scale': length / config.length}


def _spread(config: LengthConfig, longest: int) -> Settings:
  del config
  return {'stretch': longest}


def _grouped(config: LengthConfig, length: int) -> Settings:
  """SelfExtend: half of L as it is, and all else in the other half."""
  trained = config.length
  return {'window': trained // 2, 'group': max(1, 2 * length // trained - 1)}


def _patterned(config: LengthConfig, length: int) -> Settings:
  """Every other layer sees a quarter of L."""
  del length
  return {'windowed': 1, 'window': config.length // 4}


def _trusted(config: LengthConfig, length: int) -> Settings:
  """p-RoPE: those pairs turn that turn around once within L, as in HoPE."""
  del length
  return {'fraction': turning_share(config.length, config.model.head_width)}


def _around(base: Callable[[Settings], Position], rule: Rule) -> Rule:
  """Settings of an encoding around another one that has settings by a rule."""
  return lambda config, length: {'base': base(**rule(config, length))}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """How an arm is made.

  Attributes:
    position: its encoding, by its name in the registry.
    of: the arm whose nets are read by that encoding; None: it has its own.
    settings: of the encoding, by tested length; the longest where it is
      trained.
    drawn: whether positions are drawn from those of the longest context, in
      training and in tests of any length: the settings are those of the longest
      always.
    model: what else of the model is different.
    cut: whether no prediction sees more than the last tokens, as many as the
      training length.
  """

  position: str
  of: str | None = None
  settings: Rule = _as_they_are
  drawn: bool = False
  model: Settings = dataclasses.field(default_factory=dict)
  cut: bool = False

  def position_of(self, config: LengthConfig, length: int) -> Position:
    """The encoding, as it is tested at a length."""
    entry = POSITIONS.get(self.position)
    fields = {field.name for field in dataclasses.fields(entry)}
    following = {
      name: rule(config.length)
      for name, rule in FOLLOWING.items()
      if name in fields
    }
    return entry(**following | self.settings(config, length))


# What every table is read beside: the nets of `BASE`, with what is farther than
# the training length cut off, or hidden from each layer by itself.
BASE, CUT, SLIDING = 'rotary', 'rotary_cut', 'sliding_rotary'
CONTROLS = (CUT, SLIDING)

TRAINED: Mapping[str, Recipe] = {
  'fire_randomised': Recipe(position='fire', settings=_spread, drawn=True),
  'learned_randomised': Recipe(
    position='learned',
    settings=lambda _, longest: {'stretch': longest, 'max_size': longest},
    drawn=True,
  ),
  'log_n_none': Recipe(
    position='log_n', settings=_around(NoPosition, _as_they_are)
  ),
  'log_n_p_rotary': Recipe(
    position='log_n', settings=_around(PRotary, _trusted)
  ),
  'scale_invariant': Recipe(
    position='scale_invariant',
    settings=_around(PRotary, _trusted),
    model={'qk_norm': True},
  ),
  'clex': Recipe(
    position='clex', settings=lambda config, _: {'trained': config.length}
  ),
  **{
    name: Recipe(position=name, settings=_spread, drawn=True)
    for name in ('randomised', 'random_float')
  },
  # It skips positions in training alone.
  'pose': Recipe(position='pose', settings=_spread),
  'window': Recipe(
    position='window', settings=lambda config, _: {'window': config.length // 4}
  ),
  **{
    name: Recipe(position=name, settings=_patterned)
    for name in ('swan', 'rnope_swa', 'irope', 'gemma')
  },
}
READ: Mapping[str, Recipe] = {
  CUT: Recipe(position=BASE, of=BASE, cut=True),
  SLIDING: Recipe(position='window', of=BASE),
  **{
    name: Recipe(position=name, of=BASE)
    for name in ('dynamic_ntk', 'power', 'truncated', 'lm_infinite')
  },
  'self_extend': Recipe(position='self_extend', of=BASE, settings=_grouped),
  **{
    name: Recipe(
      position=name,
      of=BASE,
      settings=lambda config, _: {'window': config.length // 2},
    )
    for name in ('rerope', 'hirope')
  },
  'log_n_su': Recipe(
    position='log_n', of=BASE, settings=lambda *_: {'form': 'su'}
  ),
  'llama4_temperature': Recipe(
    position='llama4_temperature',
    of='none',
    settings=lambda config, _: {'floor': config.length},
  ),
}
# As they are they change nothing at these lengths, or need two phases.
LEFT_OUT = ('chunked', 'drope')


def recipes() -> dict[str, Recipe]:
  """All arms that there are now: rotary, its controls, others, the registry."""
  named = {BASE: Recipe(position=BASE), **READ, **TRAINED}
  others = {
    name: _usual(name)
    for name in POSITIONS.names()
    if name not in LEFT_OUT and name not in named and _can_read_text(name)
  }
  return named | others


def _can_read_text(name: str) -> bool:
  return set(POSITIONS.get(name)().reads) <= set(RunningText.reads)


def _usual(name: str) -> Recipe:
  """Of what has a scale, nets of rotary are read by it."""
  fields = dataclasses.fields(POSITIONS.get(name))
  if any(field.name == 'scale' for field in fields):
    return Recipe(position=name, of=BASE, settings=_scaled)
  return Recipe(position=name)


def model_of(config: LengthConfig, name: str, length: int) -> TransformerConfig:
  """The model of an arm as it is tested at a length; see `Recipe.drawn`."""
  there = recipes()
  recipe = there[name]
  changes = there[recipe.of or name].model
  position = recipe.position_of(config, length)
  return dataclasses.replace(config.model, **changes, position=position)
