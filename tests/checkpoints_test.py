"""Tests of training/checkpoints.py."""

import concurrent.futures
import functools
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from extrap.errors import ExtrapError
from extrap.training.checkpoints import SUMS, Checkpoints


def _state(value: float = 0.0) -> dict:
  key = jax.random.key(7)
  return {
    'params': {'w': jax.random.normal(key, (64, 64)) + value},
    'moments': (jnp.arange(3.0), {}),
    'key': jax.random.split(key, 3),
    'step': jnp.int32(5),
  }


def _abstract(state: dict) -> dict:
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)


def _assert_equal(found: dict, wanted: dict) -> None:
  assert jax.tree.structure(found) == jax.tree.structure(wanted)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
    assert a.dtype == b.dtype
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
      a, b = jax.random.key_data(a), jax.random.key_data(b)
    np.testing.assert_array_equal(a, b)


def _save(folder: Path, *steps: int) -> None:
  with Checkpoints(folder, every=1) as checkpoints:
    for step in steps:
      checkpoints.save(step, _state(step))


def _largest(checkpoint: Path) -> Path:
  files = [p for p in (checkpoint / 'state').rglob('*') if p.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


def _truncate(checkpoint: Path) -> None:
  os.truncate(_largest(checkpoint), 100)


def _flip(checkpoint: Path) -> None:
  data = bytearray(_largest(checkpoint).read_bytes())
  data[len(data) // 2] ^= 1
  _largest(checkpoint).write_bytes(data)


def _lose(checkpoint: Path) -> None:
  _largest(checkpoint).unlink()


def _run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
  return subprocess.run(
    [sys.executable, '-c', program, str(folder)],
    capture_output=True,
    text=True,
    check=True,
    timeout=60,
    cwd=Path(__file__).parents[1],
  )


def test_restores_what_was_saved(tmp_path: Path) -> None:
  _save(tmp_path, 1, 2)
  with Checkpoints(tmp_path, every=1) as checkpoints:
    step, state = checkpoints.restore(_abstract(_state()))
    assert step == checkpoints.latest() == 2
    _assert_equal(state, _state(2))
    step, state = checkpoints.restore(_abstract(_state()), step=1)
    assert step == 1
    _assert_equal(state, _state(1))


def test_nothing_to_restore(tmp_path: Path) -> None:
  with Checkpoints(tmp_path / 'new', every=1) as checkpoints:
    assert checkpoints.restore(_abstract(_state())) is None
    assert checkpoints.latest() is None
    with pytest.raises(ExtrapError, match='no checkpoint 3'):
      checkpoints.restore(_abstract(_state()), step=3)


def test_saves_when_due_and_keeps_the_newest(tmp_path: Path) -> None:
  with Checkpoints(tmp_path, every=10) as checkpoints:
    saved = [s for s in range(4, 40, 4) if checkpoints.save(s, _state())]
    assert saved == [12, 24, 36]
    assert not checkpoints.save(36, _state(), force=True)
    assert not checkpoints.save(38, _state())
    assert checkpoints.save(38, _state(), force=True)
  assert {path.name for path in tmp_path.iterdir()} == {'36', '38'}


def test_relative_folder(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.chdir(tmp_path)
  _save(Path('checkpoints'), 1)
  assert (tmp_path / 'checkpoints' / '1').is_dir()


def test_state_may_be_donated_at_once(tmp_path: Path) -> None:
  @functools.partial(jax.jit, donate_argnums=0)
  def overwrite(x: jax.Array) -> jax.Array:
    return x * 0 - 1

  x = jnp.arange(1 << 22, dtype=jnp.float32)
  wanted = np.array(x)
  with Checkpoints(tmp_path, every=1) as checkpoints:
    checkpoints.save(1, {'x': x})
    for _ in range(5):
      x = overwrite(x)
    x.block_until_ready()
    target = {'x': jax.ShapeDtypeStruct(x.shape, x.dtype)}
    _, state = checkpoints.restore(target)
  np.testing.assert_array_equal(state['x'], wanted)


def test_orbax_never_holds_the_arrays_of_the_caller(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  given = []
  with Checkpoints(tmp_path, every=1) as checkpoints:
    monkeypatch.setattr(
      checkpoints._manager,
      'save',
      lambda step, args, force: given.append(args.state.item['x']),
    )
    x = jnp.ones(8)
    checkpoints.save(1, {'x': x})
  assert given[0].unsafe_buffer_pointer() != x.unsafe_buffer_pointer()


def test_restores_to_another_mesh(tmp_path: Path) -> None:
  x = jnp.arange(64.0).reshape(8, 8)

  def sharding(*shape: int) -> NamedSharding:
    mesh = jax.make_mesh(shape, ('a', 'b'))
    return NamedSharding(mesh, PartitionSpec('a', 'b'))

  with Checkpoints(tmp_path, every=1) as checkpoints:
    checkpoints.save(1, {'x': jax.device_put(x, sharding(4, 2))})
    there = sharding(2, 4)
    target = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=there)
    _, state = checkpoints.restore({'x': target})
  assert state['x'].sharding == there
  np.testing.assert_array_equal(state['x'], x)


@pytest.mark.parametrize('damage', [_truncate, _flip, _lose])
def test_damage_falls_back(damage, tmp_path: Path, caplog) -> None:
  _save(tmp_path, 1, 2)
  damage(tmp_path / '2')
  with Checkpoints(tmp_path, every=1) as checkpoints:
    step, state = checkpoints.restore(_abstract(_state()))
    assert step == 1
    _assert_equal(state, _state(1))
    (warning,) = caplog.messages
    assert 'renamed to 2.unreadable' in warning and '\n' not in warning
    assert checkpoints.save(2, _state(2))
    assert checkpoints.restore(_abstract(_state()))[0] == 2
  assert (tmp_path / '2.unreadable').is_dir()


def test_damage_of_the_step_asked_for(tmp_path: Path) -> None:
  _save(tmp_path, 1, 2)
  _flip(tmp_path / '2')
  with Checkpoints(tmp_path, every=1) as checkpoints:
    with pytest.raises(ExtrapError, match=r'checkpoint 2: .* is damaged'):
      checkpoints.restore(_abstract(_state()), step=2)
  assert (tmp_path / '2').is_dir()


def test_all_damaged_is_an_error_every_time(tmp_path: Path) -> None:
  _save(tmp_path, 1, 2)
  _flip(tmp_path / '1')
  _truncate(tmp_path / '2')
  for _ in range(2):
    with Checkpoints(tmp_path, every=1) as checkpoints:
      with pytest.raises(ExtrapError, match='delete the folder') as error:
        checkpoints.restore(_abstract(_state()))
    assert str(tmp_path) in str(error.value) and '\n' not in str(error.value)


def test_killed_before_the_sums_were_written(tmp_path: Path) -> None:
  _save(tmp_path, 1, 2, 3)
  for step in '23':
    (tmp_path / step / SUMS).unlink()
  with Checkpoints(tmp_path, every=1) as checkpoints:
    assert checkpoints.restore(_abstract(_state()))[0] == 3
    _truncate(tmp_path / '3')
    assert checkpoints.restore(_abstract(_state()))[0] == 2


def test_sums_are_written_without_waiting_for_the_next_save(
  tmp_path: Path,
) -> None:
  checkpoints = Checkpoints(tmp_path, every=10)
  checkpoints.save(10, _state())
  checkpoints._manager.wait_until_finished()
  assert not (tmp_path / '10' / SUMS).exists()
  assert not checkpoints.save(11, _state())
  concurrent.futures.wait(checkpoints._sealing)
  assert (tmp_path / '10' / SUMS).exists()
  checkpoints.close()


@pytest.mark.parametrize(
  ('change', 'line'),
  [
    ({'step': jnp.zeros(2, jnp.int32)}, r'step is int32\[\] there, int32\[2\]'),
    ({'step': jnp.float32(0)}, r'step is int32\[\] there, float32\[\] here'),
    ({'new': jnp.zeros(2)}, r'new is absent there, float32\[2\] here'),
  ],
)
def test_another_configuration(change: dict, line: str, tmp_path: Path) -> None:
  _save(tmp_path, 1)
  with Checkpoints(tmp_path, every=1) as checkpoints:
    with pytest.raises(ExtrapError, match=line):
      checkpoints.restore(_abstract({**_state(), **change}))
  assert (tmp_path / '1').is_dir()


def test_only_reading_changes_nothing(tmp_path: Path) -> None:
  _save(tmp_path, 1, 2)
  _flip(tmp_path / '2')
  before = sorted(tmp_path.rglob('*'))
  with Checkpoints(tmp_path, every=None) as checkpoints:
    assert checkpoints.restore(_abstract(_state()))[0] == 1
    assert not checkpoints.save(3, _state(), force=True)
  assert sorted(tmp_path.rglob('*')) == before
  with pytest.raises(ExtrapError, match='no such folder'):
    Checkpoints(tmp_path / 'absent', every=None)
  assert not (tmp_path / 'absent').exists()


def test_unwritable_folder(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  (tmp_path / 'file').touch()
  with pytest.raises(ExtrapError, match='cannot be used') as error:
    Checkpoints(tmp_path / 'file' / 'checkpoints', every=1)
  assert '\n' not in str(error.value)
  # For root permission bits do not count.
  monkeypatch.setattr(os, 'access', lambda *args: False)
  with pytest.raises(ExtrapError, match='not writable'):
    Checkpoints(tmp_path, every=1)


def test_failed_save_ends_the_process_in_one_line(tmp_path: Path) -> None:
  # The last thing said, in a process: threads that are left may keep it alive.
  program = """
import pathlib, shutil, sys
import jax
from extrap.errors import ExtrapError
from extrap.training.checkpoints import Checkpoints
folder = pathlib.Path(sys.argv[1])
checkpoints = Checkpoints(folder, every=1)
shutil.rmtree(folder)
folder.touch()
try:
  checkpoints.save(1, {'x': jax.numpy.ones(3)})
  checkpoints.wait()
except ExtrapError as error:
  print(error)
checkpoints.close()
"""
  done = _run(program, tmp_path / 'checkpoints')
  (line,) = done.stdout.splitlines()
  assert 'checkpoint 1 could not be written' in line
  assert str(tmp_path) in line


def test_orbax_is_quiet_and_imported_late(tmp_path: Path) -> None:
  program = """
import sys
from absl import logging
from extrap.training.checkpoints import Checkpoints
assert not any(name.startswith('orbax') for name in sys.modules)
import jax
logging.set_verbosity(logging.INFO)
checkpoints = Checkpoints(sys.argv[1], every=1)
checkpoints.save(1, {'x': jax.numpy.ones(3)})
checkpoints.close()
logging.info('ours')
"""
  done = _run(program, tmp_path)
  lines = done.stderr.splitlines()
  assert [line for line in lines if 'orbax' in line.lower()] == []
  assert lines[-1].endswith('ours')
