"""The entry point of every study: flags in, exit code out."""

import logging as standard_logging
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from absl import flags, logging

from extrap import config_flags
from extrap.errors import ExtrapError, UsageError

ConfigT = TypeVar('ConfigT')
Main = Callable[[ConfigT, flags.FlagValues], int | None]


def run(
  main: Main[ConfigT],
  config_type: type[ConfigT],
  *,
  argv: Sequence[str] | None = None,
  doc: str = '',
  flag_values: flags.FlagValues | None = None,
) -> NoReturn:
  """Parses flags, calls `main(config, flag_values)` and exits.

  The exit code is what `main` returns (None is 0), or that of the
  `ExtrapError` it raises, which is printed in one line. Other exceptions are
  bugs: they pass through, with their traceback.

  Args:
    main: The study.
    config_type: A frozen dataclass; each of its leaves becomes a flag.
    argv: The command line, program name first; `sys.argv` by default.
    doc: What `--help` prints above the flags.
    flag_values: Holds further flags of the caller; by default there are none,
      and flags of imported modules stay out of the way.

  Raises:
    SystemExit: Always, unless `main` has a bug.
  """
  flag_values = flags.FlagValues() if flag_values is None else flag_values
  argv = sys.argv if argv is None else argv
  _start_logging()
  try:
    config_flags.define_flags(config_type, flag_values)
    _define_help(flag_values, doc)
    _parse(argv, flag_values)
    config = config_flags.from_flags(config_type, flag_values)
    sys.exit(main(config, flag_values) or 0)
  except ExtrapError as error:
    if error.told:
      sys.exit(error.exit_code)
    if type(error) is ExtrapError and not error.shared:
      _leave_job(error.exit_code, _line(str(error)))
    _fail(str(error), error.exit_code)
  except KeyboardInterrupt:
    _fail('interrupted', 1)
  except Exception as error:
    if not getattr(error, 'shared', False):
      _leave_job(1, traceback.format_exc())
    raise


def _start_logging() -> None:
  """Sends messages from INFO upwards to stderr."""
  # Logging has flags on absl's global FLAGS. They stay at their defaults, and
  # absl warns about them unless they count as parsed.
  flags.FLAGS.mark_as_parsed()
  logging.use_absl_handler()
  logging.set_verbosity(logging.INFO)
  # Which accelerators this machine lacks is nothing to tell.
  standard_logging.getLogger('jax').setLevel(standard_logging.WARNING)


class _HelpFlag(flags.BooleanFlag):
  """Prints the help and exits as soon as it is parsed."""

  def __init__(self, name: str, text: Callable[[], str]) -> None:
    super().__init__(name, False, 'Show this text and exit.')
    self._text = text

  def parse(self, argument: str) -> None:
    """Exits with 0, unless `--nohelp` was given."""
    if self.parser.parse(argument):
      print(self._text())
      sys.exit(0)


def _define_help(flag_values: flags.FlagValues, doc: str) -> None:
  def text() -> str:
    return f'{doc.strip()}\n{flag_values.get_help()}'.strip()

  for name in ('help', 'helpfull'):
    if name not in flag_values:
      flags.DEFINE_flag(_HelpFlag(name, text), flag_values)


def _parse(argv: Sequence[str], flag_values: flags.FlagValues) -> None:
  try:
    rest = flag_values(list(argv))[1:]
  except (flags.Error, ValueError) as error:  # ValueError: --nohelp=1.
    raise UsageError(str(error)) from error
  if rest:
    raise UsageError(f'unexpected {rest[0]!r}; write --name=value')


def _leave_job(code: int, message: str) -> None:
  """Ends the other processes, if there are any, with this one."""
  distributed = sys.modules.get('extrap.training.distributed')
  if distributed is not None and not distributed.is_alone():
    distributed.leave(code, message)


def _line(message: str) -> str:
  return f'error: {" ".join(message.split())}'


def _fail(message: str, exit_code: int) -> NoReturn:
  print(_line(message), file=sys.stderr)
  sys.exit(exit_code)
