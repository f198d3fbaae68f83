"""Claims, judged by the replicas that have learned, and their tables."""

import pytest

from extrap.evaluation.claims import Claim, at_length, judged, learned_by
from extrap.evaluation.results import length_split
from extrap.reporting.claims import claims_table, length_table
from tests import made_rows

HIGH = Claim(
  published='it does', arm='a', multiple=4, side='above', threshold=0.9
)
LOW = Claim(
  published='it does not', arm='b', multiple=4, side='below', threshold=0.5
)


def made(arm, right_by_length):
  """Rows of an arm trained to 10: right of 100 for every seed."""
  seeds = range(len(next(iter(right_by_length.values()))))
  source = made_rows.source('x', arm, len(seeds), rung='y')
  return [
    row
    for length, right in right_by_length.items()
    for row in source.exact_match(
      length_split(length, 10), str(length), right, 100
    )
  ]


@pytest.mark.parametrize(
  ('values', 'learned', 'words'),
  [
    ((0.1, 0.2, 0.3), (1, 1, 1), 'not resolved at this size (3 of 3 seeds)'),
    ((0.1, 0.11, 0.12), (1, 1, 1), 'confirmed (3 of 3 seeds)'),
    ((-0.1, -0.11, 0.5), (1, 1, 0), 'refuted (2 of 3 seeds)'),
    ((0.1, 0.1, 0.1), (1, 0, 0), 'not learned (1 of 3 seeds)'),
    ((0.1, 0.1), (1, 1), 'confirmed (2 of 2 seeds)'),
  ],
)
def test_only_seeds_that_learned_are_judged(values, learned, words):
  interval, said = judged(values, [bool(each) for each in learned])
  assert said == words
  assert (interval is None) == (sum(learned) < 2)


def test_values_are_those_of_a_length_in_the_order_of_seeds():
  rows = made('a', {10: (90, 80), 40: (1, 2)})
  assert at_length(rows[::-1], 'a', 40, 10) == [0.01, 0.02]
  assert at_length(rows, 'a', 20, 10) == at_length(rows, 'b', 10, 10) == []
  assert learned_by(rows, 'a', 10, 0.9) == [True, False]


def test_claims_are_judged_on_their_side_of_the_threshold():
  rows = made('a', {10: (100, 99, 97), 40: (98, 97, 99)})
  rows += made('b', {10: (100, 99, 50), 40: (2, 3, 90)})
  table = claims_table(rows, (HIGH, LOW), 0.95)
  high, low = table.rows
  assert high[:4] == [
    *('it does', 'a: over 90.0 % at 40', '100 %, 99.0 %, 97.0 %'),
    '98.0 %, 97.0 %, 99.0 %',
  ]
  assert high[4:] == ['95.5..100.5', 'confirmed (3 of 3 seeds)']
  assert low[1] == 'b: under 50.0 % at 40'
  # The third seed has not learned; the others are far below.
  assert low[4:] == ['-3.9..8.9', 'confirmed (2 of 3 seeds)']
  swapped = claims_table(
    made('a', {10: (100, 99), 40: (2, 3)}), (HIGH, LOW), 0.95
  )
  assert [row[-1] for row in swapped.rows] == ['refuted (2 of 2 seeds)']


def test_what_was_not_learned_or_not_tested_is_called_so():
  rows = made('a', {10: (90, 80), 40: (95, 95)}) + made('b', {10: (100, 100)})
  high, low = claims_table(rows, (HIGH, LOW), 0.95).rows
  assert high[-2:] == ['', 'not learned (0 of 2 seeds)']
  assert low[-3:] == ['not tested', '', 'not tested']
  first, second = length_table(rows, 0.95, 'symbols').rows
  assert first[:2] == ['a', 'not learned (0 of 2)']
  assert first[2:] == ['90.0 %, 80.0 %', '95.0 %, 95.0 %']
  assert second == ['b', '2 of 2', '100 %, 100 %', 'not tested']
