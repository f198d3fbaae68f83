"""launch.tpu: commands, quoting, and a study that survives its slices."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import golden
import pytest

from extrap.errors import ExtrapError, Preempted, UsageError
from launch import accelerators, command_line, queued_resource, tpu
from launch.queued_resource import Limits, back_off, supervise, verdict

ROOT = Path(__file__).parents[1]
COMMAND = ['python', '-m', 'experiments.addition', '--workdir=/mnt/runs/a']
HARD = ["it's", '$HOME `id`', 'two  words', '"', '\\', '*', '', 'a\nb', '!x']

# Plays back what the tests say, one line a call, and notes every call. HANG
# goes on until it is killed, SLOW until nine more looks at the state, NUDGE
# sends SIGTERM to the launcher, INTERRUPT does both, and CTRL-C sends SIGINT to
# all that a terminal would.
FAKE = """#!{python} -SE
import json, os, pathlib, signal, sys, time
folder = pathlib.Path({folder!r})

def note(what):
  with open(folder / 'calls', 'a') as calls:
    calls.write(json.dumps(what) + '\\n')

def looks():
  return (folder / 'calls').read_text().count('"describe"')

def next_of(name, default):
  path = folder / name
  lines = path.read_text().splitlines() if path.exists() else []
  path.write_text('\\n'.join(lines[1:]))
  return lines[0] if lines else default

def play(name):
  code = next_of(name, '0')
  if code in ('NUDGE', 'INTERRUPT'):
    os.kill(os.getppid(), signal.SIGTERM)
  if code == 'CTRL-C':
    # As a shell's, this process group is that of the launcher.
    os.kill(os.getppid(), signal.SIGINT)
    if os.getpgrp() == os.getpgid(os.getppid()):
      os.kill(os.getpid(), signal.SIGINT)
  if code == 'LOST':
    (folder / 'there').write_text('')
    return 1
  if code in ('HANG', 'INTERRUPT'):
    time.sleep(60)
  if code == 'SLOW':
    asked, end = looks(), time.monotonic() + 60
    while looks() < asked + 9 and time.monotonic() < end:
      time.sleep(0.02)
  return int(code) if code.isdigit() else 0

argv = sys.argv[1:]
note(argv)
verb = argv[3]
there = folder / 'there'
if verb == 'describe':
  state = next_of('states', 'ACTIVE' if there.exists() else 'ABSENT')
  if state == 'ABSENT':
    sys.exit('ERROR: NOT_FOUND: no such resource')
  if state == 'MUTE':
    sys.exit('ERROR: log in first')
  print(state.replace('|', '\\t'))
elif verb == 'create':
  if code := play('create'):
    print('ERROR: no quota', file=sys.stderr)
    sys.exit(code)
  there.write_text('')
elif verb == 'delete':
  if code := play('delete'):
    sys.exit(code)
  there.unlink(missing_ok=True)
elif verb in ('ssh', 'scp'):
  what = ' '.join(argv)
  is_stop = 'kill' in what and 'tar' not in what
  kind = 'run' if 'exec' in what else 'stop' if is_stop else 'prepare'
  sys.exit(play(kind))
"""


class Cloud:
  """A `gcloud` on PATH that does as it is told."""

  def __init__(self, folder: Path) -> None:
    self.folder = folder
    path = folder / 'bin' / 'gcloud'
    path.parent.mkdir()
    path.write_text(FAKE.format(python=sys.executable, folder=str(folder)))
    path.chmod(0o755)

  def plays(self, **lines: str) -> None:
    """What the next calls of each kind give, as words."""
    for name, words in lines.items():
      (self.folder / name).write_text('\n'.join(words.split()))

  @property
  def calls(self) -> list[list[str]]:
    path = self.folder / 'calls'
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]

  @property
  def verbs(self) -> list[str]:
    """What was done, without looks at the state."""
    names = []
    for words in self.calls:
      name = 'run' if 'exec' in words[-1] else words[3]
      names += [name] if name != 'describe' else []
    return names


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  """A fake gcloud, and a small repository as the present folder."""
  monkeypatch.setenv('PATH', f'{tmp_path}/bin:{os.environ["PATH"]}')
  repository = tmp_path / 'repository'
  repository.mkdir()
  (repository / 'tracked.py').write_text('committed = 1\n')
  (repository / 'untracked').write_text('')
  git = ['git', '-c', 'init.defaultBranch=main']
  subprocess.run([*git, 'init', '-q'], cwd=repository, check=True)
  subprocess.run([*git, 'add', 'tracked.py'], cwd=repository, check=True)
  monkeypatch.chdir(repository)
  return Cloud(tmp_path)


def config(**changes):
  given = {'name': 'add', 'accelerator': 'v5litepod-16', 'zone': 'us-west4-a'}
  return tpu.Config(**given | changes)


def go_on(keep=False, tries=4, wait=50.0, poll=10.0, **changes):
  """Runs the study; returns its exit code and the waits between attempts."""
  waits = []
  code = supervise(
    'add',
    tpu.commands(config(**changes), COMMAND),
    Limits(tries, wait, poll),
    keep=keep,
    sleep=waits.append,
  )
  return code, [wait for wait in waits if wait != poll]


def run(capsys, *flags, command=COMMAND):
  """The launcher in this process: exit code, output, errors."""
  argv = ['tpu', *flags, '--', *command]
  with pytest.raises(SystemExit) as caught:
    command_line.run(tpu.launch, tpu.Config, '', argv)
  said = capsys.readouterr()
  return caught.value.code, said.out, said.err


NEEDED = ('--name=add', '--accelerator=v5litepod-16', '--zone=us-west4-a')


# Accelerators.


def test_names_count_cores_or_chips():
  sizes = {
    name: (one.chips, one.hosts, one.topology)
    for name, one in accelerators.SLICES.items()
  }
  assert sizes['v4-8'] == (4, 1, '2x2x1')
  assert sizes['v4-4096'] == (2048, 512, '8x16x16')
  assert sizes['v5p-128'] == (64, 16, '4x4x4')
  assert sizes['v5litepod-8'] == (8, 1, '2x4')
  assert sizes['v5litepod-16'] == (16, 4, '4x4')
  assert sizes['v6e-1'] == (1, 1, '1x1')
  assert sizes['v6e-256'] == (256, 64, '16x16')


@pytest.mark.parametrize(
  ('name', 'close'),
  [
    ('v5e-16', 'did you mean v5litepod-16?'),
    ('v4-12', 'did you mean v4-8, v4-16, v4-32?'),
    ('v6e16', 'v6e-16'),
    ('h100', 'known: v4-8 to v4-4096'),
  ],
)
def test_unknown_accelerator_names_close_ones(capsys, name, close):
  code, out, err = run(capsys, *NEEDED, f'--accelerator={name}')
  assert (code, out, err.count('\n')) == (2, '', 1)
  assert f'--accelerator={name} is unknown' in err and close in err


# Commands.


@pytest.mark.parametrize(
  ('name', 'changes'),
  [
    ('pod_slice', {}),
    (
      'spot',
      {
        'spot': True,
        'project': 'mine',
        'valid_until_duration': '6h',
        'setup': 'mountpoint -q /mnt/runs || sudo mount 10.0.0.2:/r /mnt/runs',
      },
    ),
    ('slices', {'accelerator': 'v4-8', 'slices': 2, 'keep': True}),
    (
      'further_flags',
      {
        'accelerator': 'v6e-256',
        'runtime_version': 'mine',
        'create_flags': ('--internal-ips', '--network=n'),
      },
    ),
  ],
)
def test_script_is_the_golden_one_and_is_bash(name, changes):
  given = config(**changes)
  text = tpu.script(given, tpu.commands(given, [*COMMAND, *HARD], '1f' * 20))
  subprocess.run(['bash', '-n'], input=text, text=True, check=True)
  golden.check(f'tpu/{name}.sh', text)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('gcloud'), reason='needs gcloud')
@pytest.mark.parametrize('slices', [1, 2])
def test_gcloud_itself_takes_the_commands(slices):
  """Its linter parses them, and calls nobody."""
  given = config(slices=slices, spot=True, valid_until_duration='6h')
  steps = tpu.commands(given, ['true'])
  remote = (*steps.prepare, steps.run, steps.stop)
  for words in (steps.create, steps.describe, steps.delete, *remote):
    line = command_line.shown(w for w in words if w[:9] != '--command')
    lint = ['gcloud', 'meta', 'lint-gcloud-commands']
    done = subprocess.check_output([*lint, f'--command-string={line}'])
    assert [one['success'] for one in json.loads(done)] == [True], words


@pytest.mark.parametrize(
  ('accelerator', 'runtime'),
  [
    ('v4-8', 'tpu-ubuntu2204-base'),
    ('v5litepod-16', 'v2-alpha-tpuv5-lite'),
    ('v5p-8', 'v2-alpha-tpuv5'),
    ('v6e-8', 'v2-alpha-tpuv6e'),
  ],
)
def test_runtime_follows_the_generation(accelerator, runtime):
  words = tpu.create(config(accelerator=accelerator))
  assert f'--runtime-version={runtime}' in words


def test_jax_is_what_the_requirements_say():
  text = (ROOT / 'requirements.txt').read_text()
  assert f"pip install '{tpu.JAX}'" in text


def test_words_survive_the_script_and_the_shell_of_the_worker(tmp_path):
  """The script's shell gives gcloud one word; a worker's shell takes it apart.

  Between them gcloud splits it at blanks, and ssh puts it together again.
  """
  show = ['python', '-c', 'import sys, json; print(json.dumps(sys.argv[1:]))']
  words = tpu.commands(config(), [*show, *HARD]).run
  line = command_line.shown(['printf', '%s\\0', *words])
  given = subprocess.check_output(['bash', '-c', line], text=True).split('\0')
  (shell,) = [word for word in given if word.startswith('--command=')]
  shell = ' '.join(shell.removeprefix('--command=').split(' '))
  bin_ = tmp_path / 'add' / '.venv' / 'bin'
  bin_.mkdir(parents=True)
  (bin_ / 'python').symlink_to(sys.executable)
  done = subprocess.run(
    ['bash', '-c', shell],
    env={'HOME': str(tmp_path), 'PATH': '/usr/bin:/bin'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout) == HARD


@pytest.mark.parametrize('code', [0, 1, 2, 3, 75])
def test_worker_gives_the_exit_code_of_the_study(tmp_path, code):
  (tmp_path / 'add').mkdir()
  shell = tpu.run_shell('add', ['sh', '-c', f'exit {code}'])
  done = subprocess.run(
    ['bash', '-c', shell],
    env={'HOME': str(tmp_path), 'PATH': os.environ['PATH']},
  )
  assert done.returncode == code


def worker(tmp_path):
  """A worker's environment: an archive, and a uv that only takes notes."""
  with tarfile.open(tmp_path / 'add.tar.gz', 'w:gz') as tar:
    tar.addfile(tarfile.TarInfo('requirements.txt'), io.BytesIO())
  fake = tmp_path / 'bin' / 'python3'
  fake.parent.mkdir()
  fake.write_text('#!/bin/sh\nprintf "%s|" "$@" >> ~/calls; echo >> ~/calls\n')
  fake.chmod(0o755)
  return {'HOME': str(tmp_path), 'PATH': f'{fake.parent}:/usr/bin:/bin'}


@pytest.mark.parametrize('again', ['gcloud', 'launcher'])
def test_worker_first_ends_what_a_lost_connection_left(tmp_path, again):
  """gcloud runs one worker's command again; a launcher all, from the copy."""
  (tmp_path / 'add').mkdir()
  environment = worker(tmp_path)
  study = 'trap "echo saved > saved; exit 75" TERM; echo > on; sleep 60 & wait'
  shell = tpu.run_shell('add', ['bash', '-c', study])
  first = subprocess.Popen(
    ['bash', '-c', shell], env=environment, start_new_session=True
  )
  try:
    while not (tmp_path / 'add' / 'on').exists():
      time.sleep(0.02)
    shells = [tpu.run_shell('add', ['cat', 'saved'])]
    if again == 'launcher':
      shells.insert(0, tpu.install_shell('add'))
    done = [
      subprocess.run(
        ['bash', '-c', shell], env=environment, capture_output=True, text=True
      )
      for shell in shells
    ]
    assert first.wait(10) == 75
    assert (tmp_path / 'add' / 'saved').exists()
    alone = (75, ''), (0, 'saved\n')
    assert (done[-1].returncode, done[-1].stdout) == alone[again == 'launcher']
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(first.pid, signal.SIGKILL)


def test_worker_leaves_another_program_with_the_old_number_alone(tmp_path):
  (tmp_path / 'add').mkdir()
  with subprocess.Popen(['sleep', '60'], cwd='/') as other:
    (tmp_path / 'add' / 'run.pid').write_text(str(other.pid))
    environment = worker(tmp_path)
    for shell in (tpu.install_shell('add'), tpu.run_shell('add', ['true'])):
      subprocess.run(['bash', '-c', shell], env=environment, check=True)
    assert other.poll() is None
    other.kill()


def test_workers_unpack_and_install(tmp_path):
  environment = worker(tmp_path)
  shell = tpu.install_shell('add')
  subprocess.run(['bash', '-c', shell], env=environment, check=True)
  assert (tmp_path / 'add' / 'requirements.txt').exists()
  calls = (tmp_path / 'calls').read_text().splitlines()
  assert [call.split('|')[1] for call in calls] == ['pip', 'uv', 'uv']
  assert calls[-1].endswith(f'|-r|requirements.txt|{tpu.JAX}|')
  (tmp_path / 'bin' / 'python3').write_text('#!/bin/sh\nexit 7\n')
  assert subprocess.run(['bash', '-c', shell], env=environment).returncode == 7


# Refusals.


@pytest.mark.parametrize(
  ('flags', 'command', 'words'),
  [
    ((), COMMAND[:-1], 'has no --workdir'),
    ((), [*COMMAND, '--workdir=runs/a'], 'is relative'),
    ((), [*COMMAND, '--workdir', 'gs://b/a'], 'is an address'),
    ((), [*COMMAND, '-workdir=/tmp/a'], 'is local to each worker'),
    (('--accelerator=v4-8',), COMMAND[:-1], 'the VM, which is deleted'),
    (
      ('--accelerator=v4-8', '--slices=2', '--keep'),
      COMMAND[:-1],
      'local to each worker',
    ),
    (('--accelerator=v4-8', '--keep', '--spot'), COMMAND[:-1], 'deleted'),
    ((), [], 'nothing to run'),
    ((), [*COMMAND, '--cluster.rank=0'], '--cluster.rank=0: leave it out'),
    (('--name=Add',), COMMAND, '--name=Add'),
    (('--tries=0',), COMMAND, '--tries=0'),
  ],
)
def test_bad_input_is_one_line_and_creates_nothing(
  cloud, capsys, flags, command, words
):
  code, out, err = run(capsys, *NEEDED, '--execute', *flags, command=command)
  assert (code, out, err.count('\n')) == (2, '', 1)
  assert words in err
  assert not cloud.calls and not Path('.cache').exists()


@pytest.mark.parametrize('flag', NEEDED)
def test_name_accelerator_and_zone_are_needed(capsys, flag):
  rest = [other for other in NEEDED if other != flag]
  code, _, err = run(capsys, *rest)
  assert code == 2 and flag.partition('=')[0] in err


def test_one_kept_host_may_use_its_own_disk(capsys):
  flags = (*NEEDED, '--accelerator=v4-8', '--keep')
  code, out, _ = run(capsys, *flags, command=COMMAND[:-1])
  assert code == 0 and 'trap' not in out


def test_missing_gcloud(cloud, capsys, monkeypatch):
  monkeypatch.setenv('PATH', str(cloud.folder))
  code, out, err = run(capsys, *NEEDED, '--execute')
  assert (code, out, err.count('\n')) == (1, '', 1)
  assert 'gcloud is not on PATH' in err
  assert not Path('.cache').exists()


def test_outside_a_repository_nothing_is_created(cloud, tmp_path, capfd):
  os.chdir(tmp_path / 'bin')
  with pytest.raises(ExtrapError, match='packing the tracked files failed'):
    go_on()
  assert not cloud.calls and not Path('.cache').exists()


# A study and its slices.


def test_all_goes_well(cloud, capfd):
  cloud.plays(states='ABSENT WAITING_FOR_RESOURCES PROVISIONING ACTIVE')
  assert go_on() == (0, [])
  assert cloud.verbs == ['create', 'scp', 'ssh', 'run', 'delete']
  with tarfile.open('.cache/add.tar.gz') as tar:
    assert tar.getnames() == ['tracked.py']
  said = capfd.readouterr().err
  assert 'add: WAITING_FOR_RESOURCES' in said and 'add: PROVISIONING' in said


def test_execute_does_what_the_script_does(cloud, capsys):
  flags = (*NEEDED, '--poll_seconds=0', '--spot', '--setup=true')
  code, text, _ = run(capsys, *flags)
  assert code == 0 and not cloud.calls
  cloud.plays(states='PROVISIONING ACTIVE')
  subprocess.run(['bash', '-c', text], check=True)
  scripted = cloud.calls
  (cloud.folder / 'calls').unlink()
  cloud.plays(states='ABSENT PROVISIONING ACTIVE')
  assert run(capsys, *flags, '--execute')[0] == 0
  # Only --execute watches.
  done, wanted = (
    [words for words in calls if 'describe' not in words]
    for calls in (cloud.calls, scripted)
  )
  assert done == wanted and cloud.calls[0] in scripted


def test_script_gives_back_what_failed(cloud):
  text = tpu.script(config(), tpu.commands(config(), COMMAND))
  cloud.plays(states='FAILED')
  assert subprocess.run(['bash', '-c', text]).returncode == 1
  assert cloud.verbs == ['create', 'delete']
  cloud.plays(run='3')
  assert subprocess.run(['bash', '-c', text]).returncode == 3
  assert cloud.verbs[-2:] == ['run', 'delete']


def test_preempted_slice_is_deleted_and_created_again(cloud):
  cloud.plays(states='ABSENT ACTIVE SUSPENDED ABSENT ACTIVE', run='255 0')
  code, waits = go_on()
  assert code == 0 and waits == [back_off(1)]
  once = ['create', 'scp', 'ssh', 'run', 'delete']
  assert cloud.verbs == once + once


def test_hanging_connection_to_a_preempted_slice(cloud, monkeypatch):
  """The study's connection hangs; what `describe` says ends it."""
  cloud.plays(states='ABSENT ACTIVE ACTIVE SUSPENDING SUSPENDED', run='HANG 0')
  start = time.monotonic()
  assert go_on(poll=0.05)[0] == 0
  assert time.monotonic() - start < 30  # Far from the minute that it hangs.
  assert cloud.verbs.count('create') == 2


@pytest.mark.parametrize('code', [75, 255, 134])
def test_study_is_started_again_on_slices_that_are_well(cloud, code):
  cloud.plays(run=f'{code} 0')
  assert go_on()[0] == 0
  assert cloud.verbs.count('run') == 2
  assert cloud.verbs.count('create') == 1


@pytest.mark.parametrize('code', [0, 1, 2, 3])
def test_exit_codes_of_the_study_come_through(cloud, code):
  cloud.plays(run=str(code))
  assert go_on()[0] == code
  assert cloud.verbs.count('run') == 1
  assert cloud.verbs[-1] == 'delete'


def test_failure_because_of_a_preemption_is_not_final(cloud):
  """Workers notice before `describe` does, and fail with 1."""
  cloud.plays(states='ABSENT ACTIVE ACTIVE SUSPENDING', run='1 0')
  assert go_on()[0] == 0
  assert cloud.verbs.count('create') == 2


@pytest.mark.parametrize(
  ('code', 'state', 'expected'),
  [
    (0, 'SUSPENDED', 'finished'),
    (2, 'SUSPENDED', 'finished'),
    (3, 'ACTIVE', 'finished'),
    (1, 'ACTIVE', 'finished'),
    (1, 'SUSPENDING', 'recreate'),
    (75, 'ACTIVE', 'again'),
    (75, 'SUSPENDED', 'recreate'),
    (255, 'FAILED', 'recreate'),
    (255, 'ACTIVE', 'again'),
    (134, 'ABSENT', 'recreate'),
  ],
)
def test_verdict(code, state, expected):
  assert verdict(code, state) == expected


def test_failed_creation_is_tried_again_with_its_reason_shown(cloud, capfd):
  cloud.plays(states='ABSENT FAILED|stockout ABSENT ACTIVE')
  assert go_on()[0] == 0
  assert cloud.verbs[:3] == ['create', 'delete', 'create']
  assert 'add: FAILED stockout' in capfd.readouterr().err


def test_gives_up_after_the_bound(cloud):
  cloud.plays(states='ABSENT FAILED ' * 9)
  with pytest.raises(ExtrapError, match='gave up after --tries=3'):
    go_on(tries=3)
  assert cloud.verbs == ['create', 'delete'] * 3


def test_back_off_doubles_up_to_a_bound(cloud):
  assert [back_off(n) for n in (1, 2, 3, 50)] == [30, 60, 120, 600]
  cloud.plays(run='75 75 75')
  with pytest.raises(ExtrapError):
    go_on(tries=3)
  assert cloud.verbs[-1] == 'delete'


def test_slice_that_never_comes(cloud):
  cloud.plays(states='ABSENT ' + 'WAITING_FOR_RESOURCES ' * 9)
  with pytest.raises(ExtrapError, match=r'no slice within --wait_hours=0\.001'):
    go_on(wait=3.6)
  assert cloud.verbs == ['create', 'delete']


def test_refused_request_is_not_repeated(cloud, capfd):
  cloud.plays(create='1')
  with pytest.raises(ExtrapError, match='gcloud refuses to create it'):
    go_on()
  assert cloud.verbs == ['create']
  assert 'no quota' in capfd.readouterr().err


def test_refusal_of_what_was_accepted_before_is_a_passing_one(cloud):
  cloud.plays(states='ABSENT FAILED ' + 'ABSENT ' * 3 + 'ACTIVE', create='0 1')
  assert go_on() == (0, [back_off(1), back_off(2)])
  assert cloud.verbs[:4] == ['create', 'delete', 'create', 'create']


def test_unreachable_gcloud(cloud):
  cloud.plays(states='MUTE ' * 9)
  with pytest.raises(ExtrapError, match=r'its state: .*log in first'):
    go_on()
  assert not cloud.verbs


def test_study_that_runs_outlives_a_gcloud_that_cannot_answer(cloud):
  cloud.plays(states='ABSENT ACTIVE ' + 'MUTE ' * 99, run='SLOW')
  assert go_on(poll=0.05)[0] == 0
  mute = [words for words in cloud.calls if 'describe' in words][2:]
  assert len(mute) > queued_resource._ANSWERS


def test_gcloud_that_hangs_is_asked_again(cloud, monkeypatch):
  ask, hangs = subprocess.run, [True, True]

  def run(words, *, timeout, **options):
    if hangs:
      hangs.pop()
      raise subprocess.TimeoutExpired(words, timeout)
    return ask(words, **options)

  monkeypatch.setattr(queued_resource.subprocess, 'run', run)
  assert go_on()[0] == 0 and not hangs


def test_request_whose_answer_is_lost_is_not_left_behind(cloud):
  cloud.plays(create='LOST')
  assert go_on()[0] == 0
  assert cloud.verbs == ['create', 'scp', 'ssh', 'run', 'delete']
  assert not (cloud.folder / 'there').exists()


def test_slices_that_nobody_reached_have_not_run_the_study(cloud):
  """gcloud leaves out slices that are gone, and exits with 0."""
  states = 'ABSENT ACTIVE SUSPENDED ABSENT ACTIVE'
  cloud.plays(states=states)
  assert go_on(slices=2)[0] == 0
  assert cloud.verbs.count('run') == cloud.verbs.count('create') == 2
  # One slice by itself is not left out.
  cloud.plays(states=states)
  assert go_on()[0] == 0
  assert cloud.verbs.count('run') == 3


def test_passing_trouble_with_gcloud_is_overlooked(cloud):
  cloud.plays(states='ABSENT MUTE MUTE ACTIVE')
  assert go_on()[0] == 0


def test_slices_that_are_there_are_used_and_kept(cloud):
  cloud.plays(states='ACTIVE')
  assert go_on(keep=True)[0] == 0
  assert cloud.verbs == ['scp', 'ssh', 'run']


def test_slices_that_went_away_earlier_are_replaced(cloud):
  cloud.plays(states='SUSPENDED ABSENT ACTIVE')
  assert go_on()[0] == 0
  assert cloud.verbs[:2] == ['delete', 'create']


def test_failed_installation_is_final_and_given_back(cloud):
  cloud.plays(prepare='0 4')
  with pytest.raises(ExtrapError, match=r'cannot be made ready \(exit code 4'):
    go_on()
  assert cloud.verbs == ['create', 'scp', 'ssh', 'delete']


def test_failed_copy_is_tried_again(cloud):
  cloud.plays(prepare='1 0 0')
  assert go_on()[0] == 0
  assert cloud.verbs == ['create', 'scp', 'scp', 'ssh', 'run', 'delete']


def test_preemption_during_the_installation(cloud):
  cloud.plays(states='ABSENT ACTIVE SUSPENDED ABSENT ACTIVE', prepare='0 4')
  assert go_on()[0] == 0
  assert cloud.verbs.count('create') == 2


def test_deletion_is_repeated_then_shown(cloud, capfd):
  cloud.plays(delete='1 0')
  assert go_on() == (0, [back_off(1)])
  cloud.plays(delete='1 1 1')
  assert go_on()[0] == 0
  said = capfd.readouterr().err
  assert 'may cost money; try: gcloud compute tpus' in said


def test_what_somebody_else_deleted_need_not_be(cloud, capfd):
  cloud.plays(
    states='ABSENT ACTIVE ABSENT ABSENT ABSENT', run='255', delete='1'
  )
  assert go_on() == (0, [back_off(1)])
  assert 'may cost money' not in capfd.readouterr().err


def test_terminated_launcher_lets_the_study_save_and_gives_back(cloud):
  cloud.plays(run='INTERRUPT')
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(Preempted):
    go_on()
  assert cloud.verbs == ['create', 'scp', 'ssh', 'run', 'ssh', 'delete']
  stop = cloud.calls[-2][-1]
  assert stop.startswith('--command=cd ~/add && stop() {')
  assert signal.getsignal(signal.SIGTERM) is before


def test_interrupted_request_is_taken_back(cloud):
  cloud.plays(create='INTERRUPT')
  with pytest.raises(Preempted):
    go_on()
  assert cloud.verbs == ['create', 'delete']


def test_giving_back_is_not_interrupted(cloud):
  cloud.plays(run='INTERRUPT', delete='NUDGE')
  with pytest.raises(Preempted):
    go_on()
  assert not (cloud.folder / 'there').exists()


@pytest.mark.parametrize('signal_', [signal.SIGHUP, signal.SIGINT])
def test_other_ways_to_stop_the_launcher_give_back_as_well(cloud, signal_):
  cloud.plays(run='HANG')
  tell = f'import os; os.kill({os.getpid()}, {int(signal_)})'
  fake = cloud.folder / 'bin' / 'gcloud'
  text = fake.read_text().replace('time.sleep(60)', tell)
  fake.write_text(text + '\n')
  error = KeyboardInterrupt if signal_ == signal.SIGINT else Preempted

  def heard(*_):
    """Where the launcher does not listen, the tests go on."""

  before = signal.signal(signal_, heard)
  try:
    with pytest.raises(error):
      go_on()
    assert signal.getsignal(signal_) is heard
  finally:
    signal.signal(signal_, before)
  assert cloud.verbs[-2:] == ['ssh', 'delete']


def test_what_nohup_ignores_stays_ignored(cloud):
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with queued_resource._Interruption():
      assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize('how', ['NUDGE', 'CTRL-C'])
def test_first_interruption_of_the_last_deletion_does_not_stop_it(cloud, how):
  cloud.plays(delete=how)
  assert go_on()[0] == 0
  assert cloud.verbs.count('delete') == 1
  assert not (cloud.folder / 'there').exists()


@pytest.mark.parametrize(
  ('how', 'error'), [('NUDGE', Preempted), ('CTRL-C', KeyboardInterrupt)]
)
def test_interruption_of_another_deletion_is_heard_after_it(cloud, how, error):
  cloud.plays(states='ABSENT ACTIVE SUSPENDED', run='255', delete=how)
  with pytest.raises(error):
    go_on()
  assert cloud.verbs == ['create', 'scp', 'ssh', 'run', 'delete']


def test_study_that_cannot_be_told_to_save_is_given_back(cloud, monkeypatch):
  monkeypatch.setattr(queued_resource, '_LONGEST_STOP', 0.5)
  cloud.plays(run='INTERRUPT', stop='HANG')
  with pytest.raises(Preempted):
    go_on()
  assert cloud.verbs[-1] == 'delete'


def committed(folder):
  """Commits what is there; returns the commit."""
  git = ['git', '-c', 'user.name=a', '-c', 'user.email=a@b.c']
  subprocess.run([*git, 'add', '.'], cwd=folder, check=True)
  subprocess.run([*git, 'commit', '-qm', 'one'], cwd=folder, check=True)
  head = ['git', 'rev-parse', 'HEAD']
  return subprocess.check_output(head, cwd=folder, text=True).strip()


def test_study_is_told_its_commit(cloud, tmp_path, capsys):
  """From the launcher's checkout to the words of a worker's study."""
  assert 'EXTRAP_COMMIT' not in run(capsys, *NEEDED)[1]
  head = committed(Path.cwd())
  (tmp_path / 'add').mkdir()
  show = ['sh', '-c', 'echo "$EXTRAP_COMMIT"']
  for text, change in ((head, ''), (f'{head}-dirty', 'changed = 1\n')):
    if change:
      Path('tracked.py').write_text(change)
    assert f' EXTRAP_COMMIT={text} ' in run(capsys, *NEEDED)[1]
    shell = tpu.run_shell('add', show, text)
    environment = {'HOME': str(tmp_path), 'PATH': os.environ['PATH']}
    told = subprocess.check_output(['bash', '-c', shell], env=environment)
    assert told.decode().strip() == text
    (tmp_path / 'add' / 'run.pid').unlink()


def test_launcher_passes_its_limits_on(cloud, monkeypatch, capsys):
  seen = []
  monkeypatch.setattr(
    queued_resource, 'supervise', lambda *a, **k: seen.append((a, k)) or 3
  )
  flags = ('--tries=7', '--wait_hours=2', '--poll_seconds=5', '--keep')
  assert run(capsys, *NEEDED, '--execute', *flags)[0] == 3
  (((name, _, limits), options),) = seen
  assert name == 'add' and limits == Limits(7, 7200.0, 5.0)
  assert options == {'keep': True}


def test_flags_that_clash_are_usage_errors():
  with pytest.raises(UsageError):
    tpu.check(config(accelerator='v5e-16'), COMMAND)
