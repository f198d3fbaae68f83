"""How suddenly metrics rise, and how whole answers follow from tokens."""

import jax.numpy as jnp
import numpy as np
import pytest

from extrap.evaluation.emergence import (
  Rise,
  agreement,
  likelihood,
  made_by,
  rise,
  whole_answer,
)
from extrap.evaluation.exact_match import token_accuracy
from extrap.reporting.emergence import Improvement, emergence_figure
from extrap.tasks.task import Batch

STEP_T = np.arange(1, 101) * 10.0


def test_a_straight_rise_takes_eight_tenths_of_its_way():
  # From step 200 to step 700 of 1,000: .1 and .9 of the way at 250 and 650.
  value_T = np.clip((STEP_T - 200) / 500, 0, 1)
  found = rise(STEP_T, 3 * value_T - 7)  # Whatever its unit.
  assert found.onset == pytest.approx(0.25)
  assert found.width == pytest.approx(0.4)


def test_a_rise_ends_when_it_is_first_made():
  value_T = np.clip((STEP_T - 200) / 500, 0, 1)
  falls_T = np.where(STEP_T > 800, 0.3, value_T)
  assert rise(STEP_T, falls_T) == rise(STEP_T, value_T)


def test_a_jump_between_two_looks_is_placed_between_them():
  found = rise(STEP_T, np.where(STEP_T >= 500, 1.0, 0.0))
  assert found.onset == pytest.approx(0.491)
  assert found.width == pytest.approx(0.008)


def test_what_does_not_rise_has_no_rise():
  for value_T in (np.zeros(100), np.linspace(1, 0, 100)):
    assert np.isnan(rise(STEP_T, value_T)).all()
    assert np.isnan(made_by(STEP_T, value_T, 0.5))


def test_the_power_of_a_smooth_rise_is_later_and_sharper():
  # Of a logistic, p^n is one that rises later; its start is flat.
  accuracy_T = 0.1 + 0.9 / (1 + np.exp(-(STEP_T - 500) / 100))
  told_T = whole_answer(accuracy_T, 11.5)
  single, whole = rise(STEP_T, accuracy_T), rise(STEP_T, told_T)
  assert whole.onset > single.onset + 0.2
  assert made_by(STEP_T, accuracy_T, whole.onset) > 0.75
  assert made_by(STEP_T, told_T, whole.onset) == pytest.approx(0.1, abs=0.01)
  assert isinstance(whole, Rise) and whole.width < single.width


def test_tokens_by_loss_and_share_have_the_same_power():
  loss_T = np.array([2.0, 0.5, 0.0])
  told_T = whole_answer(likelihood(loss_T), 4)
  np.testing.assert_allclose(told_T, np.exp(-4 * loss_T))


def test_agreement_is_of_the_same_points():
  found_T = np.array([0.0, 0.2, 0.6, 1.0])
  found = agreement(found_T, found_T + 0.1)
  assert found.correlation == pytest.approx(1)
  assert found.gap == pytest.approx(0.1)
  assert agreement(found_T, 1 - found_T).correlation == pytest.approx(-1)
  flat = agreement(found_T, np.full(4, 0.5))
  assert np.isnan(flat.correlation) and flat.gap == pytest.approx(0.35)


def test_padding_counts_for_nothing_among_tokens():
  target_BQ = jnp.array([[1, 2, 0], [2, 2, 1]])
  batch = Batch(
    tokens=target_BQ,
    queries=target_BQ,
    targets=target_BQ,
    mask=jnp.array([[True, True, False], [True, True, True]]),
  )
  said_BQ = jnp.array([[1, 0, 2], [2, 2, 1]])
  logits_BQV = 5.0 * (said_BQ[..., None] == jnp.arange(3).reshape(1, 1, 3))
  assert token_accuracy(logits_BQV, batch) == pytest.approx(4 / 5)
  broken_BQV = logits_BQV.at[1, 0].set(jnp.nan)
  assert token_accuracy(broken_BQV, batch) == pytest.approx(3 / 5)


def test_the_figure_has_both_metrics_side_by_side():
  curve_T = np.linspace(0, 1, 100)
  run = Improvement('width 8', STEP_T, curve_T, curve_T**2, -curve_T)
  figure = emergence_figure([run, run._replace(name='width 9')], 'Addition')
  left, right = figure.axes
  found, told = left.lines[:2]
  np.testing.assert_allclose(found.get_ydata(), 100 * curve_T)
  np.testing.assert_allclose(told.get_ydata(), 100 * curve_T**2)
  np.testing.assert_allclose(right.lines[0].get_ydata(), -curve_T)
  assert [text.get_text() for text in left.get_legend().get_texts()] == [
    *('width 8', 'width 9')
  ]
