"""Which commit a study runs, told to machines that get code without history."""

from pathlib import Path

from extrap.reporting.environment import (
  COMMIT_VARIABLE,
  checkout_state,
  commit_text,
)

__all__ = ['COMMIT_VARIABLE', 'here']


def here() -> str | None:
  """The commit of this folder, '-dirty' if changed; None if it has none."""
  state = checkout_state(Path.cwd())
  return commit_text(state) if state else None
