"""Reach: the longest unbroken run of good lengths."""

import pytest

from extrap.evaluation.reach import is_over, reach


@pytest.mark.parametrize(
  ('right', 'threshold', 'far'),
  [
    ({10: 1.0}, 0.99, 10),
    ({10: 0.98, 20: 1.0}, 0.99, None),
    ({10: 0.98, 20: 1.0}, 0.9, 20),
    ({10: 1.0, 20: 0.99, 30: 0.98, 40: 1.0}, 0.99, 20),
    ({40: 1.0, 20: 0.99, 30: 0.99, 10: 1.0}, 0.99, 40),
    ({5: 0.0, 10: 1.0, 20: 0.1}, 0.5, 10),
  ],
)
def test_reach_ends_before_the_first_length_that_fails(right, threshold, far):
  assert reach(right, 10, threshold) == far


def test_reach_needs_the_training_length():
  with pytest.raises(KeyError):
    reach({20: 1.0}, 10, 0.99)


def test_testing_is_over_once_every_replica_has_failed():
  assert not is_over({10: [1.0, 1.0], 20: [0.1, 0.5]}, 10)
  assert is_over({10: [1.0, 1.0], 20: [0.1, 0.4]}, 10)
  assert is_over({10: [0.3, 0.1]}, 10)
