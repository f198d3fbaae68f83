"""The tasks of the certified operations, and what each needs.

All have one model, one batch and one learning rate; a case names what differs:
more steps, a second network, another window.
"""

import dataclasses
from collections.abc import Callable, Mapping

from extrap.evaluation.borrows import BORROWS
from extrap.evaluation.carries import KINDS as CARRIES
from extrap.evaluation.grid import Sampler
from extrap.evaluation.patterns import PATTERNS
from extrap.evaluation.products import LONG_PRODUCTS, PRODUCTS
from extrap.evaluation.stress import Kind
from extrap.evaluation.sums import SUMS, sum_sampler
from extrap.models import TWO_NETWORKS
from extrap.tasks.addition import Addition
from extrap.tasks.copying import Copying
from extrap.tasks.multiplication import Multiplication
from extrap.tasks.numbers import NumberTask
from extrap.tasks.parity import Parity
from extrap.tasks.prefix_sums import PrefixSums
from extrap.tasks.product_trace import ProductTrace
from extrap.tasks.subtraction import Subtraction
from extrap.tasks.summation import Summation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
  """A task, and what it needs.

  Attributes:
    task: what is learned.
    name: of its stress suite.
    kinds: the problems of that suite.
    longer: how many times --steps it trains.
    most: numbers of the sums that are tested, if more than in training.
    trained: longest training length, if shorter than --digits.
    longest: longest length that is tested; None for all.
    model: what is particular to its model.
    window: likewise, to its window of places.
    sampler: draws problems of a kind; None for the usual one.
  """

  task: NumberTask
  name: str
  kinds: Mapping[str, Kind]
  longer: int = 1
  most: int | None = None
  trained: int | None = None
  longest: int | None = None
  model: Mapping[str, int | str] = dataclasses.field(default_factory=dict)
  window: Mapping[str, int] = dataclasses.field(default_factory=dict)
  sampler: Callable[[NumberTask, Kind], Sampler] | None = None


def _sum(
  longer: int, task: Summation, most: int | None = None, **model: int | str
) -> Case:
  return Case(
    task=task,
    name='sum',
    kinds=SUMS,
    longer=longer,
    most=most,
    model=model,
    window={'own_step': True} if task.trace else {},
    sampler=sum_sampler,
  )


CASES = {
  'subtraction': Case(task=Subtraction(), name='borrow', kinds=BORROWS),
  'product': Case(
    task=Multiplication(second_digits=1), name='product', kinds=PRODUCTS
  ),
  'addition': Case(task=Addition(), name='carry', kinds=CARRIES),
  'copying': Case(task=Copying(), name='pattern', kinds=PATTERNS),
  'parity': Case(task=Parity(trace=True), name='pattern', kinds=PATTERNS),
  'prefix_sums': Case(task=PrefixSums(), name='pattern', kinds=PATTERNS),
  'sum_3': _sum(2, Summation(operands=3, alike=0.5), ffn_width=512),
  'sum_4': _sum(8, Summation(operands=4, alike=0.5), **TWO_NETWORKS),
  'sum_5': _sum(8, Summation(operands=5, alike=0.5), **TWO_NETWORKS),
  'sum_5_varied': _sum(
    8, Summation(operands=5, alike=0.5, alike_varies=True), **TWO_NETWORKS
  ),
  'sum_5_lengths': _sum(
    8,
    Summation(operands=5, alike=0.5, alike_varies=True, alike_lengths=0.5),
    **TWO_NETWORKS,
  ),
  'running_sums': _sum(
    2,
    Summation(operands=4, trace=True, alike=0.5),
    most=10,
    **TWO_NETWORKS,
  ),
  'product_trace': Case(
    task=ProductTrace(),
    name='product',
    kinds=LONG_PRODUCTS,
    longer=4,
    trained=5,
    longest=100,  # of two factors: 10,402 tokens
    model=TWO_NETWORKS,
    window={'behind': -1, 'ahead': 2, 'own_step': True},
  ),
}
ON_REQUEST = ('product_trace', 'sum_5_varied', 'sum_5_lengths')


def case_of(arm: str) -> Case:
  """What an arm trains, in whatever base."""
  return CASES[arm.partition('@')[0]]
