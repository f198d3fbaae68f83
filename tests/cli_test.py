"""Tests of the entry point: what is printed, and the exit codes."""

import dataclasses
import subprocess
import sys

import pytest
from absl import flags

from extrap import cli, errors
from extrap.config import option


@dataclasses.dataclass(frozen=True)
class Study:
  steps: int = option(100, 'Length of training', unit='steps', minimum=1)
  resume: bool = option(True, 'Go on')


def run(*args, main=lambda config, flag_values: None, **kwargs):
  """Returns the exit code of a study."""
  with pytest.raises(SystemExit) as caught:
    cli.run(main, Study, argv=['program', *args], **kwargs)
  return caught.value.code


def raising(error):
  def main(config, flag_values):
    raise error

  return main


def test_main_gets_the_configuration_and_the_flags():
  seen = []
  code = run('--steps=7', main=lambda *args: seen.extend(args))
  assert code == 0
  assert seen[0] == Study(steps=7)
  assert seen[1]['steps'].value == 7


@pytest.mark.parametrize(('returned', 'code'), [(None, 0), (0, 0), (1, 1)])
def test_what_main_returns_is_the_exit_code(returned, code):
  assert run(main=lambda *_: returned) == code


def test_the_command_line_is_that_of_the_process_by_default(monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['program', '--steps=5'])
  seen = []
  with pytest.raises(SystemExit):
    cli.run(lambda config, _: seen.append(config), Study)
  assert seen == [Study(steps=5)]


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    (['--stepz=1'], "Unknown command line flag 'stepz'. Did you mean: steps ?"),
    (['--steps=x'], 'flag --steps=x: '),
    (['--steps'], 'Missing value for flag --steps'),
    (['--steps=0'], '--steps=0: must be >= 1'),
    (['--noresume=1'], '--noresume=1 does not take an argument'),
    (['--flagfile=/no/such/file'], 'Unable to open flagfile'),
    (['--resume', 'false'], "unexpected 'false'; write --name=value"),
  ],
)
def test_a_usage_error_is_one_line_and_exit_2(args, message, capsys):
  started = []
  assert run(*args, main=lambda *_: started.append(1)) == 2
  stdout, stderr = capsys.readouterr()
  assert stderr.startswith('error: ')
  assert stderr.count('\n') == 1
  assert message in stderr
  assert not stdout and not started


@pytest.mark.parametrize(
  ('error', 'code'),
  [
    (errors.ExtrapError, 1),
    (errors.UsageError, 2),
    (errors.Diverged, 3),
    (errors.Preempted, 75),
  ],
)
def test_an_error_of_ours_is_one_line_and_its_code(error, code, capsys):
  assert run(main=raising(error('a\n  b'))) == code
  assert capsys.readouterr().err == 'error: a b\n'


def test_an_interrupt_is_one_line_and_exit_1(capsys):
  assert run(main=raising(KeyboardInterrupt())) == 1
  assert capsys.readouterr().err == 'error: interrupted\n'


@pytest.mark.parametrize('bug', [ValueError, flags.Error, KeyError])
def test_a_bug_passes_through(bug):
  with pytest.raises(bug):
    cli.run(raising(bug('x')), Study, argv=['program'])


@pytest.mark.parametrize('flag', ['--help', '--helpfull'])
def test_help_has_the_doc_and_every_flag_and_nothing_else(flag, capsys):
  started = []
  code = run(flag, main=lambda *_: started.append(1), doc='What it shows.\n')
  stdout, stderr = capsys.readouterr()
  text = ' '.join(stdout.split())
  assert code == 0 and not stderr and not started
  assert text.startswith('What it shows.')
  assert "--steps: Length of training [steps; >= 1] (default: '100')" in text
  assert "--[no]resume: Go on (default: 'true')" in text
  assert '--flagfile' in text and '--[no]helpfull' in text
  assert '--verbosity' in flags.FLAGS.get_help()
  assert '--verbosity' not in text


def test_help_wins_over_a_typo_and_can_be_negated(capsys):
  assert run('--stepz=1', '--help') == 0
  assert '--steps' in capsys.readouterr().out
  assert run('--nohelp') == 0
  assert not capsys.readouterr().out


def test_a_flagfile_is_read_and_overridden(tmp_path):
  path = tmp_path / 'flags.txt'
  path.write_text('# A comment.\n--steps=7\n--resume=false\n')
  seen = []
  run(f'--flagfile={path}', '--steps=8', main=lambda c, _: seen.append(c))
  assert seen == [Study(steps=8, resume=False)]


def test_flags_of_the_caller_are_parsed_too():
  flag_values = flags.FlagValues()
  flags.DEFINE_string('extra', None, 'Extra', flag_values)
  seen = []
  run(
    '--extra=a',
    main=lambda _, values: seen.append(values['extra'].value),
    flag_values=flag_values,
  )
  assert seen == ['a']


def test_two_studies_in_one_process_do_not_share_flags():
  assert run('--steps=7') == 0
  seen = []
  run(main=lambda config, _: seen.append(config))
  assert seen == [Study()]
  assert 'steps' not in flags.FLAGS


PROGRAM = """
import dataclasses
from absl import logging
from extrap import cli

@dataclasses.dataclass(frozen=True)
class Study:
  fail: bool = False

def main(config, flag_values):
  logging.info('a message')
  if config.fail:
    raise ValueError('a bug')

cli.run(main, Study)
"""


def run_program(*args):
  command = [sys.executable, '-c', PROGRAM, *args]
  return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_process_logs_info_to_stderr_without_warnings():
  process = run_program()
  assert process.returncode == 0
  assert process.stdout == ''
  assert process.stderr.startswith('I')
  assert process.stderr.endswith('] a message\n')
  assert process.stderr.count('\n') == 1


def test_a_bug_ends_a_process_with_its_traceback_and_exit_1():
  process = run_program('--fail')
  assert process.returncode == 1
  assert 'Traceback' in process.stderr
  assert process.stderr.endswith('ValueError: a bug\n')
