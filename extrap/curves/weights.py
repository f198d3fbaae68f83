"""Networks in one file: a NumPy archive of arrays, without pickle."""

import dataclasses
import io
import json
import os
import zipfile
import zlib
from pathlib import Path

import jax
import numpy as np

from extrap.curves.causal_pfn import CausalPFNConfig, fresh
from extrap.errors import ExtrapError
from extrap.evaluation.results import write_bytes
from extrap.training.problem import Params

CONFIG = 'config'  # The entry that holds the sizes, as JSON.
# The entry that says what is forecast; none where it is learning curves.
KIND = 'kind'
LEARNING, SCALING = 'learning curves', 'scaling curves'
# What reading a file that is something else may raise.
FAILURES = (
  OSError,
  EOFError,
  ValueError,
  KeyError,
  TypeError,
  zipfile.BadZipFile,
  zlib.error,
)


def save(
  path: str | os.PathLike[str],
  config: CausalPFNConfig,
  params: Params,
  kind: str = LEARNING,
) -> Path:
  """Writes the sizes and the parameters of one network, float32."""
  notes = {CONFIG: np.array(json.dumps(dataclasses.asdict(config)))}
  file = io.BytesIO()
  np.savez_compressed(file, **notes, **{KIND: np.array(kind)}, **_flat(params))
  return write_bytes(path, file.getvalue())


def load(
  path: str | os.PathLike[str], kind: str = LEARNING
) -> tuple[CausalPFNConfig, Params]:
  """Reads what `save` wrote.

  Raises:
    ExtrapError: the file is missing, is no such archive, or holds a network of
      another kind.
  """
  try:
    with np.load(path, allow_pickle=False) as archive:
      arrays = {name: archive[name] for name in archive.files}
    found = str(arrays.pop(KIND, LEARNING))
    config = CausalPFNConfig(**json.loads(str(arrays.pop(CONFIG))))
    params = _nested(arrays)
    if jax.tree.map(np.shape, params) != _shapes(config):
      raise ValueError('its arrays are not those of its sizes')
  except FAILURES as error:
    raise ExtrapError(f'{path} holds no network: {error}') from error
  if found != kind:
    raise ExtrapError(f'{path} holds a network of {found}, not of {kind}')
  return config, params


def _shapes(config: CausalPFNConfig) -> dict:
  """Of every parameter of a network."""
  made = jax.eval_shape(lambda: fresh(config, jax.random.key(0)))
  return jax.tree.map(lambda leaf: leaf.shape, made)


def _flat(params: Params, above: str = '') -> dict[str, np.ndarray]:
  """Every array by its path, 'layers_0/out/kernel'."""
  found = {}
  for name, part in params.items():
    path = f'{above}{name}'
    if isinstance(part, dict):
      found |= _flat(part, f'{path}/')
    else:
      found[path] = np.asarray(part, np.float32)
  return found


def _nested(arrays: dict[str, np.ndarray]) -> Params:
  """Undoes `_flat`."""
  params: Params = {}
  for path, array in arrays.items():
    *above, name = path.split('/')
    inside = params
    for part in above:
      inside = inside.setdefault(part, {})
    inside[name] = array
  return params
