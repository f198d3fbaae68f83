"""How numbers of runs get into the results."""

from experiments.publishing import merge, merge_by_curve
from extrap.evaluation.results import read_csv, write_csv


def test_columns_by_curve_are_replaced_or_added(tmp_path):
  path, new = tmp_path / 'there.csv', tmp_path / 'new.csv'
  path.write_text(
    '# command: first\ncutoff,curve,posterior,mcmc\n'
    '10,0,1.5,1.25\n10,1,2.5,\n20,0,3.5,3\n'
  )
  new.write_text(
    '# command: second\n# commit: 1\ncutoff,curve,posterior,causal\n'
    '10,0,1,4\n10,1,2,5\n10,2,3,6\n'
  )
  wanted = (
    '# command: first\n# command: second; commit: 1\n'
    'cutoff,curve,posterior,mcmc,causal\n'
    '10,0,1,1.25,4\n10,1,2,,5\n10,2,3,,6\n20,0,,3,\n'
  )
  for _ in range(2):
    merge_by_curve(path, new)
    assert path.read_text() == wanted


def test_the_first_table_is_taken_as_it_is(tmp_path):
  path, new = tmp_path / 'there.csv', tmp_path / 'new.csv'
  new.write_text('# command: x\ncutoff,curve,posterior\n10,0,1\n')
  merge_by_curve(path, new)
  assert path.read_text() == new.read_text()


def test_a_run_that_was_gone_on_with_is_named_once(tmp_path):
  path = tmp_path / 'results.csv'
  first = ['command: x', 'commit: 1']
  write_csv(path, [], ['command: other', 'commit: 1', 'hardware: z'])
  merge(path, [], first)
  more = [*first, 'command: x --more', 'begun on: y; commit: 2', 'hardware: z']
  for _ in range(2):
    merge(path, [], more)
    _, comments = read_csv(path)
    assert comments == [
      *('command: other', 'commit: 1', 'hardware: z', '; '.join(more))
    ]
