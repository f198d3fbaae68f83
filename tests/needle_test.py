"""A name in a text and its first letters at the end: what is asked, and how."""

import re

import numpy as np
import pytest

from extrap.datasets.stdlib_text import Text
from extrap.errors import UsageError
from extrap.evaluation.length import Scores, ends, windows
from extrap.evaluation.needle import (
  LINE,
  QUESTION,
  of_rest,
  prompts,
)

# Capital letters: none is of a name.
TEXT = Text(
  np.random.default_rng(0).integers(65, 91, 3000).astype(np.uint8),
  np.arange(3000, dtype=np.int32) // 10,
)
END_N = ends(TEXT, 60, 128, 32)


def spelt(rows, n):
  """A prompt with what follows it."""
  whole = [*rows.token_NT[n], rows.target_NQ[n, -1]]
  return bytes(np.array(whole, np.uint8)).decode()


@pytest.mark.parametrize('length', [32, 128])
def test_a_name_stands_once_and_is_asked_for_at_the_end(length):
  rows = prompts(TEXT, END_N, length, 8)
  hay = length + 1 - LINE - QUESTION
  depths = set()
  for n, end in enumerate(END_N):
    found = re.fullmatch(
      r'([A-Z]*)\n([a-z]{8}) = 0\n([A-Z]*)\n([a-z]{8})', spelt(rows, n)
    )
    before, name, after, asked = found.groups()
    assert name == asked
    around = bytes(TEXT.token_N[end - hay : end]).decode()
    assert before + after == around
    depths.add(len(before))
    # The line and the question are on the level of what is before them.
    level_T, at = rows.level_NT[n], len(before)
    own_T = TEXT.level_N[end - hay : end]
    np.testing.assert_array_equal(level_T[:at], own_T[:at])
    assert set(level_T[at : at + LINE]) == {own_T[max(at - 1, 0)]}
    rest_T = level_T[at + LINE :][: len(after)]
    np.testing.assert_array_equal(rest_T, own_T[at:])
    assert set(level_T[-QUESTION + 1 :]) == {own_T[-1]}
  assert {0, hay} <= depths if length == 32 else len(depths) > 30
  names = {spelt(rows, n)[-8:] for n in range(len(END_N))}
  assert len(names) == len(END_N)


def test_the_control_has_another_name_in_the_same_place():
  shown, hidden = (
    prompts(TEXT, END_N, 64, 8, shown) for shown in (True, False)
  )
  np.testing.assert_array_equal(shown.target_NQ, hidden.target_NQ)
  np.testing.assert_array_equal(shown.level_NT, hidden.level_NT)
  other_NT = shown.token_NT != hidden.token_NT
  assert 0 < other_NT.sum(axis=1).min() and other_NT.sum(axis=1).max() <= 8
  for n in range(len(END_N)):
    name = re.search(r'([a-z]{8}) = 0', spelt(hidden, n)).group(1)
    assert name[:3] != spelt(hidden, n)[-8:-5]


def test_names_and_depths_are_a_prompts_at_every_length():
  short, long = (prompts(TEXT, END_N, length, 8) for length in (64, 128))
  for n in range(len(END_N)):
    one, other = spelt(short, n), spelt(long, n)
    assert one[-8:] == other[-8:]
    shares = (
      text.index('\n') / (len(text) - LINE - QUESTION) for text in (one, other)
    )
    assert np.ptp(list(shares)) < 0.03


def test_the_rest_is_what_is_not_given():
  rows = prompts(TEXT, END_N, 64, 32)
  assert rows.query_NQ.shape == windows(TEXT, END_N, 64, 32).query_NQ.shape
  for n in range(len(END_N)):
    assert (
      bytes(rows.target_NQ[n, -5:].astype(np.uint8)).decode()
      == (spelt(rows, n)[-5:])
    )
  # A query stands at the letter before the one that is asked for.
  before_NQ = np.take_along_axis(rows.token_NT, rows.query_NQ, axis=1)
  np.testing.assert_array_equal(before_NQ[:, 1:], rows.target_NQ[:, :-1])
  loss_RNQ = np.arange(2 * 3 * 8, dtype=np.float32).reshape(2, 3, 8)
  found = of_rest(Scores(loss_RNQ, loss_RNQ % 2 > 0))
  np.testing.assert_array_equal(found.loss_RNW, loss_RNQ[:, :, 3:])
  np.testing.assert_array_equal(found.right_RNW, loss_RNQ[:, :, 3:] % 2 > 0)


@pytest.mark.parametrize(('length', 'asked'), [(22, 8), (64, 4)])
def test_what_does_not_fit_is_refused(length, asked):
  with pytest.raises(UsageError, match='at least 23 and 5'):
    prompts(TEXT, END_N, length, asked)
