"""A window that slides: who sees whom, by the naive rule."""

import jax.numpy as jnp
import numpy as np
import pytest

from extrap.config import check_bounds
from extrap.errors import UsageError
from extrap.models.positions import Rotary, SlidingRotary
from extrap.tasks.text import RunningText


@pytest.mark.parametrize('window', [1, 3, 64])
def test_a_query_sees_itself_and_the_tokens_just_before(window):
  tokens_BT = jnp.zeros((1, 7), jnp.int32)
  ids = RunningText().structure(tokens_BT, tokens_BT)
  # What rotates may be stretched: the window is of tokens.
  ids = ids.replace(position=ids.position * 5)
  position = SlidingRotary(window=window)
  seen = position.visible(ids.expand(1, 3), ids.expand(1, 2))
  wanted_QK = [[q - k < window for k in range(7)] for q in range(7)]
  np.testing.assert_array_equal(np.asarray(seen)[0, 0], wanted_QK)
  x_BTHD = jnp.asarray(np.random.default_rng(0).normal(size=(1, 7, 2, 4)))
  np.testing.assert_array_equal(
    position.rotate(x_BTHD, ids), Rotary().rotate(x_BTHD, ids)
  )


def test_a_window_holds_a_token_at_least():
  with pytest.raises(UsageError, match='window=0'):
    check_bounds(SlidingRotary(window=0))
