"""Pairs of prompts that differ in one bracket, and how they are told apart."""

import re

import numpy as np
import pytest

from extrap.datasets.stdlib_text import Text
from extrap.errors import UsageError
from extrap.evaluation.brackets import apart, prompts, share
from extrap.evaluation.length import Scores, ends

# Words, digits and brackets; no prompt's own line is in it.
TEXT = Text(
  np.frombuffer(b'alpha(1), class be_ta]]{"gamma"}: x\n' * 90, np.uint8),
  np.arange(36 * 90, dtype=np.int32) // 10,
)
END_N = ends(TEXT, 60, 128, 32)


@pytest.mark.parametrize('length', [11, 64, 128])
def test_pairs_differ_in_the_open_bracket_alone(length):
  rows = prompts(TEXT, END_N, length, 8)
  texts = [bytes(token_T).decode() for token_T in rows.token_NT]
  assert len(texts) == 120 and {len(text) for text in texts} == {length}
  depths = set()
  for n, (one, other) in enumerate(zip(texts[:60], texts[60:], strict=True)):
    at = one.index('\nx = (')
    assert other == one[: at + 5] + '[' + one[at + 6 :]
    hay = bytes(TEXT.token_N[END_N[n] - length : END_N[n]]).decode()
    assert one[:at] == hay[:at]
    # Words alone, none of them a keyword; the last byte is of one.
    assert re.fullmatch(r'[a-z_]+(, [a-z_]+)*', one[at + 6 :])
    words = one[at + 6 :].split(', ')
    assert 'class' not in words
    # Where the window begins and ends it cuts them.
    known = ('alpha', 'be_ta', 'gamma', 'name', 'class')
    assert all(any(w in k for k in known) for w in words[:-1])
    depths.add(at)
  assert len(depths) > (1 if length == 11 else 30)
  assert max(depths) <= length - 10 and min(depths) < length / 20 + 1
  np.testing.assert_array_equal(rows.level_NT[:60], rows.level_NT[60:])
  np.testing.assert_array_equal(rows.level_NT[:60, -1], TEXT.level_N[END_N - 1])


def test_both_closing_brackets_are_asked_for_after_the_last_token():
  rows = prompts(TEXT, END_N, 64, 8)
  assert rows.query_NQ.shape == rows.target_NQ.shape == (120, 8)
  assert (rows.query_NQ[:, -2:] == 63).all()
  assert 0 <= rows.query_NQ.min() and rows.query_NQ.max() == 63
  assert (rows.target_NQ[:, -2:] == [[ord(')'), ord(']')]]).all()


def test_what_counts_is_the_change_of_the_odds_not_the_odds():
  """Losses of both closing brackets, after the round and the square one."""
  first_N2 = [[0.1, 3.0], [0.1, 3.0], [2.0, 1.0], [1.0, 1.0]]
  second_N2 = [[0.5, 2.0], [0.1, 3.5], [2.5, 1.0], [1.0, 1.0]]
  loss_RNQ = np.array([first_N2 + second_N2], np.float32)
  found_RN = apart(Scores(loss_RNQ, loss_RNQ > 0))
  np.testing.assert_allclose(found_RN, [[1.4, -0.5, 0.5, 0.0]], atol=1e-6)
  assert share(found_RN).tolist() == [(2 + 0.5) / 4]
  assert share(-found_RN).tolist() == [(1 + 0.5) / 4]


@pytest.mark.parametrize(('length', 'asked'), [(9, 8), (64, 1)])
def test_what_does_not_fit_is_refused(length, asked):
  with pytest.raises(UsageError, match='at least 10 and 2'):
    prompts(TEXT, END_N, length, asked)
