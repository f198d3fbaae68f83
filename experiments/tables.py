"""Writes tables and figures of README.md and experiments/pages/*.md.

All are made from experiments/results/*.csv.

Commands:
  python -m experiments.tables                    after a change of CSV files
  python -m experiments.tables --run=runs/parity  takes a run's numbers first

  python -m experiments.tables --run=runs/nalu-2 --add  adds its seeds

Arms that a run has replace those of the file, the others stay: a study may be
published arm by arm. With --add seeds do so: studies of arithmetic units may be
published seed by seed.
"""

import csv
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from experiments import (
  collinear_tables,
  context_scaling_tables,
  copy_length,
  erosion_tables,
  hierarchical_tables,
  language_length_tables,
  own_curves_tables,
  retrieval_length_tables,
  status_registers_tables,
)
from experiments.abacus_report import claims
from experiments.addition import Config
from experiments.addition_report import (
  comparison_table,
  grid_table,
  in_carry_suite,
  length_table,
)
from experiments.certified_tables import bases_table, operations_table
from experiments.filling import fill
from experiments.lcpfn_tables import (
  coverage_table,
  gap_table,
  log_density_table,
)
from experiments.nalu_single_tables import (
  as_elsewhere,
  detail_table,
  overview_table,
  represented,
)
from experiments.nalu_sweeps_tables import beside_table
from experiments.nalu_tables import success_table, time_table
from experiments.periodic_tables import (
  all_forms_table,
  form_table,
  seeds_table,
)
from experiments.pictures import draw
from experiments.place_relative import mass_table
from experiments.publishing import RESULTS, publish, published
from experiments.scaling_pfn import held_out_table
from experiments.sorting import cost_table, stress_table
from extrap import cli
from extrap.config import option
from extrap.errors import UsageError
from extrap.evaluation.results import (
  LENGTH_SPLITS,
  Result,
  select,
)
from extrap.reporting.reach import reach_table, trained_length
from extrap.reporting.regions import region_table
from extrap.reporting.report import bullets
from extrap.reporting.tables import (
  Table,
  certificate_table,
  markdown,
  suite_table,
)

REGISTERS = ('status_registers', 'status_registers_wide')
PARTS = ('status_registers_parts', 'status_registers_pieces')
UNITS = (
  *('nalu', 'nalu_decay', 'nalu_polished', 'nalu_polished_only'),
  *('nalu_narrow_rotated', 'nalu_rotated'),
)
# Studies whose tables are all shown.
WHOLE: Mapping[str, Callable[[list[Result]], Mapping[str, Table]]] = {
  'language_length': language_length_tables.all_tables,
  'context_scaling': context_scaling_tables.all_tables,
  'collinear': collinear_tables.all_tables,
  'hierarchical': hierarchical_tables.all_tables,
  'retrieval_length': retrieval_length_tables.all_tables,
  'retrieval_length_far': retrieval_length_tables.far_tables,
  'copy_length': copy_length.all_tables,
  'erosion': erosion_tables.all_tables,
  'own_curves': own_curves_tables.all_tables,
}
SWEEPS = tuple(
  f'nalu_sweeps_{name}' for name in ('rotated', 'hidden', 'regulariser')
)
# Columns of tables that have more in their files or on their pages.
REACH = ('reach at 99 %', 'at 50 %', 'longest test', 'samples', 'FLOPs')
STOPPING = (
  *('pool', 'rule', 'tasks', 'same', 'same_least', 'same_most', 'as_good'),
  *('capped', 'regret_over_none'),
)
REAL = (
  *('set', 'method', 'tasks', 'rank_log_density', 'lead', 'rank_rmse'),
  *('median_log_density', 'log_density', 'rmse', 'mase'),
)
SCALING = ('domain', 'method', 'curves', 'rmsle', 'low', 'high', 'log_density')


def tables() -> dict[str, str]:
  """Every generated table, by the name of its block on a page."""
  results, comments = published('addition')
  grid, _ = published('addition_grid')
  certified, _ = published('addition_certificate')
  no_window, _ = published('place_relative')
  config = Config()
  return {
    'made': bullets(comments),
    'lengths': length_table(config, results).markdown(),
    'comparison': comparison_table(config, results).markdown(),
    'grid': grid_table(grid),
    'carries': suite_table(list(filter(in_carry_suite, results))),
    'certificate': certificate_table(certified),
    'operations': _certified(*published('certified')),
    'bases': _certified_in_bases(*published('bases')),
    'ladder': _reach('ladder'),
    'ladder_reach': _brief_reach('ladder'),
    'ladder_adamw': _reach('ladder_adamw'),
    'ladder_20': _reach('ladder_20'),
    'abacus': _abacus(*published('abacus')),
    'abacus_sorting': _regions('abacus_sorting', 'first_match'),
    'abacus_bitwise_or': _regions('abacus_bitwise_or'),
    'abacus_multiplication': _regions('abacus_multiplication'),
    'abacus_wide': _reach('abacus_wide'),
    'abacus_whole': _reach('abacus_whole'),
    'no_window': _reach('place_relative'),
    'multiplication': _reach('multiplication'),
    'parity': _reach('parity', unit='bits'),
    'sorting': _sorting(*published('sorting')),
    'far_mass': mass_table(no_window).markdown(),
    **{name: _registers(*published(name)) for name in REGISTERS},
    **{name: _parts(*published(name)) for name in PARTS},
    'periodic': _periodic(*published('periodic')),
    **{name: _units(*published(name)) for name in UNITS},
    'nalu_solved': success_table(published('nalu')[0]).markdown(),
    **{name: _sweeps(*published(name)) for name in SWEEPS},
    'nalu_single': _single_units(*published('nalu_single')),
    'decoding': _csv('decoding.csv'),
    'grid_time': _csv('grid.csv'),
    'units_time': _csv('units.csv'),
    'dispatch': _csv('dispatch.csv'),
    'faults': _csv('faults.csv', 'lll'),
    'checkpoints': _csv('checkpoints.csv'),
    'attention': _csv('attention.csv', 'rllrrrrr', _longest),
    'encodings_time': _csv('encodings.csv', 'llrrrrrrrrr'),
    **{name: _whole(name, every) for name, every in WHOLE.items()},
    'lcpfn': _lcpfn(*published('lcpfn')),
    'lcpfn_log_density': log_density_table(published('lcpfn')[0]).markdown(),
    'lcpfn_short': _lcpfn_short(*published('lcpfn_short')),
    'early_stopping': _csv('early_stopping.csv', columns=STOPPING),
    'real_curves': _csv(
      'real_curves.csv', 'llrrrrrrrr', lambda row: row['cutoff'] == 'all', REAL
    ),
    'scaling_benchmark': _csv(
      'scaling_benchmark.csv', 'llrrrrr', _whole_domain, SCALING
    ),
    'scaling_pfn': _scaling_pfn(*published('scaling_pfn')),
  }


def _reach(name: str, unit: str = 'digits') -> str:
  """Reach of a study's arms on uniform problems; where it comes from below."""
  results, comments = published(name)
  scored = select(results, metric='exact_match', split=LENGTH_SPLITS)
  return _shown([reach_table(scored, unit)], comments)


def _brief_reach(name: str) -> str:
  """Some columns of a study's reach; the others are on its page."""
  results, _ = published(name)
  scored = select(results, metric='exact_match', split=LENGTH_SPLITS)
  whole, trained = reach_table(scored), trained_length(scored)
  headers = ['rung', f'exact match at {trained}', *REACH]
  at = [whole.headers.index(header) for header in headers]
  rows = [[row[column] for column in at] for row in whole.rows]
  caption = (
    f'Trained to {trained} digits; every seed, in order. Reach: the largest '
    'length up to which every tested one is so good. Samples and FLOPs of a '
    'seed.'
  )
  return Table(headers, rows, caption).markdown()


def _abacus(results: list[Result], comments: list[str]) -> str:
  """Regions of the grid, the paper's orderings, and reach."""
  lengths = select(results, metric='exact_match', split=LENGTH_SPLITS)
  shown = [region_table(results), claims(results), reach_table(lengths)]
  return _shown(shown, comments)


def _regions(name: str, *more: str) -> str:
  """Regions of the grid of a task of the Abacus study, by metric."""
  results, comments = published(name)
  shown = [region_table(results, of) for of in ('exact_match', *more)]
  return _shown([*shown, claims(results)], comments)


def _sorting(results: list[Result], comments: list[str]) -> str:
  """Regions of the grid, and lists that uniform numbers hardly ever make."""
  shown = [region_table(results), stress_table(results), cost_table(results)]
  return _shown(shown, comments)


def _registers(results: list[Result], comments: list[str]) -> str:
  """Errors of comparisons by magnitude."""
  compared = select(results, rung='comparisons')
  return _shown([status_registers_tables.reach_table(compared)], comments)


def _parts(results: list[Result], comments: list[str]) -> str:
  """Registers with fewer operands, scaled, and what is made of them."""
  shown = status_registers_tables.tables(results)
  brief = [
    table
    for name, table in shown.items()
    if not name.endswith((': runs', ': leaks'))
  ]
  return _shown(brief, comments)


def _whole(
  name: str, every: Callable[[list[Result]], Mapping[str, Table]]
) -> str:
  """All tables of a study."""
  results, comments = published(name)
  return _shown(list(every(results).values()), comments)


def _units(results: list[Result], comments: list[str]) -> str:
  """How many runs of arithmetic units are solved, and when."""
  return _shown([success_table(results), time_table(results)], comments)


def _sweeps(results: list[Result], comments: list[str]) -> str:
  """Products of the NMU along sweeps."""
  return _shown([beside_table(results, 'nmu')], comments)


def _periodic(results: list[Result], comments: list[str]) -> str:
  """Errors outside by form, the sine, and every seed of what continues it."""
  shown = [all_forms_table(results), form_table(results, 'sine')]
  return _shown([*shown, seeds_table(results, 'lines')], comments)


def _single_units(results: list[Result], comments: list[str]) -> str:
  """What single units solve, and by range where it was published."""
  overview = overview_table(represented(results))
  published = detail_table(as_elsewhere(results))
  return _shown([overview, published], comments)


def _shown(tables: Sequence[Table], comments: Sequence[str]) -> str:
  """Tables that have rows, one below the other, and where they come from."""
  shown = (table.markdown() for table in tables if table.rows)
  return '\n\n'.join([*shown, _origin(comments)])


def _origin(comments: Sequence[str]) -> str:
  """How numbers were made, folded up."""
  return f'<details><summary>How</summary>\n\n{bullets(comments)}\n\n</details>'


def _certified(results: list[Result], comments: list[str]) -> str:
  """Every task of the study of certificates, and which seeds it has."""
  seeds = ', '.join(map(str, sorted({r.seed for r in results})))
  origin = _origin([*comments, f'seeds: {seeds}'])
  return f'{operations_table(results)}\n\n{origin}'


def _certified_in_bases(results: list[Result], comments: list[str]) -> str:
  """Sums and differences in other bases."""
  return f'{bases_table(results)}\n\n{_origin(comments)}'


def _lcpfn(results: list[Result], comments: list[str]) -> str:
  """Log density by cutoff beside what is published, and coverage."""
  rows = list(csv.reader(_lines('lcpfn_by_curve.csv')[1]))
  shown = [log_density_table(results), gap_table(rows), coverage_table(results)]
  return _shown(shown, comments)


def _lcpfn_short(results: list[Result], comments: list[str]) -> str:
  """Few curves in our form beside many in the published one."""
  there, notes = published('lcpfn')
  beside = select(there, arm='published')
  of_beside = [note for note in notes if '--arms=published' in note]
  table = log_density_table([*results, *beside])
  return _shown([table], [*comments, *of_beside])


def _scaling_pfn(results: list[Result], comments: list[str]) -> str:
  """What the network of scaling laws makes of held-out points."""
  return _shown([held_out_table(results)], comments)


def _whole_domain(row: dict[str, str]) -> bool:
  """Of scaling curves: the groups of which something is published."""
  return row['domain'] in ('IC', 'language and nano', 'DD')


def _longest(row: dict[str, str]) -> bool:
  """Of attention: memory at the longest length, time at the longest timed."""
  return row['tokens'] == '16384' or bool(row['ms'] and row['tokens'] == '4096')


def _lines(name: str) -> tuple[list[str], list[str]]:
  """Comments of a results file without their '# ', and its other lines."""
  lines = (RESULTS / name).read_text(encoding='utf-8').splitlines()
  comments = [line[2:] for line in lines if line.startswith('# ')]
  return comments, [line for line in lines if line[:1] != '#']


def _csv(
  name: str,
  align: str | None = None,
  keep: Callable[[dict[str, str]], bool] = lambda row: True,
  columns: Sequence[str] = (),
) -> str:
  """A benchmark's CSV, or some of its rows and columns; hardware below."""
  comments, lines = _lines(name)
  headers, *rows = csv.reader(lines)
  found = [dict(zip(headers, row, strict=True)) for row in rows]
  headers = list(columns or headers)
  rows = [[_cell(row, name) for name in headers] for row in found if keep(row)]
  return f'{markdown(headers, rows, align)}\n\n{_origin(comments)}'


def _cell(row: dict[str, str], name: str) -> str:
  """A value, with the limits that other columns have for it."""
  limits = [row.get(f'{name}_{end}') for end in ('low', 'high')]
  return f'{row[name]} ({"..".join(limits)})' if all(limits) else row[name]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """Flags of this command."""

  run: str | None = option(None, 'folder of a run whose numbers to take')
  name: str = option(
    '', "take them into results/<name>.csv (default: the study's name)"
  )
  add: bool = option(False, 'the other seeds of its arms stay: it adds to them')


def main(config: Source, flag_values: object) -> None:
  """Writes tables and figures."""
  del flag_values
  if config.name and not config.run:
    raise UsageError(f'--name={config.name} says where a run goes: give --run')
  if config.add and not config.run:
    raise UsageError('--add says how a run is taken: give --run')
  if config.run:
    publish(Path(config.run), config.name, config.add)
  fill(tables())
  draw()


if __name__ == '__main__':
  cli.run(main, Source, doc=__doc__)
