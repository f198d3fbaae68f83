"""launch/README.md: each command on the page is one that works."""

import re
import shlex
import subprocess
from pathlib import Path

import golden
import pytest
import yaml
from absl import flags

from experiments import addition
from extrap import config_flags
from extrap.errors import Diverged, ExtrapError, Preempted, UsageError
from launch import command_line, commit, kubernetes, local, slurm, sweep, tpu

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'launch' / 'README.md').read_text(encoding='utf-8')
# The table of costs, and its command, are generated and tested elsewhere.
OWN = re.sub(r'<!-- plan:begin -->.*<!-- plan:end -->', '', PAGE, flags=re.S)
BLOCKS = re.findall(r'^```sh\n(.*?)^```', OWN, re.S | re.M)
LAUNCHERS = ('local', 'slurm', 'sweep', 'tpu', 'kubernetes')


@pytest.fixture(autouse=True)
def some_commit(monkeypatch):
  """Goldens do not depend on that of this folder."""
  monkeypatch.setattr(commit, 'here', lambda: '1f' * 20)


def commands():
  """The words of each Python command on the page."""
  found = []
  for block in BLOCKS:
    for text in re.split(r'\n(?=python|pip)', block.replace('\\\n', ' ')):
      if text.startswith('python'):
        found.append(shlex.split(text))
  return found


COMMANDS = commands()


def launched(module):
  """Flags of a launcher and command of a study, for each use on the page."""
  uses = [words[3:] for words in COMMANDS if words[2] == f'launch.{module}']
  return [command_line.split(['launcher', *words]) for words in uses]


def parse(config_type, argv):
  """The config that a command line gives; raises where it is stale."""
  values = flags.FlagValues()
  config_flags.define_flags(config_type, values)
  assert values(list(argv))[1:] == []
  return config_flags.from_flags(config_type, values)


def check_study(command):
  """The study exists, and takes the flags."""
  assert command[:3] == ['python', '-m', 'experiments.addition']
  return parse(addition.Config, command[2:])


def test_every_block_is_bash():
  for block in BLOCKS:
    subprocess.run(['bash', '-n'], input=block, text=True, check=True)


def test_page_covers_all_launchers():
  modules = [words[2] for words in COMMANDS]
  assert {f'launch.{name}' for name in LAUNCHERS} < set(modules)
  # Nothing was lost between the page and the tests.
  assert len(modules) == len(re.findall(r'^python -m', OWN, re.M)) == 10


def test_studies_take_their_flags():
  plain = [words for words in COMMANDS if words[2].startswith('experiments')]
  behind = [command for module in LAUNCHERS for _, command in launched(module)]
  assert len(plain) == 2 and len(behind) == len(COMMANDS) - 2
  for command in plain + behind:
    check_study(command)


def test_local():
  ((own, command),) = launched('local')
  given = parse(local.Config, own)
  assert given.processes == 2
  ranked = local.rank_command(command, 1234, given.processes, 1)
  check_study(['python', *ranked[1:]])


def test_slurm():
  ((own, command),) = launched('slurm')
  text = slurm.script(parse(slurm.Config, own), command)
  assert '#SBATCH --nodes=2\n' in text
  golden.check('readme/slurm.sh', text)


def dry_run(capsys, module, own, command):
  """What a launcher prints; it must not be told to act."""
  assert '--execute' not in own
  with pytest.raises(SystemExit) as caught:
    if module is sweep:
      sweep.main([*own, '--dry_run', '--', *command])
    else:
      argv = [*own, '--', *command]
      command_line.run(module.launch, module.Config, '', argv)
  assert not caught.value.code
  return capsys.readouterr().out


def test_sweep(capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  on_this_machine, on_slurm = launched('sweep')
  text = dry_run(capsys, sweep, *on_this_machine)
  assert 'Four runs' in PAGE and text.count('\n') == 4
  for line in text.splitlines():
    assert check_study(shlex.split(line)).replicas == 8
  golden.check('readme/sweep.sh', text)
  text = dry_run(capsys, sweep, *on_slurm)
  assert '#SBATCH --array=0-1%2' in text
  golden.check('readme/sweep_slurm.sh', text)
  assert not list(tmp_path.iterdir())


def test_tpu(capsys):
  uses = launched('tpu')
  for name, (own, command) in zip(('tpu', 'spot'), uses, strict=True):
    text = dry_run(capsys, tpu, own, command)
    subprocess.run(['bash', '-n'], input=text, text=True, check=True)
    assert (' --spot ' in text) == (name == 'spot')
    golden.check(f'readme/{name}.sh', text)
  assert 'All 4 workers' in PAGE


def test_kubernetes(capsys):
  uses = launched('kubernetes')
  for name, (own, command) in zip(('gke', 'gpus'), uses, strict=True):
    text = dry_run(capsys, kubernetes, own, command)
    assert yaml.safe_load(text)['kind'] == 'JobSet'
    golden.check(f'readme/{name}.yaml', text)
  own, command = uses[0]
  assert '`--xpk --cluster=mine`' in PAGE
  own = [*own, '--xpk', '--cluster=mine']
  assert dry_run(capsys, kubernetes, own, command).startswith('xpk workload')


def test_installations_are_those_of_the_requirements():
  requirements = (ROOT / 'requirements.txt').read_text(encoding='utf-8')
  wanted = re.findall(r"'jax\[.*?'", PAGE)
  assert len(wanted) == 2
  for requirement in wanted:
    assert requirement in requirements


def test_contract_has_the_exit_codes_of_the_errors():
  (lines,) = re.findall(r'## Resuming\n\n((?:- .*\n)+)', PAGE)
  assert lines.count('\n') == 5
  errors = {
    'failed': ExtrapError,
    'usage': UsageError,
    'diverged': Diverged,
    'preempted': Preempted,
  }
  for name, error in errors.items():
    assert f'{error.exit_code} {name}' in lines
  assert '--workdir' in lines and 'status.json' in lines


def test_costs_have_a_place():
  assert PAGE.count('<!-- plan:begin -->') == 1
  assert PAGE.index('<!-- plan:begin -->') < PAGE.index('<!-- plan:end -->')
