"""Errors that end a program with one line and a known exit code.

A message is one line: the flag or the file, what is wrong, what to do.
"""


class ExtrapError(Exception):
  """Something outside the program is wrong; the message says what to do.

  Attributes:
    told: whether another process of the same job prints the message.
    shared: whether the other processes of the job end with this one.
  """

  exit_code = 1
  told = False
  shared = False


class UsageError(ExtrapError):
  """A flag, or a combination of flags, cannot be used."""

  exit_code = 2


class Diverged(ExtrapError):
  """No replica has a finite loss any more."""

  exit_code = 3


class Preempted(ExtrapError):
  """The machine is being taken away; the same command resumes the run."""

  exit_code = 75


def from_another_process(code: int, message: str) -> ExtrapError:
  """The error that ends this process as it ended another."""
  kinds = (UsageError, Diverged, Preempted)
  kind = next((kind for kind in kinds if kind.exit_code == code), ExtrapError)
  error = kind(message)
  error.told = True
  return error
