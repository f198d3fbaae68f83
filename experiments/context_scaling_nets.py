"""Nets of `experiments.context_scaling`, and the arms that read them."""

import dataclasses
from collections.abc import Mapping

from experiments.language_length_arms import (
  BASE,
  CUT,
  SLIDING,
  recipes,
)
from experiments.length_config import (
  LengthConfig,
)
from experiments.length_nets import (
  Reading,
  Trained,
  make_model,
  train_nets,
)
from extrap.config import option
from extrap.kept import Kept
from extrap.language import LanguageProblem
from extrap.models.positions import CLEX, Position, Rotary

# What nets of rotary are read by: at a scale, or by a rule without one.
SCALED = ('linear', 'ntk', 'yarn', 'llama3', 'longrope')
RULES = (
  *('dynamic_ntk', 'power', 'truncated', 'self_extend', 'rerope'),
  'lm_infinite',
)
METHODS = (*SCALED, *RULES)
# What may be trained further, by one scale alone or without any.
TUNED = (*SCALED, 'power', 'truncated', 'clex')
PLAIN = 1  # The training scale of nets that go on as they are.
# Further training: as a scale, of what has none; and of nets without any.
NO_SCALE, NOT_TUNED = -1, 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScalingConfig(LengthConfig):
  """Flags of the sweep."""

  longest: int = option(
    512, 'longest context that is tested, L times a power of 2', unit='bytes'
  )
  scales: tuple[int, ...] = option(
    (1, 2, 4, 8), 'that nets are read at', minimum=1, identity=False
  )
  trained_scales: tuple[int, ...] = option(
    (1, 2, 4, 8),
    'that nets are trained further at, by encodings of the grid',
    minimum=1,
    identity=False,
  )
  methods: tuple[str, ...] = option(
    (), 'that rotary nets are read by (default: all)', identity=False
  )
  grid: tuple[str, ...] = option(
    ('linear',), 'trained further at every training scale', identity=False
  )
  tuned: tuple[str, ...] = option(
    ('ntk', 'yarn', 'power', 'truncated', 'clex'),
    'trained further, at a scale of --window if they have one',
    identity=False,
  )
  window: int = option(
    4,
    'windows of further training',
    unit='training lengths',
    minimum=2,
  )
  tuning_steps: int = option(
    200, 'of further training', unit='steps', minimum=1
  )
  tuning_rate: float = option(
    1e-3, 'its peak learning rate, for every encoding', minimum=0.0
  )


@dataclasses.dataclass(frozen=True)
class Nets:
  """What a population is trained on.

  Attributes:
    position: its encoding.
    method: by which it is read, beside rotary and others at a scale.
    scale: of its training; None: it has none of its own.
    further: whether it goes on from the rotary nets.
    long: whether its windows are longer than L.
  """

  position: Position
  method: str
  scale: int | None
  further: bool = True
  long: bool = True

  def problem(self, config: ScalingConfig) -> LanguageProblem:
    """The same number of bytes a step, whatever the windows."""
    longer = config.window if self.long else 1
    return LanguageProblem(
      model=make_model(config, self.position),
      length=longer * config.length,
      batch_size=config.batch_size // longer,
    )


def nets_of(config: ScalingConfig) -> dict[str, Nets]:
  """All populations, by name; the first is the one that others begin with."""
  trained, window = config.length, config.window
  found = {BASE: Nets(Rotary(), BASE, None, further=False, long=False)}
  if PLAIN in config.trained_scales:
    found[f'{BASE}_1'] = Nets(Rotary(), BASE, PLAIN)
  stretched = tuple(s for s in config.trained_scales if s > PLAIN)
  scales = dict.fromkeys(config.grid, stretched)
  for method in config.tuned:
    if method == 'clex':
      found |= _clex(trained, window)
    elif method in RULES:
      position = recipes()[method].position_of(config, window * trained)
      found[f'{method}_tuned'] = Nets(position, method, None)
    else:
      scales.setdefault(method, (window,))
  for method, of in scales.items():
    for scale in of:
      position = position_at(config, method, scale)
      found[f'{method}_{scale}'] = Nets(position, method, scale)
  return found


def _clex(trained: int, window: int) -> dict[str, Nets]:
  """On windows of L, and on longer ones, which stretch to the same length."""
  most = 4 * window
  short = CLEX(trained=trained, scale=most)
  long = CLEX(trained=window * trained, scale=most // window)
  return {
    'clex': Nets(short, 'clex', None, long=False),
    'clex_long': Nets(long, 'clex', None),
  }


def position_at(config: ScalingConfig, method: str, scale: int) -> Position:
  """An encoding at a scale; all are rotary itself at a scale of 1."""
  if scale == 1:
    return Rotary()
  return recipes()[method].position_of(config, scale * config.length)


def trained_nets(
  study: str, config: ScalingConfig, kept: Kept, name: str
) -> Trained:
  """Trains a population unless it is there, and what it goes on from."""
  nets = nets_of(config)[name]
  problem = nets.problem(config)
  if not nets.further:
    return train_nets(study, config, kept, name, problem)
  first = trained_nets(study, config, kept, BASE)
  further = dataclasses.replace(
    config.train,
    steps=config.tuning_steps,
    schedule_steps=config.tuning_steps,
    learning_rate=config.tuning_rate,
    warmup_steps=config.tuning_steps // 10,
  )
  config = dataclasses.replace(config, steps=config.tuning_steps, train=further)
  trained = train_nets(study, config, kept, name, problem, first.params)
  return trained.after(first)


def readings_of(config: ScalingConfig, name: str) -> list[Reading]:
  """The arms that read a population."""
  nets = nets_of(config)[name]
  if not nets.further:
    return _of_base(config)
  if nets.scale is None:
    return [_as_trained(nets, name)]
  pairs = [(nets.method, scale) for scale in config.scales]
  if nets.scale == PLAIN:
    stretched = config.scales[1:]
    pairs = [(m, scale) for m in config.grid for scale in stretched]
    pairs = [(BASE, 1), *pairs]
  return [_at_scale(config, m, nets.scale, scale) for m, scale in pairs]


def _of_base(config: ScalingConfig) -> list[Reading]:
  """Rotary as it is, its controls, and every method at every scale."""
  of = recipes()
  controls = [
    _by_rule(config, name, cut=of[name].cut) for name in (BASE, CUT, SLIDING)
  ]
  methods = config.methods or METHODS
  return controls + [
    reading
    for method in methods
    for reading in (
      [
        _at_scale(config, method, NOT_TUNED, scale)
        for scale in config.scales[1:]
      ]
      if method in SCALED
      else [_by_rule(config, method)]
    )
  ]


def _by_rule(config: ScalingConfig, name: str, cut: bool = False) -> Reading:
  recipe = recipes()[name]
  return Reading(
    arm=name,
    position_at=lambda length: recipe.position_of(config, length),
    cut=cut,
    notes=_notes(name, NOT_TUNED, 1 if name == BASE else NO_SCALE),
  )


def _as_trained(nets: Nets, name: str) -> Reading:
  return Reading(
    arm=name.replace('_tuned', ' tuned'),
    position_at=lambda length: nets.position,
    notes=_notes(nets.method, NO_SCALE, NO_SCALE),
  )


def _at_scale(
  config: ScalingConfig, method: str, trained: int, scale: int
) -> Reading:
  """At a training scale and an evaluation scale."""
  position = position_at(config, method, scale)
  of = f'{method} {trained}' if trained else method
  return Reading(
    arm=f'{of} x{scale}',
    position_at=lambda length: position,
    notes=_notes(method, trained, scale),
  )


def _notes(method: str, trained: int, scale: int) -> Mapping[str, str | int]:
  """What tables find an arm by."""
  return {'method': method, 'trained_scale': trained, 'scale': scale}
