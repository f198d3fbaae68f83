"""MNIST in a folder of its own: from files, and what is said without them."""

import gzip

import numpy as np
import pytest

from extrap.datasets import mnist
from extrap.errors import ExtrapError


def idx(numbers):
  """The file that holds an array of bytes."""
  sizes = np.array(numbers.shape, '>i4').tobytes()
  return bytes((0, 0, 8, numbers.ndim)) + sizes + numbers.tobytes()


@pytest.fixture
def files(tmp_path, monkeypatch):
  """Five images to train on and three to test, in place of the real ones."""
  folder, made = tmp_path / 'files', {}
  folder.mkdir()
  rng = np.random.default_rng(0)
  for start, count in (('train', 5), ('t10k', 3)):
    images = rng.integers(0, 256, (count, 28, 28), np.uint8)
    labels = rng.integers(0, 10, count, np.uint8)
    made[start] = images, labels
    for name, numbers in (('images-idx3', images), ('labels-idx1', labels)):
      path = folder / f'{start}-{name}-ubyte.gz'
      path.write_bytes(packed(idx(numbers)))
  monkeypatch.setattr(mnist, 'URL', folder.as_uri())
  return folder, made


def test_images_are_those_of_the_files_and_stay(files, tmp_path, monkeypatch):
  _, made = files
  monkeypatch.setattr(mnist, 'SECONDS', 1)
  for split, start in (('train', 'train'), ('test', 't10k')):
    found = mnist.read(str(tmp_path), split)
    np.testing.assert_array_equal(found['image'], made[start][0])
    np.testing.assert_array_equal(found['label'], made[start][1])
    assert found['image'].dtype == np.uint8
    # What is there is not asked for again.
    monkeypatch.setattr(mnist, 'URL', (tmp_path / 'nothing').as_uri())
    mnist.read.cache_clear()


def test_without_files_one_line_says_what_to_do(tmp_path, monkeypatch):
  monkeypatch.setattr(mnist, 'URL', (tmp_path / 'none').as_uri())
  with pytest.raises(ExtrapError, match='has no MNIST') as caught:
    mnist.prepare(str(tmp_path / 'data'))
  message = str(caught.value)
  assert '\n' not in message and str(tmp_path / 'data') in message
  assert 'copy mnist_pixels from a machine that can' in message
  assert not list((tmp_path / 'data').rglob('*.array_record*'))


def packed(content):
  """Compressed, the same at any time: tests are told apart by it."""
  return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'<html>', 'Not a gzipped file'),
    (packed(idx(np.zeros(4, np.uint8))[:-1]), 'is not whole'),
    (packed(idx(np.zeros((4, 1), np.uint8))), 'is not whole'),
    (packed(idx(np.zeros(4, np.uint8))), '5 images have 4 labels'),
    (packed(idx(np.zeros(4, np.uint8)))[:-9], 'end-of-stream'),
  ],
)
def test_files_that_are_broken_are_refused(files, tmp_path, content, message):
  folder, _ = files
  (folder / 'train-labels-idx1-ubyte.gz').write_bytes(content)
  with pytest.raises(ExtrapError, match=message):
    mnist.prepare(str(tmp_path))
