"""Rows of runs that were never trained."""

import json
from collections.abc import Mapping

from extrap.evaluation.results import Provenance


def source(
  study: str,
  arm: str,
  replicas: int,
  notes: Mapping[str, object] | None = None,
  **changes: object,
) -> Provenance:
  """What rows of an arm share whose seeds are 0, 1, ..; it has cost nothing.

  Args:
    study: its name.
    arm: its name.
    replicas: seeds.
    notes: what the rows say of it, `hparams`.
    **changes: other fields than the usual.
  """
  ones = (1,) * replicas
  usual = dict(rung='', steps=ones, samples=ones, flops=ones, seconds=1.0)
  return Provenance(
    study=study,
    arm=arm,
    seeds=tuple(range(replicas)),
    hparams=json.dumps(notes or {}),
    **usual | changes,
  )
