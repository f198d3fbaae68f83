"""What all launchers share: their own flags, `--`, and a study's command."""

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from extrap import cli
from extrap.errors import ExtrapError, UsageError

ConfigT = TypeVar('ConfigT')


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  """The launcher's own arguments, and the command after the first `--`."""
  argv = list(argv)
  if '--' not in argv:
    return argv, []
  at = argv.index('--')
  return argv[:at], argv[at + 1 :]


def run(
  launch: Callable[[ConfigT, list[str]], int | None],
  config_type: type[ConfigT],
  doc: str,
  argv: Sequence[str] | None = None,
) -> NoReturn:
  """Parses flags and calls `launch(config, command)`; exits with its code.

  Args:
    launch: the launcher.
    config_type: its flags, a frozen dataclass.
    doc: what `--help` prints above the flags.
    argv: the command line; `sys.argv` by default.
  """
  own, command = split(sys.argv if argv is None else argv)
  cli.run(
    lambda config, _: launch(config, command), config_type, argv=own, doc=doc
  )


def check_command(command: Sequence[str], launcher: str) -> None:
  """Refuses an empty command, showing how one is given."""
  if not command:
    raise UsageError(
      f'nothing to run: python -m launch.{launcher} [flags] -- '
      'python -m experiments.addition [flags]'
    )


def check_no_cluster_flags(command: Sequence[str], launcher: str) -> None:
  """Refuses a command that says itself which process it is."""
  for word in command:
    if word.lstrip('-').startswith('cluster.'):
      raise UsageError(
        f'{word}: leave it out; launch.{launcher} starts the same command '
        'everywhere, and every process learns its rank there'
      )


def check_program(name: str, where: str) -> None:
  """One clear line where a program that must be called is not installed."""
  if shutil.which(name) is None:
    raise ExtrapError(f'{name} is not on PATH; {where}')


def shown(command: Sequence[str]) -> str:
  """A command as a person would type it."""
  return shlex.join(command)
