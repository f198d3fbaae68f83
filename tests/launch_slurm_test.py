"""Slurm jobs: the scripts, what they do under bash, and submission."""

import os
import shlex
import subprocess
import time

import golden
import pytest

from extrap.errors import UsageError
from launch import command_line, slurm
from launch.slurm import SlurmConfig

STUDY = ('python', '-m', 'experiments.addition', '--steps=600')

SCRIPTS = {
  'one_gpu': slurm.script(SlurmConfig(gpus_per_node=1), STUDY),
  'two_nodes': slurm.script(
    SlurmConfig(
      job_name='addition',
      partition='gpu',
      account='lab',
      constraint='a100|h100',
      nodes=2,
      gpus_per_node=8,
      cpus_per_task=12,
      memory='500G',
      time='1-12:00:00',
      warning=300,
      restarts=5,
      output='logs/%x-%j.out',
      setup='module load cuda; source .venv/bin/activate',
      options=('qos=high', '--exclusive'),
    ),
    (*STUDY, '--workdir=runs/two nodes'),
  ),
  'array': slurm.array_script(
    SlurmConfig(cpus_per_task=4),
    [(*STUDY, f'--seed={seed}', "--note=it's $HOME") for seed in range(3)],
    at_once=2,
  ),
}

FAKE_SRUN = """#!/bin/bash
printf '%s\\n' "$@" > "$RECORD/srun-${SLURM_ARRAY_TASK_ID:-0}"
echo "srun has started"
[ -z "$SRUN_WAITS" ] || while [ ! -e "$RECORD/go" ]; do sleep 0.02; done
exit "$SRUN_CODE"
"""
FAKE_SCONTROL = """#!/bin/bash
echo "$@" >> "$RECORD/scontrol"
exit "$SCONTROL_CODE"
"""
FAKE_SQUEUE = """#!/bin/bash
echo "$@" > "$RECORD/squeue"
echo "$STATE"
"""
FAKE_SBATCH = """#!/bin/bash
echo "$#" "$@" > "$RECORD/argv"
cat > "$RECORD/stdin"
[ -z "$REFUSE" ] || { echo "$REFUSE" >&2; exit 1; }
echo "${ANSWER:-Submitted batch job 42}"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
  """Fakes of Slurm's programs on PATH; the folder where they record calls."""
  programs, record = tmp_path / 'bin', tmp_path / 'record'
  for folder in (programs, record):
    folder.mkdir()
  fakes = {
    'srun': FAKE_SRUN,
    'scontrol': FAKE_SCONTROL,
    'squeue': FAKE_SQUEUE,
    'sbatch': FAKE_SBATCH,
  }
  for name, text in fakes.items():
    (programs / name).write_text(text)
    (programs / name).chmod(0o755)
  monkeypatch.setenv('PATH', f'{programs}:{os.environ["PATH"]}')
  monkeypatch.setenv('RECORD', str(record))
  monkeypatch.setenv('SRUN_CODE', '0')
  monkeypatch.setenv('SCONTROL_CODE', '0')
  monkeypatch.setenv('STATE', 'RUNNING')
  monkeypatch.setenv('SLURM_JOB_ID', '7')
  monkeypatch.setenv('SLURM_ARRAY_JOB_ID', '5')
  monkeypatch.setenv('SLURM_ARRAY_TASK_ID', '1')
  return record


def bash(text, **environment):
  return subprocess.run(
    ['bash'],
    input=text,
    env=os.environ | environment,
    capture_output=True,
    text=True,
    timeout=30,
  )


def run(*argv):
  """The launcher; its exit code."""
  with pytest.raises(SystemExit) as caught:
    command_line.run(slurm.launch, slurm.Config, '', ['slurm', *argv])
  return caught.value.code


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts_are_as_recorded(name):
  golden.check(f'slurm/{name}.sh', SCRIPTS[name])


@pytest.mark.parametrize('name', SCRIPTS)
def test_bash_can_read_the_scripts(name):
  done = subprocess.run(
    ['bash', '-n'], input=SCRIPTS[name], capture_output=True, text=True
  )
  assert (done.returncode, done.stderr) == (0, '')


def test_there_is_one_process_a_gpu():
  lines = SCRIPTS['two_nodes'].splitlines()
  assert '#SBATCH --ntasks-per-node=8' in lines
  assert '#SBATCH --gpus-per-node=8' in lines
  alone = slurm.script(SlurmConfig(), STUDY).splitlines()
  assert '#SBATCH --ntasks-per-node=1' in alone
  assert not any('gpus' in line for line in alone)


def test_sigterm_goes_to_the_study_and_not_to_the_shell():
  for text in SCRIPTS.values():
    (line,) = (line for line in text.splitlines() if '--signal' in line)
    assert line.startswith('#SBATCH --signal=TERM@')


def test_one_that_has_saved_does_not_have_the_others_killed():
  for text in SCRIPTS.values():
    assert 'srun --kill-on-bad-exit=0 --wait=0' in text


def test_an_array_runs_the_command_of_its_index(cluster):
  assert bash(SCRIPTS['array'], SLURM_ARRAY_TASK_ID='2').returncode == 0
  words = (cluster / 'srun-2').read_text().splitlines()
  wanted = [*STUDY, '--seed=2', "--note=it's $HOME"]
  assert words[-len(wanted) :] == wanted
  assert not (cluster / 'scontrol').exists()


def test_a_command_is_not_read_by_the_shell(cluster):
  odd = ('echo', 'a b', '$(touch x)', '`id`', "it's", '"', '*', '\\', '%j', '')
  bash(slurm.script(SlurmConfig(), odd), SLURM_ARRAY_TASK_ID='')
  words = (cluster / 'srun-0').read_text().splitlines()
  assert words[-len(odd) :] == list(odd)


@pytest.mark.parametrize(
  ('name', 'job'), [('array', '5_1'), ('one_gpu', '7'), ('two_nodes', '7')]
)
def test_a_preempted_job_is_queued_again_and_no_other(name, job, cluster):
  text = SCRIPTS[name].replace('source .venv/bin/activate', 'true')
  text = text.replace('module load cuda', 'true')
  assert bash(text, SRUN_CODE='75').returncode == 75
  assert (cluster / 'scontrol').read_text() == f'requeue {job}\n'


@pytest.mark.parametrize('code', [0, 1, 3, 143])
def test_a_job_that_ends_otherwise_is_not_queued_again(code, cluster):
  assert bash(SCRIPTS['array'], SRUN_CODE=str(code)).returncode == code
  assert not (cluster / 'scontrol').exists()


def test_requeueing_is_bounded_and_says_so(cluster):
  text = slurm.script(SlurmConfig(restarts=2), STUDY)
  done = bash(text, SRUN_CODE='75', SLURM_RESTART_COUNT='1')
  assert (cluster / 'scontrol').exists()
  (cluster / 'scontrol').unlink()
  done = bash(text, SRUN_CODE='75', SLURM_RESTART_COUNT='2')
  assert done.returncode == 75
  assert 'more than 2 times' in done.stderr
  assert not (cluster / 'scontrol').exists()


@pytest.mark.parametrize('state', ['COMPLETING', 'CANCELLED'])
def test_a_job_that_is_cancelled_saves_and_stays_cancelled(state, cluster):
  """Its processes get the same SIGTERM; what tells it apart is its state."""
  done = bash(SCRIPTS['array'], SRUN_CODE='75', STATE=state)
  assert done.returncode == 75
  assert 'cancelled' in done.stderr
  asked = (cluster / 'squeue').read_text()
  assert asked == '--noheader --format=%T --jobs=5_1\n'
  assert not (cluster / 'scontrol').exists()


def test_where_the_state_cannot_be_told_a_job_is_queued_again(cluster):
  (cluster.parent / 'bin' / 'squeue').write_text('#!/bin/sh\nexit 1\n')
  assert bash(SCRIPTS['one_gpu'], SRUN_CODE='75').returncode == 75
  assert (cluster / 'scontrol').exists()


@pytest.mark.parametrize(
  ('time', 'seconds'),
  [
    ('30', 1800),
    ('12:00', 720),
    ('1:00:00', 3600),
    ('1-2', 93_600),
    ('1-02:30', 95_400),
    ('1-02:30:05', 95_405),
  ],
)
def test_a_warning_comes_before_the_time_is_up(time, seconds):
  slurm.script(SlurmConfig(time=time, warning=seconds - 1), STUDY)
  with pytest.raises(UsageError, match=f'which is {seconds} seconds'):
    slurm.script(SlurmConfig(time=time, warning=seconds), STUDY)


@pytest.mark.parametrize('time', ['', '0', 'UNLIMITED', 'infinite'])
def test_a_job_may_have_no_end(time):
  slurm.script(SlurmConfig(time=time, warning=10**9), STUDY)


def test_a_cluster_that_does_not_requeue_tells_what_to_do(cluster):
  done = bash(SCRIPTS['one_gpu'], SRUN_CODE='75', SCONTROL_CODE='1')
  assert done.returncode == 75
  assert 'submit the same command again' in done.stderr


def test_an_index_without_a_command_is_a_failure(cluster):
  done = bash(SCRIPTS['array'], SLURM_ARRAY_TASK_ID='3')
  assert done.returncode == 2
  assert not (cluster / 'srun-3').exists()


def test_a_setup_that_fails_ends_the_job(cluster):
  text = slurm.script(SlurmConfig(setup='cd /no/such; true'), STUDY)
  assert bash(text).returncode == 1
  assert not (cluster / 'srun-1').exists()


def test_the_shell_outlives_sigterm_to_see_how_the_study_ended(cluster):
  process = subprocess.Popen(
    ['bash', '-c', SCRIPTS['one_gpu']],
    env=os.environ | {'SRUN_CODE': '75', 'SRUN_WAITS': '1'},
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'srun has started\n'
  process.terminate()
  time.sleep(0.1)
  (cluster / 'go').touch()
  process.communicate(timeout=20)
  assert process.returncode == 75
  assert (cluster / 'scontrol').read_text() == 'requeue 7\n'


def test_a_dry_run_prints_the_script_and_calls_nothing(cluster, capsys):
  assert run('--gpus_per_node=1', '--', *STUDY) == 0
  assert capsys.readouterr().out == SCRIPTS['one_gpu']
  assert not list(cluster.iterdir())


def test_execute_gives_the_script_to_sbatch(cluster, capsys):
  assert run('--gpus_per_node=1', '--execute', '--', *STUDY) == 0
  assert capsys.readouterr().out == 'submitted job 42\n'
  assert (cluster / 'stdin').read_text() == SCRIPTS['one_gpu']
  assert (cluster / 'argv').read_text() == '0\n'


def test_sbatch_that_refuses(cluster, capsys, monkeypatch):
  monkeypatch.setenv('REFUSE', 'sbatch: error: invalid\npartition')
  assert run('--execute', '--', *STUDY) == 1
  assert capsys.readouterr().err == (
    'error: sbatch refused the job: sbatch: error: invalid partition\n'
  )


def test_sbatch_that_answers_something_else(cluster, capsys, monkeypatch):
  monkeypatch.setenv('ANSWER', 'hello')
  assert run('--execute', '--', *STUDY) == 1
  assert "'hello" in capsys.readouterr().err


def test_without_sbatch(tmp_path, capsys, monkeypatch):
  monkeypatch.setenv('PATH', str(tmp_path))
  monkeypatch.chdir(tmp_path)
  assert run('--execute', '--', *STUDY) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('error: sbatch is not on PATH')
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    ([], 'nothing to run: python -m launch.slurm'),
    (['--nodes=0', '--', 'true'], '--nodes=0'),
    (['--partition=a b', '--', 'true'], "partition='a b' does not fit"),
    (['--time=1\n#SBATCH --x', '--', 'true'], 'does not fit in an #SBATCH'),
    (['--time=24h', '--', 'true'], '--time=24h: not like 12:00:00'),
    (['--time=1:2:3:4', '--', 'true'], '--time=1:2:3:4: not like'),
    (['--time=1:00', '--', 'true'], '--warning=120: no time is left'),
    (['--options=comment=a;b', '--', 'true'], "options='comment=a;b'"),
    (['--', 'python', '--cluster.rank=0'], '--cluster.rank=0'),
    (
      ['--gpus_per_node=4', '--tasks_per_node=1', '--', 'true'],
      '--tasks_per_node=1 with --gpus_per_node=4',
    ),
  ],
)
def test_bad_input_is_one_line_and_exit_2(argv, message, capsys):
  assert run(*argv) == 2
  stdout, stderr = capsys.readouterr()
  assert stderr.startswith('error: ') and stderr.count('\n') == 1
  assert message in stderr and not stdout


def test_an_empty_array_is_refused():
  with pytest.raises(UsageError, match='needs a command'):
    slurm.array_script(SlurmConfig(), [])


def test_the_command_can_be_read_off_the_script():
  lines = SCRIPTS['two_nodes'].splitlines()
  (line,) = (line for line in lines if line.startswith('run python'))
  assert shlex.split(line)[1:] == [*STUDY, '--workdir=runs/two nodes']
