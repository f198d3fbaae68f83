"""Reach: how far beyond its training length a replica stays right.

A replica that misses at its training length has no reach: it did not learn, and
nothing follows from that on how it would extrapolate.
"""

from collections.abc import Mapping

THRESHOLDS = (0.99, 0.9, 0.5)
LEARNED = THRESHOLDS[0]  # Of what is in distribution.


def reach(
  right: Mapping[int, float], trained: int, threshold: float
) -> int | None:
  """The largest length up to which every tested one is good enough.

  Args:
    right: exact match by length, the training length among them.
    trained: the training length.
    threshold: least exact match.

  Returns:
    A tested length, or None where the training length itself falls short.

  Raises:
    KeyError: the training length was not tested.
  """
  if right[trained] < threshold:
    return None
  far = trained
  for length in sorted(length for length in right if length > trained):
    if right[length] < threshold:
      break
    far = length
  return far


def is_over(right_R: Mapping[int, list[float]], trained: int) -> bool:
  """Whether longer tests could not change any reach, of any replica."""
  least = min(THRESHOLDS)
  replicas = zip(*right_R.values(), strict=True)
  lengths = list(right_R)
  for values in replicas:
    one = dict(zip(lengths, values, strict=True))
    far = reach(one, trained, least)
    if far is not None and far == max(lengths):
      return False
  return True
