"""Sines by least squares, in closed form: what learning is measured against.

Shape key: T times, F frequencies, S series.
"""

import numpy as np


def sine_columns(times_T: np.ndarray, frequency_F: np.ndarray) -> np.ndarray:
  """A constant, then cosines and sines, [T, 1 + 2F]."""
  angle_TF = np.multiply.outer(times_T, frequency_F)
  return np.concatenate(
    [np.ones((len(times_T), 1)), np.cos(angle_TF), np.sin(angle_TF)], axis=1
  )


def least_squares(
  times_T: np.ndarray,
  values_T: np.ndarray,
  frequency_F: np.ndarray,
  asked_T: np.ndarray,
) -> np.ndarray:
  """The best sum of sines of known frequencies, at other times."""
  columns = sine_columns(times_T, frequency_F)
  weights = np.linalg.lstsq(columns, values_T, rcond=1e-10)[0]
  return sine_columns(asked_T, frequency_F) @ weights


def matching_pursuit(
  times_T: np.ndarray,
  values_T: np.ndarray,
  grid_F: np.ndarray,
  lines: int,
) -> np.ndarray:
  """Frequencies chosen one by one by how much each explains of what is left.

  Orthogonal matching pursuit (Pati, Rezaiifar and Krishnaprasad 1993): after
  each choice all amplitudes are fitted again. The choice is the peak of the
  periodogram, which is looked for between the points of the grid, too.

  Args:
    times_T: when it was seen.
    values_T: what was seen.
    grid_F: frequencies to begin with, evenly spaced.
    lines: how many, or fewer where nothing is left.

  Returns:
    The frequencies, in the order of their choice.
  """
  chosen: list[float] = []
  left_T = values_T - values_T.mean()
  while len(chosen) < lines and np.mean(left_T**2) > 1e-6:
    chosen.append(_peak(times_T, left_T, grid_F))
    left_T = values_T - least_squares(
      times_T, values_T, np.array(chosen), times_T
    )
  return np.array(chosen)


def _peak(times_T: np.ndarray, left_T: np.ndarray, grid_F: np.ndarray) -> float:
  """Where the periodogram is greatest, on three finer and finer grids."""
  for _ in range(3):
    wave_TF = np.exp(-1j * np.multiply.outer(times_T, grid_F))
    best, gap = np.argmax(np.abs(left_T @ wave_TF)), grid_F[1] - grid_F[0]
    found = grid_F[best]
    grid_F = np.linspace(found - gap, found + gap, 65)
  return float(found)
