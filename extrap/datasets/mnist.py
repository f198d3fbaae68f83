"""MNIST as a TFDS dataset in array_record; no TensorFlow needed.

TFDS has an 'mnist' of its own, but reads its files and packs its images with
TensorFlow. This one keeps pixels as they are, in the order of the files (LeCun,
Cortes and Burges 1998, yann.lecun.com/exdb/mnist).

Shape key: N images, H rows, W columns.
"""

import functools
import gzip
import urllib.request
import zlib
from collections.abc import Iterator
from http.client import HTTPException

import numpy as np
import tensorflow_datasets as tfds

from extrap.errors import ExtrapError

URL = 'https://storage.googleapis.com/cvdf-datasets/mnist'
FILES = {'train': 'train', 'test': 't10k'}  # How their names begin.
SIDE = 28
SECONDS = 30  # To wait for an answer.
UINT8 = 8  # The type of the numbers, in the files.

# What reading files and a connection that is cut off may raise.
FAILURES = (OSError, EOFError, ValueError, zlib.error, HTTPException)


class Mnist(tfds.core.GeneratorBasedBuilder):
  """Images of handwritten digits: 60,000 to train on, 10,000 to test."""

  # Not to be taken for TFDS's own.
  name = 'mnist_pixels'
  VERSION = tfds.core.Version('1.0.0')

  def _info(self) -> tfds.core.DatasetInfo:
    pixels = tfds.features.Tensor(
      shape=(SIDE, SIDE), dtype=np.uint8, encoding='bytes'
    )
    return tfds.core.DatasetInfo(
      builder=self,
      description='Images of handwritten digits.',
      features=tfds.features.FeaturesDict({'image': pixels, 'label': np.int32}),
      disable_shuffling=True,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator]:
    del dl_manager  # It tries for minutes where there is no network.
    loaded = {split: _load(start) for split, start in FILES.items()}
    return {
      split: self._generate_examples(*arrays)
      for split, arrays in loaded.items()
    }

  def _generate_examples(
    self, image_NHW: np.ndarray, label_N: np.ndarray
  ) -> Iterator[tuple[int, dict]]:
    pairs = zip(image_NHW, label_N.tolist(), strict=True)
    for number, (image_HW, label) in enumerate(pairs):
      yield number, {'image': image_HW, 'label': label}


def prepare(folder: str) -> Mnist:
  """The dataset, downloaded into the folder if it is not there.

  Raises:
    ExtrapError: it is neither there nor to be had.
  """
  builder = Mnist(data_dir=folder, file_format='array_record')
  try:
    builder.download_and_prepare()
  except FAILURES as error:
    reason = ' '.join(str(error).split())
    raise ExtrapError(
      f'{folder} has no MNIST ({builder.name}), and it cannot be made there '
      f'from {URL}: {reason}; copy {builder.name} from a machine that can'
    ) from error
  return builder


@functools.cache
def read(folder: str, split: str) -> dict[str, np.ndarray]:
  """Images, uint8 [N, H, W], and the digits that they show, int32 [N].

  Args:
    folder: of the dataset.
    split: 'train' or 'test'.

  Raises:
    ExtrapError: as `prepare`, or what is there is damaged.
  """
  builder = prepare(folder)
  try:
    source = builder.as_data_source(split)
    rows = [source[number] for number in range(len(source))]
  except FAILURES as error:
    raise ExtrapError(
      f'{folder} has a damaged {builder.name}: {" ".join(str(error).split())}'
    ) from error
  return {
    'image': np.stack([row['image'] for row in rows]),
    'label': np.array([row['label'] for row in rows], np.int32),
  }


def _load(start: str) -> tuple[np.ndarray, np.ndarray]:
  """Images and labels of the two files whose names begin so."""
  image_NHW = _array(f'{start}-images-idx3-ubyte.gz', (SIDE, SIDE))
  label_N = _array(f'{start}-labels-idx1-ubyte.gz', ())
  if len(image_NHW) != len(label_N):
    raise ValueError(f'{len(image_NHW)} images have {len(label_N)} labels')
  return image_NHW, label_N


def _array(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Numbers of a file in the format IDX, [N, ...] with `shape` behind N."""
  with urllib.request.urlopen(f'{URL}/{name}', timeout=SECONDS) as file:
    content = gzip.decompress(file.read())
  rank = 1 + len(shape)
  header, numbers = content[: 4 + 4 * rank], content[4 + 4 * rank :]
  sizes = tuple(np.frombuffer(header[4:], '>i4').tolist())
  whole = len(sizes) == rank and len(numbers) == np.prod(sizes)
  if header[:4] != bytes((0, 0, UINT8, rank)) or not whole:
    raise ValueError(f'{name} is not whole')
  if sizes[1:] != shape:
    raise ValueError(f'{name} has images of {sizes[1:]}, not of {shape}')
  return np.frombuffer(numbers, np.uint8).reshape(sizes)
