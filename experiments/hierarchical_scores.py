"""Arms of `experiments.hierarchical`, and how they are tested.

Suffix key: R replicas, N windows, Q bytes that are asked for, T tokens.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from experiments.language_length_arms import BASE, CUT, SLIDING, recipes
from experiments.language_length_scores import LOSS, Reader
from experiments.length_config import (
  GPU,
  LengthConfig,
)
from experiments.length_nets import (
  Reading,
  Trained,
  make_model,
)
from extrap.config import option, preset
from extrap.datasets.stdlib_text import read
from extrap.evaluation.length import Asked, ends, windows
from extrap.evaluation.results import Provenance, Result, length_split
from extrap.kept import Kept
from extrap.models import Transformer
from extrap.models.positions import HiRoPE, Position, turning_share
from extrap.reporting.progress import Progress
from extrap.training import distributed

# Loss of the same bytes with the training length before them; loss by octaves
# of place in the longest windows.
NEAR, BY_PLACE = 'loss_near', 'by_place'
WHOLE = 4  # Training lengths up to which there are all windows.

PRESETS = {
  'cpu': {},
  'gpu': {
    **GPU,
    'few': 16,
  },
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(LengthConfig):
  """Flags of the study."""

  size: Literal['cpu', 'gpu'] = preset('cpu', PRESETS, 'what is trained')
  length: int = option(128, 'L, of training windows', unit='bytes', minimum=2)
  longest: int = option(
    16_384, 'longest context that is tested, L times a power of 2', unit='bytes'
  )
  batch_size: int = option(
    16, 'windows a step and replica', unit='windows', minimum=1
  )
  few: int = option(
    3,
    'test windows of the longest contexts, at least',
    unit='windows',
    minimum=2,
    identity=False,
  )
  arms: tuple[str, ...] = option(
    (), 'arms to test beside both controls (default: all)', identity=False
  )

  @property
  def names(self) -> tuple[str, ...]:
    """Rotary and its controls first, then the other arms."""
    asked = self.arms or tuple(readings_of(self))
    return tuple(dict.fromkeys((BASE, CUT, SLIDING, *asked)))

  def windows_at(self, length: int) -> int:
    """How many windows of a length are tested, fewer the longer they are."""
    share = min(1.0, (WHOLE * self.length / length) ** 2)
    return max(min(self.few, self.windows), round(share * self.windows))


def check_windows(config: Config) -> None:
  """Refuses what the text of validation does not hold."""
  text = read(config.text).validation
  ends(text, config.windows, config.longest, config.asked)


def readings_of(config: Config) -> dict[str, Reading]:
  """Every arm, by its name."""
  found = [
    _by_recipe(config, name)
    for name in (BASE, CUT, SLIDING, 'ntk', 'rerope', 'self_extend')
  ]
  window = config.length // 2
  plain = HiRoPE(window=window)
  share = turning_share(config.length, config.model.head_width)
  trusted = HiRoPE(window=window, split=share)
  for arm, position, even in (
    ('hirope', plain, False),
    ('hirope_trusted', trusted, False),
    ('hirope_even', plain, True),
  ):
    at = lambda length, position=position: position  # noqa: E731
    found.append(Reading(arm=arm, position_at=at, notes={'even': even}))
  return {reading.arm: reading for reading in found}


def _by_recipe(config: Config, name: str) -> Reading:
  """As the study of every encoding reads nets of rotary."""
  recipe = recipes()[name]

  def position_at(length: int) -> Position:
    return recipe.position_of(config, length)

  return Reading(
    arm=name, position_at=position_at, cut=recipe.cut, notes={'even': False}
  )


def score_reading(
  config: Config, kept: Kept, trained: Trained, reading: Reading
) -> list[Result]:
  """All rows of an arm."""
  position = reading.position_at(config.longest)
  notes = {'position': position.name, 'of': trained.name, **reading.notes}
  source = trained.as_arm(reading.arm, position, **notes)
  reader = Reader(
    model_at=lambda length: _model(config, reading, length),
    params=trained.params,
    cut=config.length if reading.cut else None,
  )
  return [*_rows(config, reader, reading, source, kept.check)]


def _model(config: Config, reading: Reading, length: int) -> Transformer:
  """In blocks where a window's gathered keys would not fit the memory."""
  if reading.arm == SLIDING:
    model = dataclasses.replace(config.model, attention='blockwise')
    config = dataclasses.replace(config, model=model)
  return make_model(config, reading.position_at(length))


def _rows(
  config: Config,
  reader: Reader,
  reading: Reading,
  source: Provenance,
  check: Callable[[], None],
) -> Iterator[Result]:
  near_RNQ, lengths = None, config.lengths
  shown = distributed.is_first()
  label = f'test {source.arm}'
  with Progress(len(lengths), label, unit='tests', shown=shown) as progress:
    for done, length in enumerate(lengths, start=1):
      if near_RNQ is None or not reader.cuts(length // 2):
        loss_RNQ = reader.score(
          asked_rows(config, reading, length), check
        ).loss_RNQ
      if near_RNQ is None:
        near_RNQ = loss_RNQ
      # Windows that are cut are the same from twice that length on: all of
      # them are scored there.
      at_N = chosen(config.windows, config.windows_at(length))
      last_RNQ = loss_RNQ[..., -config.asked :]
      if last_RNQ.shape[1] > len(at_N):
        last_RNQ = last_RNQ[:, at_N]
      yield from _both(source, config, length, last_RNQ, near_RNQ[:, at_N])
      progress.update(done)
  if not reader.cut:
    yield from _octaves(source, config, loss_RNQ)


def chosen(total: int, count: int) -> np.ndarray:
  """Which of all windows are tested where there are fewer, [N]."""
  return np.linspace(0, total - 1, count).round().astype(np.int64)


def asked_rows(config: Config, reading: Reading, length: int) -> Asked:
  """The windows of a length; every byte of the longest is asked for."""
  text = read(config.text).validation
  end_N = ends(text, config.windows, config.longest, config.asked)
  asked = config.asked
  if not (reading.cut and length > config.length):
    end_N = end_N[chosen(config.windows, config.windows_at(length))]
  if length == config.longest and not reading.cut:
    asked = length
  rows = windows(text, end_N, length, asked)
  if not reading.notes['even']:
    return rows
  level_T = np.arange(length, dtype=np.int32) // config.length
  return rows._replace(
    level_NT=np.broadcast_to(level_T[None], rows.token_NT.shape)
  )


def _both(
  source: Provenance,
  config: Config,
  length: int,
  far_RNQ: np.ndarray,
  near_RNQ: np.ndarray,
) -> Iterator[Result]:
  """Loss at a context, and at the training length of the same bytes."""
  split = length_split(length, config.length)
  for metric, loss_RNQ in ((LOSS, far_RNQ), (NEAR, near_RNQ)):
    count = loss_RNQ.shape[1]
    value_R = loss_RNQ.mean(axis=(1, 2), dtype=np.float64)
    for replica, value in enumerate(value_R.tolist()):
      yield source.row(replica, split, str(length), metric, value, count)


def _octaves(
  source: Provenance, config: Config, loss_RNT: np.ndarray
) -> Iterator[Result]:
  """Up to L, and from each multiple that is tested to the next."""
  first, count = 0, loss_RNT.shape[1]
  for last in config.lengths:
    value_R = loss_RNT[..., first:last].mean(axis=(1, 2), dtype=np.float64)
    for replica, value in enumerate(value_R.tolist()):
      yield source.row(replica, BY_PLACE, str(last), LOSS, value, count)
    first = last
