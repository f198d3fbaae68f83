"""A certificate that a trained model adds numbers of every length.

A one-layer model whose heads see a bounded window of places, and nothing that
tells the place itself, maps finitely many contexts to tokens. If the most
likely token is right in every context that can occur, then by induction over
the tokens of the answer it adds any two numbers: the first query sees the
prompt alone; and if all tokens so far are right, the next query stands in one
of the contexts that were checked.

What is left is rounding. The margin (the right logit less the best wrong one)
is compared with the largest difference that float64 arithmetic, another order
of summation, gathered keys, or a shift of all places makes in any logit. This
is *measured*, not derived: the certificate says so.

Shape key: R replicas, C contexts, V vocabulary.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from extrap.evaluation.context_logits import context_logits
from extrap.evaluation.contexts import Contexts, Enumeration
from extrap.evaluation.every_context import contexts_for
from extrap.evaluation.results import Provenance, Result
from extrap.evaluation.rounding import Rounding
from extrap.models.transformer import Params, Transformer
from extrap.tasks.numbers import NumberTask

SAFETY = 100  # how many times the largest difference the margin must be
ROUNDED = 100_000  # contexts in which rounding is measured, about

STATEMENT = (
  'In one layer whose heads see a bounded window of places, and nothing that '
  'tells the place itself, each token of the answer is a function of the '
  'digits in that window, of the digits and signs that every query or its own '
  'step of a trace sees, and of the token before it. Every context that can '
  'occur, at the start, inside and at the end of an answer of any length, was '
  'enumerated, and the most likely token is right in each. By induction over '
  'the answer: the first query sees the prompt alone, and once all tokens so '
  'far are right, the next query stands in one of these contexts. Hence the '
  'answer is right at every length, up to rounding: the smallest margin is at '
  f'least {SAFETY} times the largest difference of a logit that float64, '
  'another order of hidden units and head widths, gathered keys or a shift '
  f'of all places made (measured, not derived; in up to {ROUNDED:,} contexts '
  'drawn at random where there are more).'
)


@dataclasses.dataclass(frozen=True)
class Certificate:
  """What was found for one replica.

  Attributes:
    contexts: contexts checked, all that can occur.
    wrong: how many of them the model gets wrong.
    margin: smallest logit margin; negative where wrong.
    tightest: the context that has it, in words.
    rounding: largest measured difference of a logit, by its cause.
    offender: the first wrong context with what was expected, or None.
  """

  contexts: int
  wrong: int
  margin: float
  tightest: str
  rounding: dict[str, float]
  offender: str | None

  @property
  def largest_rounding(self) -> float:
    return max(self.rounding.values())

  @property
  def passed(self) -> bool:
    """All contexts right, by a margin that rounding does not reach."""
    enough = self.margin >= SAFETY * self.largest_rounding
    return self.wrong == 0 and bool(enough)

  def __str__(self) -> str:
    if self.wrong:
      return (
        f'FAILED: {self.wrong} of {self.contexts} contexts wrong, '
        f'first: {self.offender}'
      )
    verdict = 'passed (measured)' if self.passed else 'FAILED'
    return (
      f'{verdict}: {self.contexts} of {self.contexts} contexts right, margin '
      f'{self.margin:.3g} at {self.tightest}; largest rounding difference '
      f'{self.largest_rounding:.2g}'
    )


def certify(
  model: Transformer,
  params: Params,
  task: NumberTask,
  watched: Callable[[Enumeration], Iterable[Contexts]] = iter,
) -> list[Certificate]:
  """Certifies every replica of a population.

  Args:
    model: one layer, hard window of places.
    params: leading replica axis.
    task: see `every_context.contexts_of`.
    watched: gives the parts of an enumeration, and may say how far it is.

  Raises:
    UsageError: the model cannot be certified.
  """
  contexts = contexts_for(model, task)
  measured = Rounding(model, params, task)
  rng, share = np.random.default_rng(0), ROUNDED / contexts.upper
  tallies = None
  for part in watched(contexts):
    logits_RCV = context_logits(model, params, task, part)
    tallies = tallies or [_Tally(task) for _ in logits_RCV]
    for tally, logits_CV in zip(tallies, logits_RCV, strict=True):
      tally.add(part, logits_CV)
    some = np.flatnonzero(rng.random(len(part)) < share)
    measured.add(part.select(some), logits_RCV[:, some])
  return [
    tally.certificate(rounding)
    for tally, rounding in zip(tallies, measured.largest(), strict=True)
  ]


@dataclasses.dataclass
class _Tally:
  """What the contexts of all parts add up to, for one replica."""

  task: NumberTask
  contexts: int = 0
  wrong: int = 0
  margin: float = np.inf
  tightest: str = ''
  offender: str | None = None

  def add(self, part: Contexts, logits_CV: np.ndarray) -> None:
    """Counts a part's contexts."""
    margin_C = _margins(logits_CV, part.target)
    lowest, wrong_C = int(np.argmin(margin_C)), ~(margin_C > 0)
    if self.offender is None and wrong_C.any():
      row = int(np.argmax(wrong_C))
      self.offender = (
        f'{part.describe(self.task, row)}: right is '
        f'{self.task.names[part.target[row]]}, the model says '
        f'{self.task.names[int(np.argmax(logits_CV[row]))]}'
      )
    if margin_C[lowest] < self.margin:
      self.margin = float(margin_C[lowest])
      self.tightest = part.describe(self.task, lowest)
    self.contexts += len(part)
    self.wrong += int(wrong_C.sum())

  def certificate(self, rounding: dict[str, float]) -> Certificate:
    """The verdict on all of them."""
    return Certificate(
      self.contexts,
      self.wrong,
      self.margin,
      self.tightest,
      rounding,
      self.offender,
    )


def rows(source: Provenance, certified: Sequence[Certificate]) -> list[Result]:
  """Verdict, margin and rounding of each replica."""
  results = []
  for replica, found in enumerate(certified):
    row = source.row
    right = found.contexts - found.wrong
    numbers = {'margin': found.margin, 'rounding': found.largest_rounding}
    results += [
      row(
        replica,
        'certificate',
        'any',
        'certified',
        float(found.passed),
        found.contexts,
        right,
      ),
      *(
        row(replica, 'certificate', 'any', name, value, found.contexts)
        for name, value in numbers.items()
      ),
    ]
  return results


def _margins(logits_CV: np.ndarray, target_C: np.ndarray) -> np.ndarray:
  """Right logit less the best wrong one; -inf where not finite."""
  row_C = np.arange(len(target_C))
  others_CV = logits_CV.copy()
  others_CV[row_C, target_C] = -np.inf
  margin_C = logits_CV[row_C, target_C] - others_CV.max(axis=1)
  return np.where(np.isfinite(logits_CV).all(axis=1), margin_C, -np.inf)
