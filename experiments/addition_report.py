"""What the study of addition says of its rows: tables, report.md, the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from extrap.evaluation import certificate as certificates
from extrap.evaluation.certificate import Certificate
from extrap.evaluation.results import Result, select
from extrap.kept import provenance
from extrap.models.positions import POSITIONS
from extrap.reporting import heatmaps, plots
from extrap.reporting.report import bullets, picture, write_report
from extrap.reporting.tables import (
  Table,
  certificate_table,
  exact_match_table,
  format_percent,
  markdown,
  suite_table,
)
from extrap.reporting.training_curves import training_curves
from extrap.reporting.writers import read_jsonl
from extrap.training.run_folder import RunFolder

if TYPE_CHECKING:
  from experiments.addition import Arm, Config


def asked(config: Config) -> str:
  """What is evaluated, in one line: the mark of a finished report."""
  return (
    f'evaluation: {config.eval}, {config.steps} steps, arms '
    f'{",".join(config.positions)} to {config.compare_up_to}, lengths '
    f'{",".join(map(str, config.tested_lengths))}, '
    f'grid {config.grid}, carries {config.carries}'
  )


def on_grid(row: Result) -> bool:
  """Whether a row is a cell of the grid of length pairs."""
  return 'x' in row.size and not in_carry_suite(row)


def in_carry_suite(row: Result) -> bool:
  """Whether a row belongs to the carry suite."""
  return row.split.startswith('carry')


def on_diagonal(results: Sequence[Result]) -> list[Result]:
  """The rows of equal operand lengths."""
  return [row for row in results if 'x' not in row.size]


def length_table(config: Config, results: Sequence[Result]) -> Table:
  """The main arm's exact match at equal lengths."""
  arm = POSITIONS.name_of(config.model.position)
  return exact_match_table(
    results, [arm], config.tested_lengths, config.digits, intervals=False
  )


def comparison_table(config: Config, results: Sequence[Result]) -> Table:
  """All arms at the lengths that all were tested at."""
  return exact_match_table(
    results,
    list(config.positions),
    config.compared_lengths,
    config.digits,
    intervals=False,
  )


def grid_table(results: Sequence[Result]) -> str:
  """Cells of the grid in which all sums are right, by replica."""
  rows = []
  for replica in sorted({r.replica for r in results}):
    cells = select(results, replica=replica)
    right, n = sum(r.successes for r in cells), sum(r.n for r in cells)
    perfect = sum(r.successes == r.n for r in cells)
    rows.append(
      [
        str(cells[0].seed),
        f'{perfect:,} of {len(cells):,}',
        f'{right:,} of {n:,}',
        format_percent(right / n, 3),
      ]
    )
  return markdown(['seed', 'cells all right', 'sums right', 'share'], rows)


def show(
  config: Config,
  arms: Sequence[Arm],
  results: Sequence[Result],
  certified: Sequence[Certificate] | str,
) -> None:
  """Prints what a reader wants to know first."""
  print(f'\nExact match, trained on sums of up to {config.digits} digits\n')
  print(length_table(config, results).text())
  if len(arms) > 1 and config.compared_lengths:
    print('\nThe same budget at other rungs\n')
    print(comparison_table(config, results).text())
  for rows, what in (
    (list(filter(on_grid, results)), f'grid {config.grid} x {config.grid}'),
    (list(filter(in_carry_suite, results)), 'carry suite'),
  ):
    if rows:
      right, n = sum(r.successes for r in rows), sum(r.n for r in rows)
      print(f'\n{what}: {right} of {n} sums right')
  print('\nCertificate')
  if isinstance(certified, str):
    print(f'none: {certified}')
    return
  for seed, one in zip(config.seeds, certified, strict=True):
    print(f'seed {seed}: {one}')


def write_report_of(
  config: Config,
  run: RunFolder,
  arms: Sequence[Arm],
  results: Sequence[Result],
  certified: Sequence[Certificate] | str,
) -> Path:
  """report.md and its pictures."""
  report = run.path / 'report.md'
  loss = training_curves(
    read_jsonl(run.metrics), run.plots / 'training.png', 'Training'
  )
  sections = [
    ('In short', _summary(config, arms[0])),
    *_test_sections(config, run, arms, results),
    ('Certificate', _certificate_text(config, arms[0], certified)),
    ('Training', f'{picture("loss", loss, report)}\n\n{_budget(arms)}'),
    ('How it was made', _origin(config, run)),
  ]
  return write_report(report, 'Addition', sections)


def _summary(config: Config, arm: Arm) -> str:
  """The main arm in a sentence; frozen replicas are named."""
  leaves = jax.tree.leaves(arm.trained.params)
  seeds = ', '.join(map(str, config.seeds))
  frozen = [
    f' Seed {seed} stopped being finite and was frozen at step {step}.'
    for seed, step, finite in zip(
      config.seeds, arm.source.steps, arm.trained.finite, strict=True
    )
    if not finite
  ]
  return (
    f'{sum(leaf[0].size for leaf in leaves):,} trainable parameters, depth '
    f'{config.model.depth}, {max(arm.source.samples):,} sums of up to '
    f'{config.digits} digits a replica, {config.replicas} replicas (seeds '
    f'{seeds}), structure rung {arm.source.rung}.{"".join(frozen)}'
  )


def _test_sections(
  config: Config,
  run: RunFolder,
  arms: Sequence[Arm],
  results: Sequence[Result],
) -> list[tuple[str, str]]:
  """Lengths, other rungs, grid and carry suite, as far as they were tested."""
  report, folder = run.path / 'report.md', run.plots
  title = f'Addition, trained on up to {config.digits} digits'
  figure = plots.accuracy_vs_length(
    select(on_diagonal(results), checkpoint='last'),
    config.digits,
    folder / 'accuracy.png',
    title,
  )
  shown = picture('exact match against length', figure, report)
  table = length_table(config, results).markdown()
  sections = [('Exact match', f'{shown}\n\n{table}')]
  if len(arms) > 1 and config.compared_lengths:
    body = (
      'The same model and budget, with another encoding. An arm below 99 % at '
      f'{config.digits} digits has not learned in this budget: that says '
      'nothing on how it extrapolates. Beyond the table of an encoding there '
      'is nothing to measure: "out of table".\n\n'
      f'{comparison_table(config, results).markdown()}'
    )
    sections.append(('The same budget at other rungs', body))
  if grid := list(filter(on_grid, results)):
    heat = heatmaps.grid_heatmap(
      grid, config.digits, folder / 'grid.png', title
    )
    shown = picture('exact match by length pair', heat, report)
    sections.append(('Grid of length pairs', shown))
  if carry := list(filter(in_carry_suite, results)):
    sections.append(('Carry suite', suite_table(carry)))
  return sections


def _origin(config: Config, run: RunFolder) -> str:
  """How to make the same again."""
  flagfile = f'--flagfile={run.path}/flags.txt'
  return bullets(
    [
      *provenance(),
      f'again: python -m experiments.addition {flagfile}',
      asked(config),
      'files: results.csv and certificate.csv (every number), config.json, '
      'flags.txt, environment.json, metrics.jsonl, tensorboard/, checkpoints/',
    ]
  )


def _certificate_text(
  config: Config, arm: Arm, certified: Sequence[Certificate] | str
) -> str:
  if isinstance(certified, str):
    return f'None: {certified}.'
  passed = all(one.passed for one in certified)
  verdict = certificates.STATEMENT if passed else 'Not certified.'
  lines = [verdict, certificate_table(certificates.rows(arm.source, certified))]
  lines += [
    f'Seed {seed}: {one}.'
    for seed, one in zip(config.seeds, certified, strict=True)
  ]
  causes = json.dumps(
    {name: float(f'{x:.2g}') for name, x in certified[0].rounding.items()}
  )
  lines.append(f'Largest differences of any logit, first seed: {causes}.')
  return '\n\n'.join(lines)


def _budget(arms: Sequence[Arm]) -> str:
  """Compute of each arm, a replica."""
  return markdown(
    ['arm', 'rung', 'steps', 'sums', 'FLOPs a replica', 'seconds a replica'],
    [
      [
        arm.name,
        arm.source.rung,
        str(max(arm.source.steps)),
        f'{max(arm.source.samples):,}',
        f'{max(arm.source.flops):.2e}',
        f'{arm.source.seconds:.0f}',
      ]
      for arm in arms
    ],
    'llrrrr',
  )
