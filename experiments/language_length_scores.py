"""How an arm of a study of length is tested: loss, retrieval, a long curve.

Shape key: R replicas, N windows or prompts, Q bytes that are asked for, W
letters of a name that are not given.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import numpy as np

from extrap.datasets.stdlib_text import Text
from extrap.encoding_limits import in_table
from extrap.evaluation import brackets, needle
from extrap.evaluation.length import (
  Asked,
  Scores,
  cut,
  ends,
  last_asked,
  score,
  windows,
)
from extrap.evaluation.results import Provenance, Result, length_split
from extrap.language import TEXT
from extrap.models import Transformer
from extrap.models.transformer import Params
from extrap.reporting.progress import Progress
from extrap.training import distributed

# Loss at the end of windows; which bracket is open; a name, in the window and
# not in it; and the loss at every place of long windows.
Kind = Literal['loss', 'brackets', 'shown', 'hidden', 'curve']
# Of the bytes that prompts ask for, as many windows do, the last that count.
COUNTED = {
  'brackets': len(brackets.CLOSING),
  'shown': needle.REST,
  'hidden': needle.REST,
}

LOSS, CURVE = 'loss', 'by_position'
LETTERS, HIDDEN = 'letters', 'letters_hidden'
NEEDLE, COPIED = 'exact_match', 'copied'
APART, ODDS = 'brackets', 'bracket_odds'


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Questions:
  """What every arm is asked.

  Attributes:
    text: of validation.
    trained: L, the training length.
    lengths: that are tested, L first.
    windows: whose loss is measured; a quarter of them for the long curve.
    asked: bytes at the end of each.
    prompts: of retrieval, at each length; pairs of them, of brackets.
    asks: what is asked; what else there is has no rows.
  """

  text: Text
  trained: int
  lengths: tuple[int, ...]
  windows: int
  asked: int
  prompts: int = 2
  asks: tuple[Kind, ...] = get_args(Kind)

  def check(self) -> None:
    """Refuses what the text or the training length does not hold.

    Raises:
      UsageError: saying what.
    """
    for count in (self.windows, self.prompts):
      ends(self.text, count, self.lengths[-1], self.asked)
    for kind in self.asks:
      if kind in COUNTED:
        self.rows(kind, self.trained)

  @property
  def kinds(self) -> list[tuple[Kind, int]]:
    """Kind and length of each."""
    kinds = [kind for kind in self.asks if kind != 'curve']
    by_length = [(kind, length) for length in self.lengths for kind in kinds]
    long = [('curve', self.lengths[-1])] if 'curve' in self.asks else []
    return by_length + long

  def rows(self, kind: Kind, length: int) -> Asked:
    """The rows of a kind and length."""
    count = {'loss': self.windows, 'curve': -(-self.windows // 4)}
    end_N = ends(
      self.text, count.get(kind, self.prompts), self.lengths[-1], self.asked
    )
    asked = length if kind == 'curve' else self.asked
    given = self.text, end_N, length, asked
    if kind in count:
      return windows(*given)
    if kind == 'brackets':
      return brackets.prompts(*given)
    return needle.prompts(*given, shown=kind == 'shown')


@dataclasses.dataclass(frozen=True)
class Reader:
  """Trained nets, and how they are read.

  Attributes:
    model_at: the model, by tested length.
    params: of a population, leading replica axis.
    cut: the most tokens that a prediction sees; None: all.
    drawn: whether positions are drawn, as in training.
  """

  model_at: Callable[[int], Transformer]
  params: Params
  cut: int | None = None
  drawn: bool = False

  def holds(self, length: int) -> bool:
    """Whether the encoding's table does."""
    length = min(length, self.cut or length)
    return in_table(self.model_at(length).config.position, TEXT, length)

  def cuts(self, length: int) -> bool:
    """Whether contexts of a length are cut."""
    return self.cut is not None and length > self.cut

  def score(self, rows: Asked, check: Callable[[], None]) -> Scores:
    """Scores of every byte that is asked for, at its place in the rows."""
    shape, length = rows.target_NQ.shape, rows.token_NT.shape[1]
    if self.cuts(length):
      rows, length = cut(rows, self.cut), self.cut
    found = score(
      self.model_at(length),
      self.params,
      rows,
      drawn=self.drawn,
      progress=lambda done: check(),
    )
    return Scores(*(each.reshape(-1, *shape) for each in found))


def score_arm(
  questions: Questions,
  reader: Reader,
  source: Provenance,
  check: Callable[[], None],
) -> list[Result]:
  """All rows of an arm.

  Args:
    questions: that it is asked.
    reader: the arm.
    source: of its rows.
    check: called between programs, as `Kept.check`.
  """
  found = _found(questions, reader, f'test {source.arm}', check)
  rows, asks = [], questions.asks
  for length in questions.lengths:
    given = questions, source, length
    if 'loss' in asks:
      rows += _loss_rows(*given, found['loss', length])
    if 'brackets' in asks:
      rows += _bracket_rows(*given, found['brackets', length])
    if 'shown' in asks and 'hidden' in asks:
      both = found['shown', length], found['hidden', length]
      rows += _needle_rows(*given, *both)
  if curve := found.get(('curve', questions.lengths[-1])):
    rows += _curve_rows(questions, source, curve)
  return rows


def _found(
  questions: Questions, reader: Reader, label: str, check: Callable[[], None]
) -> dict[tuple[Kind, int], Scores | None]:
  """Scores by kind and length; None where the encoding's table has ended."""
  found, kinds, first = {}, questions.kinds, distributed.is_first()
  with Progress(len(kinds), label, unit='tests', shown=first) as progress:
    for done, (kind, length) in enumerate(kinds, start=1):
      if not reader.holds(length) or (reader.cut and kind == 'curve'):
        found[kind, length] = None
      elif kind == 'loss' and reader.cuts(length // 2):
        # Windows that are cut are the same from twice that length on.
        found[kind, length] = found[kind, 2 * reader.cut]
      else:
        rows = questions.rows(kind, length)
        if reader.cuts(length) and kind in COUNTED:
          rows = last_asked(rows, COUNTED[kind])  # Each becomes a row.
        found[kind, length] = scores_of(reader, kind, rows, check)
      progress.update(done)
  return found


def scores_of(
  reader: Reader, kind: Kind, rows: Asked, check: Callable[[], None]
) -> Scores:
  """Scores of all rows; of brackets, of one after the other.

  Both prompts of a pair then have the same positions where those are drawn.
  """
  parts = len(brackets.OPENING) if kind == 'brackets' else 1
  of_parts = zip(*(np.split(leaf, parts) for leaf in rows), strict=True)
  found = [reader.score(Asked(*part), check) for part in of_parts]
  return Scores(*(np.concatenate(of, 1) for of in zip(*found, strict=True)))


def _loss_rows(
  questions: Questions, source: Provenance, length: int, scores: Scores | None
) -> Iterator[Result]:
  value_R = None if scores is None else _mean(scores.loss_RNQ)
  yield from _rows(questions, source, length, LOSS, value_R, questions.windows)


def _bracket_rows(
  questions: Questions, source: Provenance, length: int, scores: Scores | None
) -> Iterator[Result]:
  """Share of pairs that are told apart, and by how many nats."""
  share_R = odds_R = None
  if scores is not None:
    apart_RN = brackets.apart(scores)
    share_R = brackets.share(apart_RN)
    odds_R = apart_RN.mean(axis=1, dtype=np.float64)
  for metric, value_R in ((APART, share_R), (ODDS, odds_R)):
    yield from _rows(
      questions, source, length, metric, value_R, questions.prompts
    )


def _needle_rows(
  questions: Questions,
  source: Provenance,
  length: int,
  shown: Scores | None,
  hidden: Scores | None,
) -> Iterator[Result]:
  """Letters that are right, with the name and without; whole ones; nats."""
  split = length_split(length, questions.trained)
  if shown is None or hidden is None:
    for metric in (LETTERS, HIDDEN, COPIED):
      yield from _rows(questions, source, length, metric, None, 0)
    yield from source.exact_match(split, str(length), None, 0)
    return
  seen, unseen = needle.of_rest(shown), needle.of_rest(hidden)
  for metric, value_R in (
    (LETTERS, _mean(seen.right_RNW)),
    (HIDDEN, _mean(unseen.right_RNW)),
    (COPIED, _mean(unseen.loss_RNW) - _mean(seen.loss_RNW)),
  ):
    yield from _rows(
      questions, source, length, metric, value_R, questions.prompts
    )
  right_R = seen.right_RNW.all(axis=2).sum(axis=1).tolist()
  yield from source.exact_match(split, str(length), right_R, questions.prompts)


def _curve_rows(
  questions: Questions, source: Provenance, scores: Scores
) -> Iterator[Result]:
  """Loss by place in the longest windows, in pieces of the training length."""
  loss_RN, longest = scores.loss_RNQ, questions.lengths[-1]
  count = loss_RN.shape[1]
  for last in range(questions.trained, longest + 1, questions.trained):
    value_R = _mean(loss_RN[:, :, last - questions.trained : last])
    for replica, value in enumerate(value_R.tolist()):
      yield source.row(replica, CURVE, str(last), LOSS, value, count)


def _rows(
  questions: Questions,
  source: Provenance,
  length: int,
  metric: str,
  value_R: np.ndarray | None,
  count: int,
) -> Iterator[Result]:
  """One row a replica, of no value where the table ends before the length."""
  split, replicas = length_split(length, questions.trained), len(source.seeds)
  values = [None] * replicas if value_R is None else value_R.tolist()
  n = 0 if value_R is None else count
  for replica, value in enumerate(values):
    yield source.row(replica, split, str(length), metric, value, n)


def _mean(value_RNQ: np.ndarray) -> np.ndarray:
  """Of each replica, [R]."""
  return value_RNQ.mean(axis=(1, 2), dtype=np.float64)
