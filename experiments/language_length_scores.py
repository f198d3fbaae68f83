"""How an arm of the study of length is tested: loss, retrieval, a long curve.

Shape key: R replicas, N windows or prompts, Q bytes that are asked for, W
letters of a name that are not given.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from extrap.datasets.stdlib_text import Text
from extrap.evaluation import needle
from extrap.evaluation.grid import in_table
from extrap.evaluation.length import Asked, Scores, cut, ends, score, windows
from extrap.evaluation.results import Provenance, Result, length_split
from extrap.language import TEXT
from extrap.models import Transformer
from extrap.models.transformer import Params
from extrap.reporting.progress import Progress
from extrap.training import distributed

# Loss at the end of windows; prompts with the name, and without it; and the
# loss at every place of long windows.
Kind = Literal['loss', 'shown', 'hidden', 'curve']

LOSS, CURVE = 'loss', 'by_position'
LETTERS, HIDDEN = 'letters', 'letters_hidden'
NEEDLE, COPIED = 'exact_match', 'copied'


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Tests:
  """What every arm is asked.

  Attributes:
    text: of validation.
    trained: L, the training length.
    lengths: that are tested, L first.
    windows: whose loss is measured; a quarter of them for the long curve.
    asked: bytes at the end of each.
    prompts: of retrieval, at each length.
  """

  text: Text
  trained: int
  lengths: tuple[int, ...]
  windows: int
  asked: int
  prompts: int

  def check(self) -> None:
    """Refuses what the text or the training length does not hold.

    Raises:
      UsageError: saying what.
    """
    for count in (self.windows, self.prompts):
      ends(self.text, count, self.lengths[-1], self.asked)
    self.rows('shown', self.trained)

  @property
  def all(self) -> list[tuple[Kind, int]]:
    """Kind and length of each test."""
    by_length = [
      (k, n) for n in self.lengths for k in ('loss', 'shown', 'hidden')
    ]
    return [*by_length, ('curve', self.lengths[-1])]

  def rows(self, kind: Kind, length: int) -> Asked:
    """The rows of a test."""
    count = {'loss': self.windows, 'curve': -(-self.windows // 4)}
    end_N = ends(
      self.text, count.get(kind, self.prompts), self.lengths[-1], self.asked
    )
    if kind in count:
      asked = length if kind == 'curve' else self.asked
      return windows(self.text, end_N, length, asked)
    shown = kind == 'shown'
    return needle.prompts(self.text, end_N, length, self.asked, shown)


@dataclasses.dataclass(frozen=True)
class Reader:
  """Trained nets, and how they are read.

  Attributes:
    model_at: the model, by tested length.
    params: of a population, leading replica axis.
    cut: the most tokens that a prediction sees; None: all.
  """

  model_at: Callable[[int], Transformer]
  params: Params
  cut: int | None = None

  def holds(self, length: int) -> bool:
    """Whether the encoding's table does."""
    length = min(length, self.cut or length)
    return in_table(self.model_at(length).config.position, TEXT, length)

  def score(self, rows: Asked, check: Callable[[], None]) -> Scores:
    """Scores of every byte that is asked for, at its place in the rows."""
    shape, length = rows.target_NQ.shape, rows.token_NT.shape[1]
    if self.cut is not None and length > self.cut:
      rows, length = cut(rows, self.cut), self.cut
    model = self.model_at(length)
    found = score(
      model,
      self.params,
      rows,
      drawn=getattr(model.config.position, 'stretch', 0) > 0,
      progress=lambda done: check(),
    )
    return Scores(*(each.reshape(-1, *shape) for each in found))


def test_arm(
  tests: Tests, reader: Reader, source: Provenance, check: Callable[[], None]
) -> list[Result]:
  """All rows of an arm.

  Args:
    tests: what is asked.
    reader: the arm.
    source: of its rows.
    check: called between programs, as `Kept.check`.
  """
  jobs = [job for job in tests.all if not (reader.cut and job[0] == 'curve')]
  first, label = distributed.is_first(), f'test {source.arm}'

  # Cut windows of all lengths are the same from twice the training length on.
  @functools.cache
  def loss_of(length: int) -> Scores:
    return reader.score(tests.rows('loss', length), check)

  with Progress(len(jobs), label, unit='tests', shown=first) as progress:
    found: dict[tuple[Kind, int], Scores | None] = {}
    for done, (kind, length) in enumerate(jobs, start=1):
      if not reader.holds(length):
        found[kind, length] = None
      elif kind == 'loss':
        most = 2 * reader.cut if reader.cut else length
        found[kind, length] = loss_of(min(length, most))
      else:
        found[kind, length] = reader.score(tests.rows(kind, length), check)
      progress.update(done)
  rows = []
  for length in tests.lengths:
    rows += _loss_rows(tests, source, length, found['loss', length])
    both = found['shown', length], found['hidden', length]
    rows += _needle_rows(tests, source, length, *both)
  if curve := found.get(('curve', tests.lengths[-1])):
    rows += _curve_rows(tests, source, curve)
  return rows


def _loss_rows(
  tests: Tests, source: Provenance, length: int, scores: Scores | None
) -> Iterator[Result]:
  value_R = None if scores is None else _mean(scores.loss_RNQ)
  yield from _rows(tests, source, length, LOSS, value_R, tests.windows)


def _needle_rows(
  tests: Tests,
  source: Provenance,
  length: int,
  shown: Scores | None,
  hidden: Scores | None,
) -> Iterator[Result]:
  """Letters that are right, with the name and without; whole ones; nats."""
  split = length_split(length, tests.trained)
  if shown is None or hidden is None:
    for metric in (LETTERS, HIDDEN, COPIED):
      yield from _rows(tests, source, length, metric, None, 0)
    yield from source.exact_match(split, str(length), None, 0)
    return
  seen, unseen = needle.of_rest(shown), needle.of_rest(hidden)
  for metric, value_R in (
    (LETTERS, _mean(seen.right_RNW)),
    (HIDDEN, _mean(unseen.right_RNW)),
    (COPIED, _mean(unseen.loss_RNW) - _mean(seen.loss_RNW)),
  ):
    yield from _rows(tests, source, length, metric, value_R, tests.prompts)
  right_R = seen.right_RNW.all(axis=2).sum(axis=1).tolist()
  yield from source.exact_match(split, str(length), right_R, tests.prompts)


def _curve_rows(
  tests: Tests, source: Provenance, scores: Scores
) -> Iterator[Result]:
  """Loss by place in the longest windows, in pieces of the training length."""
  loss_RN, longest = scores.loss_RNQ, tests.lengths[-1]
  count = loss_RN.shape[1]
  for last in range(tests.trained, longest + 1, tests.trained):
    value_R = _mean(loss_RN[:, :, last - tests.trained : last])
    for replica, value in enumerate(value_R.tolist()):
      yield source.row(replica, CURVE, str(last), LOSS, value, count)


def _rows(
  tests: Tests,
  source: Provenance,
  length: int,
  metric: str,
  value_R: np.ndarray | None,
  count: int,
) -> Iterator[Result]:
  """One row a replica, of no value where the table ends before the length."""
  split, replicas = length_split(length, tests.trained), len(source.seeds)
  values = [None] * replicas if value_R is None else value_R.tolist()
  n = 0 if value_R is None else count
  for replica, value in enumerate(values):
    yield source.row(replica, split, str(length), metric, value, n)


def _mean(value_RNQ: np.ndarray) -> np.ndarray:
  """Of each replica, [R]."""
  return value_RNQ.mean(axis=(1, 2), dtype=np.float64)
