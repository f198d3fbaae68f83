"""Sweeps: algebra, names, what is run, and the table of what came of it."""

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from extrap.errors import UsageError
from extrap.evaluation.statistics import across_replicas
from launch import overrides, sweep
from launch.overrides import (
  as_replicas,
  axis,
  chain,
  name,
  product,
  seeds,
  zip_,
)

ROOT = Path(__file__).parents[1]

# A study without jax: it notes that it ran, and ends as it is told to.
STUDY = """
import json, os, pathlib, signal, sys, time
flags = dict(a[2:].split('=', 1) for a in sys.argv[1:] if a.startswith('--'))
folder = pathlib.Path(flags['workdir'])
folder.mkdir(parents=True, exist_ok=True)
with (folder / 'ran').open('a') as file: file.write('x')
times = len((folder / 'ran').read_text())
end = flags.get('end', 'done')
codes = {'failed': 1, 'diverged': 3, 'preempted': 75, 'once': 75}
code = codes.get(end, 0)
if end == 'once' and times > 1: end, code = 'done', 0
state = 'preempted' if end == 'once' else end
steps = int(flags.get('steps', 10))
if end == 'killed' and times == 1:
  import fcntl
  lock = (folder / 'lock').open('w')
  fcntl.flock(lock, fcntl.LOCK_EX)
  status = {'state': 'running', 'step': 3, 'steps': steps}
  (folder / 'status.json').write_text(json.dumps(status))
  os.kill(os.getpid(), signal.SIGKILL)
state = 'done' if end == 'killed' else state
status = {'state': state, 'step': steps if not code else 5, 'steps': steps}
if 'wait' in flags:
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
  print('ready', flush=True)
  time.sleep(60)
(folder / 'status.json').write_text(json.dumps(status))
with (folder / 'metrics.jsonl').open('w') as file:
  for losses in ([2.0, 4.0], [1.0, None]):
    print(json.dumps({'step': 5, 'train/loss': losses}), file=file)
print('ran', sorted(flags), flags.get('seed'))
sys.exit(code)
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
  """The command of a study, in an empty folder."""
  path = tmp_path / 'study.py'
  path.write_text(STUDY)
  (tmp_path / 'here').mkdir()
  monkeypatch.chdir(tmp_path / 'here')
  return ['python', str(path)]


def run(*argv):
  """The launcher; its exit code."""
  with pytest.raises(SystemExit) as caught:
    sweep.main(['sweep', *argv])
  return caught.value.code


def names(root):
  return sorted(path.parent.name for path in Path(root).glob('*/ran'))


# Algebra.


def test_product_is_every_combination_the_last_fastest():
  runs = product(axis('model.position', 'none', 'abacus'), seeds(2, first=3))
  assert runs == [
    {'model.position': 'none', 'seed': 3},
    {'model.position': 'none', 'seed': 4},
    {'model.position': 'abacus', 'seed': 3},
    {'model.position': 'abacus', 'seed': 4},
  ]
  assert product() == [{}]


def test_zip_goes_through_all_at_once():
  runs = zip_(axis('depth', 1, 2), axis('width', 8, 16))
  assert runs == [{'depth': 1, 'width': 8}, {'depth': 2, 'width': 16}]


def test_chain_is_one_after_the_other():
  assert chain(axis('a', 1), axis('b', 2, 3)) == [{'a': 1}, {'b': 2}, {'b': 3}]


def test_lengths_that_differ_cannot_be_zipped():
  with pytest.raises(UsageError, match='depth has 2, width has 1'):
    zip_(axis('depth', 1, 2), axis('width', 8))


@pytest.mark.parametrize('combine', [product, zip_])
def test_a_flag_is_swept_once(combine):
  with pytest.raises(UsageError, match='depth is swept twice'):
    combine(axis('depth', 1), axis('depth', 2))


@pytest.mark.parametrize('field', ['', '--a', 'a b', 'a..b', '1a', 'a=b', 'é'])
def test_a_field_is_the_name_of_a_flag(field):
  with pytest.raises(UsageError, match='not the name of a flag'):
    axis(field, 1)


def test_seeds_become_replicas():
  runs = product(axis('depth', 1, 2), seeds(4))
  assert as_replicas(runs) == [
    {'depth': 1, 'replicas': 4, 'seed': 0},
    {'depth': 2, 'replicas': 4, 'seed': 0},
  ]


@pytest.mark.parametrize('most', [1, 2, 3, 5, 8, 9])
def test_replicas_are_bounded_and_no_seed_is_lost(most):
  runs = as_replicas(seeds(8, first=5), most)
  trained = [run['seed'] + r for run in runs for r in range(run['replicas'])]
  assert trained == list(range(5, 13))
  sizes = [run['replicas'] for run in runs]
  assert max(sizes) <= most and max(sizes) - min(sizes) <= 1
  assert len(runs) == -(-8 // most)


def test_seeds_with_a_gap_are_several_programs():
  assert as_replicas(axis('seed', '7', '0', '1', '1')) == [
    {'replicas': 2, 'seed': 0},
    {'replicas': 1, 'seed': 7},
  ]


def test_runs_that_say_their_replicas_or_no_seed_are_left_alone():
  runs = [{'a': 1}, {'a': 1, 'seed': 0, 'replicas': 3}, {'a': 1, 'seed': 5}]
  assert as_replicas(runs) == [*runs[:2], {'a': 1, 'replicas': 1, 'seed': 5}]


# Names.


def test_a_name_says_the_settings_and_does_not_depend_on_their_order():
  settings = {'seed': 3, 'model.position': 'abacus', 'train.rate': 1e-3}
  wanted = 'model.position=abacus,train.rate=0.001,seed=3'
  assert name(settings) == wanted
  assert name(dict(reversed(settings.items()))) == wanted
  assert name({}) == 'base'


DISTINCT = [
  {'a': '1,b=2'},
  {'a': '1', 'b': '2'},
  {'a': 'x/y'},
  {'a': 'x_y'},
  {'a': 'x y'},
  {'a': 'X_Y'},
  {'a': ''},
  {'a': '..'},
  {'a': 'é' * 100},
  {'a': 'x' * 300},
  {'a': 'x' * 301},
  {'a': 'x' * 300, 'b': 1},
  {'a': '\n'},
  {'A': 'x_y'},
  {'a': 'x_y', 'seed': 1},
  {'a': True},
  {'a': [1, 2]},
]


def test_distinct_settings_have_distinct_names_on_any_file_system():
  found = [name(run) for run in DISTINCT]
  assert len({text.casefold() for text in found}) == len(DISTINCT)
  # The hash is not to change: a sweep goes on in the folders that it made.
  assert name({'a': 'x/y'}) == 'a=x_y+de7192108d32'


@pytest.mark.parametrize('settings', DISTINCT)
def test_names_are_safe_for_files(settings, tmp_path):
  text = name(settings)
  assert set(text) <= set('abcdefghijklmnopqrstuvwxyz0123456789._=,+-')
  assert len(text) < 128
  (tmp_path / text).mkdir()
  assert [path.name for path in tmp_path.iterdir()] == [text]


def test_equal_settings_are_one_run():
  runs = [{'a': 1, 'b': True}, {'b': 'true', 'a': '1'}, {'a': 2}]
  assert len(overrides.named(runs)) == 2


# The command line.


@pytest.mark.parametrize(
  ('given', 'field', 'values'),
  [
    ('model.depth=2,4', 'model.depth', ['2', '4']),
    ('rate=1e-3, 3e-3', 'rate', ['1e-3', '3e-3']),
    ('lengths="10,20",50', 'lengths', ['10,20', '50']),
    ('a=b=c', 'a', ['b=c']),
    ('a=,x', 'a', ['', 'x']),
    ('a="say ""x""",y', 'a', ['say "x"', 'y']),
  ],
)
def test_an_axis_as_text(given, field, values):
  assert overrides.parse_axis(given) == axis(field, *values)


@pytest.mark.parametrize('given', ['depth', 'depth=', '=1', 'a="1', 'a b=1'])
def test_what_is_no_axis_is_refused(given):
  with pytest.raises(UsageError):
    overrides.parse_axis(given)


def test_a_field_follows_the_choice_that_has_it():
  run = {'model.position.scale': 8, 'model.position': 'yarn', 'on': False}
  assert overrides.flags({**run, 'sizes': (1, 2)}) == [
    '--model.position=yarn',
    '--model.position.scale=8',
    '--on=false',
    '--sizes=1,2',
  ]


def test_a_list_is_read_as_it_was_written():
  """As flags read lists: what has a comma is in double quotes."""
  given = overrides.text(['a,b', 'say "x"', 'c', 1])
  assert given == '"a,b","say ""x""",c,1'
  assert flags.ListParser().parse(given) == ['a,b', 'say "x"', 'c', '1']


def test_everything_is_combined(study, capsys):
  Path('sweep.json').write_text('[{"task": "a"}, {"task": "b", "x": [1, 2]}]')
  code = run(
    '--file=sweep.json',
    '--product=depth=1,2',
    '--product=end=done',
    '--zip=low=1,2',
    '--zip=high=8,9',
    '--seeds=3',
    '--replicas=2',
    '--root=out',
    '--dry_run',
    '--',
    *study,
  )
  assert code == 0
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == len(set(lines)) == 2 * 2 * 2 * 2
  folder = 'out/depth=1,end=done,high=8,low=1,task=a,replicas=1,seed=0'
  assert lines[0] == (
    f'python {study[1]} --depth=1 --end=done --high=8 --low=1 --replicas=1 '
    f'--seed=0 --task=a --workdir={folder}'
  )
  assert sum('--high=8 --low=1 ' in line for line in lines) == 8
  assert sum('--task=b --x=1,2' in line for line in lines) == 8
  assert os.listdir() == ['sweep.json']


def test_the_default_root_depends_on_the_command_alone(study, capsys):
  roots = set()
  for argv in (['--seeds=2'], ['--product=a=1,2']):
    assert run(*argv, '--dry_run', '--', *study) == 0
    line = capsys.readouterr().out.splitlines()[0]
    roots.add(line.split('--workdir=')[1].rpartition('/')[0])
  (root,) = roots
  assert root.startswith('runs/sweep-')
  run('--seeds=2', '--dry_run', '--', *study, '--more=1')
  assert root not in capsys.readouterr().out


def test_a_sweep_of_nothing_is_one_run(study):
  assert run('--root=out', '--', *study) == 0
  assert names('out') == ['base']


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    ([], 'nothing to run: python -m launch.sweep'),
    (['--product=a', '--', 'true'], "'a' is not like model.depth=2,4"),
    (['--zip=a=1', '--zip=b=1,2', '--', 'true'], 'a has 1, b has 2'),
    (['--product=a=1', '--product=a=2', '--', 'true'], 'a is swept twice'),
    (['--product=seed=1', '--seeds=2', '--', 'true'], 'seed is swept twice'),
    (['--seeds=2', '--', 'true', '--seed=1'], '--seed is in the command'),
    (['--seeds=2', '--', 'true', '--replicas=1'], '--replicas is in'),
    (['--seeds=2', '--', 'true', '-seed=1'], '--seed is in the command'),
    (['--seeds=2', '--', 'true', '-seed', '1'], '--seed is in the command'),
    (['--file=zero.json', '--', 'true'], "zero.json, run 1: 'x\\x00' is not"),
    (['--file=half.json', '--', 'true'], "half.json, run 1: '\\ud800' is not"),
    (['--file=deep.json', '--', 'true'], 'deep.json, run 1: [1] is not'),
    (['--product=on=true', '--', 'true', '--noon'], '--on is in the command'),
    (['--', 'true', '--workdir=x'], '--workdir: each run gets its own'),
    (['--product=workdir=x', '--', 'true'], '--workdir: each run gets its own'),
    (['--product=seed=x', '--', 'true'], 'seed=x: not a whole number'),
    (['--replicas=0', '--seeds=2', '--', 'true'], '--replicas=0'),
    (['--replicas=all', '--seeds=2', '--', 'true'], '--replicas=all'),
    (['--file=missing.json', '--', 'true'], 'missing.json'),
    (['--file=bad.json', '--', 'true'], 'bad.json, run 2: None is not'),
    (['--to=moon', '--', 'true'], '--to=moon'),
    (['--summary'], '--summary needs --root'),
    (['--summary', '--root=missing'], '--root=missing: there are no runs'),
  ],
)
def test_bad_input_is_one_line_and_makes_nothing(
  argv, message, tmp_path, monkeypatch, capfd
):
  monkeypatch.chdir(tmp_path)
  files = {
    'bad.json': '[{"a": 1}, {"b": null}]',
    'deep.json': '[{"a": [[1], 2]}]',
    'half.json': r'[{"a": "\ud800"}]',
    'zero.json': r'[{"a": "x\u0000"}]',
  }
  for path, text in files.items():
    Path(path).write_text(text)
  assert run(*argv) == 2
  stdout, stderr = capfd.readouterr()
  assert stderr.startswith('error: ') and stderr.count('\n') == 1
  assert message in stderr and not stdout
  assert sorted(os.listdir()) == list(files)


# Running.


def test_each_run_has_its_folder_and_seeds_share_a_program(study, capfd):
  assert run('--product=a=1,2', '--seeds=8', '--root=out', '--', *study) == 0
  assert names('out') == ['a=1,replicas=8,seed=0', 'a=2,replicas=8,seed=0']
  stdout, stderr = capfd.readouterr()
  assert "[1] ran ['a', 'replicas', 'seed', 'workdir'] 0\n" in stdout
  assert '[2] of 2: a=2,replicas=8,seed=0\n' in stderr


def test_done_runs_are_skipped_unless_they_are_to_be_longer(study, capfd):
  argv = ('--product=a=1,2', '--root=out', '--')
  assert run('--product=a=1', '--root=out', '--', *study, '--steps=10') == 0
  assert run(*argv, *study, '--steps=10') == 0
  assert '2 runs, 1 of them settled' in capfd.readouterr().err
  assert Path('out/a=1/ran').read_text() == 'x'
  assert run(*argv, *study, '--steps=20') == 0
  assert Path('out/a=1/ran').read_text() == 'xx'
  spaced = ['--wide', '--steps', '30']
  assert run('--dry_run', *argv, *study, *spaced) == 0
  assert '# settled' not in capfd.readouterr().out


def test_one_that_fails_does_not_stop_the_others(study, capfd):
  code = run('--product=end=failed,done', '--root=out', '--', *study)
  assert code == 1
  assert names('out') == ['end=done', 'end=failed']
  last = capfd.readouterr().err.splitlines()[-1]
  assert last == 'launch.sweep: end=failed exited with 1'


@pytest.mark.parametrize(
  ('end', 'code', 'times'), [('once', 0, 2), ('preempted', 75, 3)]
)
def test_preempted_runs_are_taken_up_again(end, code, times, study):
  argv = (f'--product=end={end}', '--root=out', '--retries=2', '--', *study)
  assert run(*argv) == code
  assert len(Path(f'out/end={end}/ran').read_text()) == times


def test_diverged_runs_are_settled_and_count(study):
  argv = ('--product=end=diverged,done', '--root=out', '--', *study)
  assert run(*argv) == 3
  assert run(*argv) == 3
  assert Path('out/end=diverged/ran').read_text() == 'x'


def test_several_runs_at_once(study, tmp_path):
  """Each waits for the other, so that one after the other would not end."""
  both = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[-1].split('=', 1)[1])
folder.mkdir(parents=True)
while len(list(folder.parent.iterdir())) < 2: time.sleep(0.01)
"""
  command = ['python', '-c', both]
  runs = sweep.plan(axis('a', 1, 2), command, tmp_path / 'out')
  assert sweep.run_local(runs, jobs=2) == {'a=1': 0, 'a=2': 0}


def test_a_signal_ends_the_run_and_begins_no_other(study):
  process = subprocess.Popen(
    [
      *(sys.executable, '-m', 'launch.sweep', '--product=a=1,2'),
      *('--root=out', '--', *study, '--wait=1'),
    ],
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  try:
    assert process.stdout.readline() == '[1] ready\n'
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
  finally:
    process.kill()
  assert process.returncode == 75
  assert names('out') == ['a=1']


# Slurm.


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
  """A fake sbatch on PATH; the file where it leaves the script."""
  folder = tmp_path / 'bin'
  folder.mkdir()
  program, record = folder / 'sbatch', tmp_path / 'script'
  program.write_text(
    f'#!/bin/sh\ncat > {record}\necho Submitted batch job 42\n'
  )
  program.chmod(0o755)
  monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')
  return record


def test_slurm_gets_an_array_of_what_is_left(study, sbatch, capfd):
  assert run('--product=a=1', '--root=out', '--', *study) == 0
  argv = ('--product=a=1,2,3', '--root=out', '--to=slurm', '--jobs=4')
  capfd.readouterr()
  assert run(*argv, '--slurm.partition=gpu', '--', *study) == 0
  text = capfd.readouterr().out
  assert not sbatch.exists()
  lines = text.splitlines()
  assert '#SBATCH --partition=gpu' in lines
  assert '#SBATCH --array=0-1%4' in lines
  assert f'  0) run python {study[1]} --a=2 --workdir=out/a=2 ;;' in lines
  assert f'  1) run python {study[1]} --a=3 --workdir=out/a=3 ;;' in lines
  done = subprocess.run(['bash', '-n'], input=text, text=True)
  assert done.returncode == 0
  argv += ('--slurm.partition=gpu', '--execute')
  assert run(*argv, '--', *study) == 0
  assert capfd.readouterr().out == 'submitted job 42\n'
  assert sbatch.read_text() == text
  assert names('out') == ['a=1']


def test_slurm_gets_nothing_when_nothing_is_left(study, sbatch, capfd):
  argv = ('--root=out', '--product=a=1')
  assert run(*argv, '--', *study) == 0
  assert run(*argv, '--to=slurm', '--execute', '--', *study) == 0
  assert 'nothing is left of 1 runs' in capfd.readouterr().err
  assert not sbatch.exists()


# The summary.

HEADER = (
  'study,arm,rung,replica,seed,hparams,checkpoint,split,size,metric,value,n,'
  'successes,steps,samples,flops,seconds'
)


def results(*rows, first=0):
  """A file of results: (arm, checkpoint, split, size, metric, value)."""
  lines = ['# command: x', HEADER]
  for replica, (arm, checkpoint, split, size, metric, value) in enumerate(rows):
    seed = first + replica
    start = f's,{arm},L0,{replica},{seed},{{}},{checkpoint},{split},{size}'
    lines.append(f'{start},{metric},{value},10,,5,5,,1.0')
  return '\n'.join(lines) + '\n'


def summary(*argv):
  """The lines of the table, and the rows of the file."""
  assert run('--summary', '--root=out', *argv) == 0
  with open('out/summary.csv', newline='') as file:
    return list(csv.DictReader(file))


@pytest.fixture
def swept(study):
  """A sweep of which one run has results, and one was never begun."""
  ends = 'done,failed,diverged'
  assert run(f'--product=end={ends}', '--root=out', '--', *study) == 3
  Path('out/end=done/results.csv').write_text(
    results(
      ('main', 'last', 'out_of_distribution', '100', 'exact_match', '0.5'),
      ('main', 'last', 'out_of_distribution', '100', 'exact_match', '0.25'),
      ('main', 'last', 'in_distribution', '10', 'exact_match', '1.0'),
      ('main', 'last', 'out_of_distribution', '20x300', 'exact_match', '0.9'),
      ('main', 'best', 'out_of_distribution', '100', 'exact_match', '0.7'),
      ('main', 'last', 'carry:chain', '500', 'exact_match', '0.125'),
      ('main', 'last', 'out_of_distribution', '100', 'digits', '7'),
      ('other', 'last', 'beyond', '900', 'exact_match', ''),
    )
  )
  return study


def test_summary_of_a_sweep(swept, capfd):
  capfd.readouterr()
  argv = ('--product=end=done,failed,diverged,once', '--', *swept)
  rows = summary(*argv)
  lines = [line.split() for line in capfd.readouterr().out.splitlines()]
  interval = across_replicas([0.5, 0.25])
  limits = f'{interval.low:.4g}..{interval.high:.4g}'
  assert lines == [
    'run state step train/loss arm size exact_match 95% interval'.split(),
    f'end=done done 10/10 1 main 100 0.375 (0.25..0.5, n=2) {limits}'.split(),
    ['end=failed', 'failed', '5/10', '1'],
    ['end=diverged', 'diverged', '5/10', '1'],
    ['end=once', 'new'],
  ]
  assert [row['run'] for row in rows] == [line[0] for line in lines[1:]]
  done = rows[0]
  assert done['values'] == '0.5 0.25' and done['mean'] == '0.375'
  assert done['seeds'] == '0 1' and done['n'] == '2'
  assert (done['low'], done['high']) == (str(interval.low), str(interval.high))
  assert done['train/loss'] == '1.0' and done['step'] == '10'
  assert rows[3]['state'] == 'new' and rows[3]['step'] == rows[3]['n'] == ''
  assert not Path('out/end=once').exists()


def test_summary_of_a_folder(swept):
  rows = summary()
  states = {row['run']: row['state'] for row in rows}
  assert states == {
    'end=diverged': 'diverged',
    'end=done': 'done',
    'end=failed': 'failed',
  }


@pytest.mark.parametrize(
  ('flags', 'arm', 'size', 'values'),
  [
    (['--metric.size=10'], 'main', '10', '1.0'),
    (['--metric.split=carry:chain'], 'main', '500', '0.125'),
    (['--metric.name=digits'], 'main', '100', '7.0'),
    (['--metric.arm=other'], 'other', '900', ''),
    (['--metric.name=nothing'], '', '', ''),
  ],
)
def test_summary_of_another_number(flags, arm, size, values, swept, capfd):
  row = next(row for row in summary(*flags) if row['run'] == 'end=done')
  assert (row['arm'], row['size'], row['values']) == (arm, size, values)
  assert ('out of table' in capfd.readouterr().out) == (arm == 'other')


def test_the_table_is_printed_when_a_sweep_ends(study, capfd):
  assert run('--product=a=1', '--root=out', '--', *study) == 0
  lines = capfd.readouterr().out.splitlines()
  assert lines[-1].split() == ['a=1', 'done', '10/10', '1']
  assert Path('out/summary.csv').exists()


def test_broken_files_do_not_hide_the_other_runs(swept, capfd):
  folder = Path('out/end=done')
  (folder / 'results.csv').write_text(f'{HEADER}\ncut,off\n')
  (folder / 'metrics.jsonl').write_text('{"step": 1, "train/loss": 2}\n{"st')
  Path('out/end=failed/status.json').write_text('{')
  rows = {row['run']: row for row in summary()}
  assert rows['end=done']['size'] == 'unreadable'
  assert rows['end=done']['train/loss'] == '2.0'
  assert rows['end=failed']['state'] == 'unreadable'
  assert run('--product=end=failed', '--root=out', '--', *swept) == 1


@pytest.mark.parametrize(
  'status',
  ['3', '{"state": "done", "steps": "9"}', '{"state": "done", "step": [1]}'],
)
def test_a_status_of_another_kind_is_unreadable_and_is_run_again(
  status, study, capfd
):
  Path('out/a=1').mkdir(parents=True)
  Path('out/a=1/status.json').write_text(status)
  Path('out/a=1/metrics.jsonl').write_text('3\n{"train/loss": "x"}\n')
  (row,) = summary()
  assert (row['state'], row['train/loss']) == ('unreadable', 'nan')
  assert run('--product=a=1', '--root=out', '--', *study, '--steps=9') == 0
  assert Path('out/a=1/ran').read_text() == 'x'


def test_results_that_are_cut_off_are_no_number(swept):
  path = Path('out/end=done/results.csv')
  path.write_text(path.read_text().rstrip('\n')[:-4])
  rows = {row['run']: row for row in summary()}
  assert rows['end=done']['size'] == 'unreadable'


def _trained(name, first, *values, width=8):
  """A run of some seeds, with its configuration and one number a seed."""
  folder = Path('out', name)
  folder.mkdir(parents=True)
  config = {'seed': first, 'replicas': len(values), 'workdir': str(folder)}
  text = json.dumps({'study': 's', 'config': {**config, 'width': width}})
  (folder / 'config.json').write_text(text)
  (folder / 'status.json').write_text('{"state": "done", "step": 5}')
  rows = [('main', 'last', 'beyond', '100', 'exact_match', v) for v in values]
  (folder / 'results.csv').write_text(results(*rows, first=first))


def test_seeds_of_one_setting_are_summarised_together(study):
  """Once each: seed 2 is in two runs, and is one replica for all that."""
  _trained('a', 0, 0.5, 0.75, 0.25)
  _trained('b', 2, 0.25, 1.0)
  _trained('c', 0, 0.5, 0.0, width=16)
  rows = summary()
  assert [row['run'] for row in rows] == ['a', 'b', 'c', 'a and 1 more']
  pooled = across_replicas([0.5, 0.75, 0.25, 1.0])
  last = rows[-1]
  assert (last['n'], last['seeds']) == ('4', '0 1 2 3')
  assert (last['low'], last['high']) == (str(pooled.low), str(pooled.high))


@pytest.mark.parametrize('values', [(0.5,), (0.5, 0.5)])
def test_no_spread_is_no_interval(values, study, capfd):
  _trained('a', 0, *values)
  summary()
  assert capfd.readouterr().out.splitlines()[1].split()[-1] == '-'


@pytest.fixture
def at_work(study):
  """A process that holds the lock of out/a=1, as a run that is going on."""
  Path('out/a=1').mkdir(parents=True)
  status = {'state': 'running', 'step': 3, 'steps': 10}
  Path('out/a=1/status.json').write_text(json.dumps(status))
  hold = """
import fcntl, time
lock = open('out/a=1/lock', 'w')
fcntl.flock(lock, fcntl.LOCK_EX)
print('held', flush=True)
time.sleep(60)
"""
  process = subprocess.Popen(
    [sys.executable, '-c', hold], stdout=subprocess.PIPE
  )
  try:
    assert process.stdout.readline() == b'held\n'
    yield process
  finally:
    process.kill()
    process.communicate()


def test_a_run_that_is_at_work_is_left_alone_until_it_is_killed(
  at_work, study, capfd
):
  argv = ('--product=a=1,2', '--root=out', '--')
  assert run(*argv, *study) == 75
  assert names('out') == ['a=2']
  assert 'a=1 is left to the process' in capfd.readouterr().err
  assert summary()[0]['state'] == 'running'
  assert run('--dry_run', *argv, *study) == 0
  assert '# at work: python' in capfd.readouterr().out
  at_work.kill()
  at_work.wait()
  assert summary()[0]['state'] == 'interrupted'
  assert run(*argv, *study) == 0
  assert names('out') == ['a=1', 'a=2']


def test_without_locks_a_run_is_tried_for_who_knows_if_it_is_at_work(
  study, monkeypatch
):
  def flock(file, how):
    raise OSError(38, 'Function not implemented')

  Path('out/a=1').mkdir(parents=True)
  Path('out/a=1/status.json').write_text('{"state": "running", "step": 3}')
  Path('out/a=1/lock').touch()
  monkeypatch.setattr(fcntl, 'flock', flock)
  assert summary()[0]['state'] == 'running'
  assert run('--product=a=1', '--root=out', '--', *study) == 0
  assert names('out') == ['a=1']


@pytest.mark.parametrize(('retries', 'code'), [(1, 0), (0, 137)])
def test_a_run_that_is_killed_is_taken_up_again(retries, code, study):
  argv = ('--product=end=killed', '--root=out', f'--retries={retries}')
  assert run(*argv, '--', *study) == code
  assert Path('out/end=killed/ran').read_text() == 'x' * (1 + retries)
  assert summary()[0]['state'] == ('interrupted' if code else 'done')


def test_a_loss_that_is_finite_nowhere_is_nan(swept):
  line = json.dumps({'step': 1, 'train/loss': [None, None]})
  Path('out/end=done/metrics.jsonl').write_text(line + '\n')
  rows = {row['run']: row for row in summary()}
  assert rows['end=done']['train/loss'] == 'nan'
