"""Images of four digits that are easily told apart."""

import numpy as np

SIDE = 8


def mock_images(count=40, seed=0):
  """A square for each of the digits 0..3, at a place of its own, and noise."""
  rng = np.random.default_rng(seed)
  label_N = rng.permutation(np.arange(count, dtype=np.int32) % 4)
  image_NHW = rng.integers(0, 40, (count, SIDE, SIDE), np.uint8)
  for image_HW, label in zip(image_NHW, label_N, strict=True):
    row, column = divmod(int(label), 2)
    image_HW[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 200
  return {'image': image_NHW, 'label': label_N}
