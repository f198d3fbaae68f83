"""Several processes here: their output, their ends, and none left behind."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch import command_line, local, processes

ROOT = Path(__file__).parents[1]
RANK = "import os, signal, sys, time; rank = int(sys.argv[-1].split('=')[1])\n"


def child(code):
  """A command without jax; `rank` is defined in its code."""
  return ['python', '-c', RANK + code]


def launch(code, **flags):
  return local.launch(local.Config(**flags), child(code))


def run(*argv):
  """The launcher as a program; its exit code."""
  with pytest.raises(SystemExit) as caught:
    command_line.run(local.launch, local.Config, '', ['local', *argv])
  return caught.value.code


def test_each_process_has_its_rank_and_all_have_one_address(capfd):
  assert launch('print(*sys.argv[1:])', processes=3) == 0
  lines = sorted(capfd.readouterr().out.splitlines())
  port = lines[0].split('127.0.0.1:')[1].split()[0]
  assert lines == [
    f'[{rank}] --cluster.coordinator=127.0.0.1:{port} --cluster.processes=3 '
    f'--cluster.rank={rank}'
    for rank in range(3)
  ]
  assert int(port) > 0


def test_the_two_streams_stay_apart_and_lines_whole(capfd):
  code = """
print('out', rank); print('error', rank, file=sys.stderr)
sys.stdout.write('no end'); sys.stdout.flush()
"""
  assert launch(code) == 0
  stdout, stderr = capfd.readouterr()
  assert sorted(stdout.splitlines()) == [
    '[0] no end',
    '[0] out 0',
    '[1] no end',
    '[1] out 1',
  ]
  assert sorted(stderr.splitlines()) == ['[0] error 0', '[1] error 1']


def test_a_progress_bar_leaves_its_last_state(capfd):
  code = r"""
for part in ('10 %\r', '20 %\r', '100 %', '\r\n', 'x\r\n', '1\r2\r'):
  sys.stdout.buffer.write(part.encode()); sys.stdout.buffer.flush()
  time.sleep(0.02)
"""
  assert launch(code, processes=1) == 0
  assert capfd.readouterr().out == '[0] 100 %\n[0] x\n[0] 2\n'


def test_a_bar_that_never_ends_its_line_does_not_pile_up():
  pipe = processes._Pipe('0', 'stdout')
  for _ in range(1000):
    pipe.feed(b'10 %\r')
  assert len(pipe.rest) < 10


def test_bytes_that_are_no_text_are_passed_on(capfd):
  code = r"os.write(1, b'\xff\n')"
  assert launch(code, processes=1) == 0
  assert capfd.readouterr().out == '[0] \ufffd\n'


def test_more_output_than_a_pipe_holds(capfd):
  assert launch("print('x' * 300_000)") == 0
  lines = capfd.readouterr().out.splitlines()
  assert sorted(map(len, lines)) == [300_004] * 2


def test_a_failure_stops_the_others_at_once(capfd):
  code = """
if rank: sys.exit(7)
time.sleep(60)
"""
  assert launch(code) == 7
  line = 'launch.local: rank 1 exited with 7; stopping the others\n'
  assert capfd.readouterr().err == line


def test_a_death_by_signal_is_a_failure_and_the_deaf_are_killed(capfd):
  code = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('deaf', flush=True)
while rank == 0: time.sleep(0.01)
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGABRT)
"""
  assert launch(code, grace=0.2) == 128 + signal.SIGABRT
  assert 'rank 1 was killed by SIGABRT' in capfd.readouterr().err


def test_one_that_is_preempted_gives_the_others_time(tmp_path, capfd):
  """They end by themselves: a signal would find them at their exit."""
  code = """
if rank:
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
  open(sys.argv[1], 'w').close()
  time.sleep(0.3)
while not os.path.exists(sys.argv[1]): time.sleep(0.01)
sys.exit(75)
"""
  command = [*child(code), str(tmp_path / 'ready')]
  assert local.launch(local.Config(), command) == 75
  assert 'rank 0 exited with 75; waiting for' in capfd.readouterr().err


def test_one_that_hangs_when_the_other_was_preempted_is_killed():
  assert launch('rank and time.sleep(60); sys.exit(75)', grace=0.2) == 75


def test_a_death_that_is_not_our_doing_counts_beside_a_preemption():
  """The others are waited for, so that nobody here has killed rank 1."""
  code = """
if rank: time.sleep(0.2); os.kill(os.getpid(), 9)
sys.exit(75)
"""
  assert launch(code) == 128 + signal.SIGKILL


def test_a_failure_beside_a_preemption_counts():
  assert launch('sys.exit(75 if rank else 1)', processes=2) == 1


def test_a_process_that_is_done_waits_for_the_others():
  assert launch('time.sleep(rank * 0.2)', grace=0) == 0


@pytest.mark.parametrize(
  ('codes', 'code'),
  [
    ([], 0),
    ([0, 0], 0),
    ([0, 75], 75),
    ([75, 1, 0], 1),
    ([1, 137, 75], 137),
    ([137, 3], 3),
    ([3, 2, 139], 2),
  ],
)
def test_the_worst_code(codes, code):
  assert processes.worst(codes) == processes.worst(reversed(codes)) == code


ATTEMPTS = """
with open(sys.argv[1] + str(rank), 'a') as file: print(sys.argv[-3], file=file)
count = len(open(sys.argv[1] + str(rank)).readlines())
"""


@pytest.mark.parametrize(
  'end', ['sys.exit(1)', 'sys.exit(75)', 'os.kill(os.getpid(), 9)']
)
def test_a_job_is_started_again_whole(end, tmp_path, capfd):
  code = f"""{ATTEMPTS}
def begun(): return open(sys.argv[1] + '0', 'a+').tell()
while rank and begun() < os.path.getsize(sys.argv[1] + '1'): time.sleep(0.01)
if count < 3 and rank: {end}
"""
  command = [*child(code), f'{tmp_path}/']
  assert local.launch(local.Config(restarts=5), command) == 0
  ports = (tmp_path / '0').read_text().splitlines()
  assert len(ports) == 3 and len(set(ports)) > 1
  assert (tmp_path / '1').read_text().splitlines() == ports
  stderr = capfd.readouterr().err
  assert '; restart 1 of 5\n' in stderr and '; restart 2 of 5\n' in stderr
  assert 'restart 3' not in stderr


@pytest.mark.parametrize(
  ('code', 'attempts'), [(1, 3), (75, 3), (2, 1), (3, 1), (0, 1)]
)
def test_restarts_are_bounded_and_what_is_final_is_not_repeated(
  code, attempts, tmp_path
):
  command = [*child(ATTEMPTS + f'sys.exit({code})'), f'{tmp_path}/']
  config = local.Config(processes=1, restarts=2)
  assert local.launch(config, command) == code
  assert len((tmp_path / '0').read_text().splitlines()) == attempts


@pytest.mark.parametrize(
  ('signum', 'forwarded'),
  [
    (signal.SIGTERM, signal.SIGTERM),
    (signal.SIGINT, signal.SIGINT),
    (signal.SIGHUP, signal.SIGTERM),
    (signal.SIGQUIT, signal.SIGTERM),
  ],
)
def test_a_signal_goes_to_all_and_there_is_no_restart(
  signum, forwarded, monkeypatch
):
  monkeypatch.delenv('PYTHONUNBUFFERED', raising=False)
  # Not flushed: what a study prints is seen when it prints it.
  code = """
def leave(signum, frame):
  print('got', signum, flush=True)
  sys.exit(75)
for signum in (signal.SIGTERM, signal.SIGINT): signal.signal(signum, leave)
print('ready')
time.sleep(60)
"""
  with _launcher('--restarts=3', '--', *child(code)) as process:
    lines = [process.stdout.readline() for _ in range(2)]
    assert sorted(lines) == ['[0] ready\n', '[1] ready\n']
    process.send_signal(signum)
    stdout, stderr = process.communicate(timeout=20)
  assert sorted(stdout.splitlines()) == [
    f'[0] got {forwarded:d}',
    f'[1] got {forwarded:d}',
  ]
  assert process.returncode == 75
  assert 'restart' not in stderr


def test_a_signal_reaches_what_is_deaf_as_sigkill():
  code = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready', flush=True)
time.sleep(60)
"""
  argv = ('--processes=1', '--grace=0.2', '--', *child(code))
  with _launcher(*argv) as process:
    assert process.stdout.readline() == '[0] ready\n'
    process.terminate()
    process.communicate(timeout=20)
  assert process.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize('grace', ['inf', '1e9'])
def test_one_that_was_told_before_it_could_listen_is_preempted(grace):
  code = "print('ready', flush=True); time.sleep(60)"
  argv = ('--restarts=3', f'--grace={grace}', '--', *child(code))
  with _launcher(*argv) as process:
    assert {process.stdout.readline() for _ in range(2)} == {
      '[0] ready\n',
      '[1] ready\n',
    }
    process.terminate()
    _, stderr = process.communicate(timeout=20)
  assert process.returncode == 75
  assert 'restart' not in stderr and 'Traceback' not in stderr


@pytest.mark.parametrize('is_process_1', [False, True])
def test_a_study_that_a_shell_has_started_has_its_time_to_save(
  is_process_1, tmp_path
):
  """The shell dies of the signal, at once, and the study is an orphan.

  Process 1 of a container, which adopts orphans, has to notice their end.
  """
  if is_process_1 and sys.platform != 'linux':
    pytest.skip('needs a process that adopts orphans')
  saved = tmp_path / 'saved'
  code = f"""
def save(signum, frame):
  time.sleep(0.3)
  open({str(saved)!r}, 'w').close()
  sys.exit(75)
signal.signal(signal.SIGTERM, save)
print('ready', flush=True)
time.sleep(60)
"""
  script = tmp_path / 'train.sh'
  script.write_text('"$@"\nexit $?\n')
  study = [sys.executable, *child(code)[1:]]
  argv = ('--processes=1', '--', 'bash', str(script), *study)
  adopt = 'import ctypes; ctypes.CDLL(None).prctl(36, 1);'
  first = adopt if is_process_1 else ''
  with _launcher(*argv, first=first) as process:
    assert process.stdout.readline() == '[0] ready\n'
    process.terminate()
    process.communicate(timeout=20)
  assert process.returncode == 75
  assert saved.exists()


@contextlib.contextmanager
def _launcher(*argv, module='local', first=''):
  # Where tests run in the background an interrupt is ignored, and what they
  # start would inherit that.
  heed = first + (
    'import runpy, signal, sys; signal.signal(2, signal.default_int_handler);'
    'signal.signal(signal.SIGHUP, signal.SIG_DFL);'
    'signal.signal(signal.SIGQUIT, signal.SIG_DFL);'
    f"runpy.run_module('launch.{module}', run_name='__main__')"
  )
  process = subprocess.Popen(
    [sys.executable, '-c', heed, *argv],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  try:
    yield process
  finally:
    process.kill()
    process.wait()


def test_what_a_process_leaves_behind_is_killed(tmp_path):
  path = tmp_path / 'lock'
  code = f"""
import fcntl, subprocess
file = open({str(path)!r}, 'w')
fcntl.flock(file, fcntl.LOCK_EX)
subprocess.Popen(['sleep', '60'], pass_fds=[file.fileno()])
"""
  assert launch(code, processes=1) == 0
  _wait_for_lock(path)


def test_nothing_is_left_when_the_launcher_itself_fails(tmp_path, monkeypatch):
  path = tmp_path / 'lock'
  code = f"""
import fcntl
file = open({str(path)!r}, 'w')
fcntl.flock(file, fcntl.LOCK_EX)
print('ready', flush=True)
time.sleep(60)
"""

  class Broken:
    def write(self, text):
      raise OSError(28, 'No space left on device')

  monkeypatch.setattr(sys, 'stdout', Broken())
  with pytest.raises(Exception, match='stdout cannot be written: No space'):
    launch(code, processes=1)
  _wait_for_lock(path)


def test_a_full_disk_is_one_line_where_output_is_buffered():
  if not Path('/dev/full').exists():
    pytest.skip('needs /dev/full')
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONUNBUFFERED'}
  words = ('launch.local', '--processes=1', '--', *child('print(1)'))
  with open('/dev/full', 'w') as full:
    done = subprocess.run(
      [sys.executable, '-m', *words],
      cwd=ROOT,
      env=environment,
      stdout=full,
      stderr=subprocess.PIPE,
      text=True,
    )
  assert done.returncode == 1
  assert done.stderr.endswith('cannot be written: No space left on device\n')
  assert done.stderr.count('\n') == 1


def test_a_launcher_in_a_launcher_ends_its_children_too(tmp_path):
  """The outer one fails, because nobody reads what it prints."""
  path = tmp_path / 'lock'
  code = f"""
import contextlib, fcntl
file = open({str(path)!r}, 'w')
fcntl.flock(file, fcntl.LOCK_EX)
for _ in range(2000):
  with contextlib.suppress(OSError): print('more', flush=True)
  time.sleep(0.02)
"""
  inner = ('python', '-m', 'launch.local', '--processes=1', '--', *child(code))
  argv = (f'--root={tmp_path}/out', '--', *inner)
  with _launcher(*argv, module='sweep') as process:
    assert process.stdout.readline() == '[1] [0] more\n'
    process.stdout.close()
    assert process.wait(20) == 1
  _wait_for_lock(path)


def test_somebody_else_who_writes_on_does_not_keep_the_launcher(tmp_path):
  pid = tmp_path / 'pid'
  code = f"""
import pathlib, subprocess
other = subprocess.Popen(['yes'], start_new_session=True)
pathlib.Path({str(pid)!r}).write_text(str(other.pid))
time.sleep(0.1)
"""
  with _launcher('--processes=1', '--', *child(code)) as process:
    try:
      process.communicate(timeout=20)
    finally:
      with contextlib.suppress(ProcessLookupError):
        os.kill(int(pid.read_text()), signal.SIGKILL)
  assert process.returncode == 0


def test_characters_that_a_terminal_lacks_are_spelt_out(monkeypatch):
  monkeypatch.setenv('PYTHONIOENCODING', 'ascii')
  code = r"sys.stdout.buffer.write(b'\xe2\x96\x88 10 %\n')"
  with _launcher('--processes=1', '--', *child(code)) as process:
    stdout, _ = process.communicate(timeout=20)
  assert (process.returncode, stdout) == (0, '[0] \\u2588 10 %\n')


def _wait_for_lock(path):
  """Returns as soon as nobody who holds the lock is alive any more."""
  end = time.monotonic() + 20
  with path.open('r+') as file:
    while True:
      try:
        return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        assert time.monotonic() < end, 'a process was left behind'
        time.sleep(0.02)


def test_signal_handlers_are_as_before():
  def handler(signum, frame):
    raise AssertionError

  before = signal.signal(signal.SIGTERM, handler)
  try:
    launch('pass', processes=1)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert signal.set_wakeup_fd(-1) == -1
  finally:
    signal.signal(signal.SIGTERM, before)


def test_simulated_devices(capfd):
  code = (
    "print(os.environ['JAX_PLATFORMS'], os.environ['JAX_NUM_CPU_DEVICES']);"
    'import jax; print(jax.device_count())'
  )
  assert launch(code, processes=1, devices=3) == 0
  assert capfd.readouterr().out == '[0] cpu 3\n[0] 3\n'


def test_the_environment_is_left_alone_without_devices(capfd, monkeypatch):
  monkeypatch.setenv('JAX_PLATFORMS', 'cuda,cpu')
  monkeypatch.delenv('JAX_NUM_CPU_DEVICES', raising=False)
  code = """
import json
names = ('JAX_PLATFORMS', 'JAX_NUM_CPU_DEVICES')
print(json.dumps([os.environ.get(name) for name in names]))
"""
  assert launch(code, processes=1) == 0
  line = capfd.readouterr().out.removeprefix('[0] ')
  assert json.loads(line) == ['cuda,cpu', None]


def test_python_is_the_one_that_runs_this():
  command = local.rank_command(['python', '-V'], 1, 2, 0)
  assert command[:2] == [sys.executable, '-V']
  assert local.rank_command(['env', 'python'], 1, 2, 0)[:2] == ['env', 'python']


def test_a_free_port_can_be_listened_at():
  import socket

  with socket.socket() as server:
    server.bind(('127.0.0.1', local.free_port()))
    server.listen()


@pytest.mark.parametrize(
  ('argv', 'code', 'message'),
  [
    ([], 2, 'nothing to run: python -m launch.local'),
    (['--'], 2, 'nothing to run'),
    (['--processes=0', '--', 'true'], 2, '--processes=0: must be >= 1'),
    (['--restarts=-1', '--', 'true'], 2, '--restarts=-1'),
    (['--', 'python', '--cluster.rank=0'], 2, '--cluster.rank=0'),
    (['--', '/no/such/program'], 1, '/no/such/program: No such file'),
  ],
)
def test_bad_input_is_one_line(argv, code, message, capfd):
  assert run(*argv) == code
  stdout, stderr = capfd.readouterr()
  assert stderr.startswith('error: ') and stderr.count('\n') == 1
  assert message in stderr and not stdout


def test_launchers_do_not_import_jax():
  modules = 'local, slurm, sweep'
  code = (
    f'from launch import {modules}; import sys; print("jax" in sys.modules)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.stdout == 'False\n', done.stderr
