"""Arms of a comparison: what a reader finds while they are made."""

import dataclasses
import json

import pytest

from extrap import arms, cli
from extrap.config import option
from extrap.errors import ExtrapError
from extrap.evaluation.results import Provenance, arms_of, read_csv
from extrap.reporting.report import bullets, write_report
from extrap.study import StudyConfig
from extrap.training import distributed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(StudyConfig):
  """Flags of a study without training."""

  arms: tuple[str, ...] = option(('a', 'b', 'c'), 'arms', identity=False)


def found(folder):
  """Arms in the table and in the report, what both say of them, the state."""
  state = json.loads((folder / 'status.json').read_text())['state']
  if not (folder / 'results.csv').exists():
    return [], [], '', state
  results, comments = read_csv(folder / 'results.csv')
  _, *paragraphs = (folder / 'report.md').read_text().split('\n\n')
  notes = [text for text in paragraphs if text.startswith('So far: ')]
  said = [text for text in comments if text.startswith('so far: ')]
  assert [f'{text.lower()}.' for text in said] == [n.lower() for n in notes]
  shown = paragraphs[-1].replace('- ', '').split()
  return arms_of(results), shown, ''.join(said), state


class Study:
  """Makes an arm of nothing, and notes what a reader finds meanwhile."""

  def __init__(self, fails=''):
    self.fails, self.seen = fails, {}

  def make(self, config, kept, name):
    if distributed.is_first():
      self.seen[name] = found(kept.run.path)
    if name == self.fails:
      raise ExtrapError(f'{name} fails')
    one = dict(seeds=(0,), steps=(1,), samples=(1,), flops=(1.0,), seconds=1.0)
    source = Provenance(study='arms', arm=name, rung='', **one)
    return source.exact_match('in_distribution', '1', [1], 1)

  def report(self, config, folder, results):
    write_report(folder / 'report.md', 'X', [('Y', bullets(arms_of(results)))])
    return 'the table'

  def main(self, config, flag_values):
    return arms.run_arms(
      'arms',
      config,
      flag_values,
      check=lambda config: None,
      names=lambda config: config.arms,
      identity=lambda config: config.eval,
      make=self.make,
      report=self.report,
    )

  def run(self, folder, *flags):
    """Runs in this process; returns the exit code."""
    argv = ['arms', f'--workdir={folder}', *flags]
    with pytest.raises(SystemExit) as caught:
      cli.run(self.main, Config, argv=argv)
    return caught.value.code


def test_what_is_done_is_reported_while_the_rest_is_made(tmp_path, capsys):
  study, folder = Study(), tmp_path / 'run'
  assert study.run(folder) == 0
  assert study.seen == {
    'a': ([], [], '', 'running'),
    'b': (['a'], ['a'], 'so far: 1 of 3 done', 'running'),
    'c': (['a', 'b'], ['a', 'b'], 'so far: 2 of 3 done', 'running'),
  }
  assert found(folder) == (['a', 'b', 'c'], ['a', 'b', 'c'], '', 'done')
  shown, path = capsys.readouterr(), folder / 'report.md'
  assert shown.out == f'\nthe table\n\nreport: {path}\n'
  assert [line for line in shown.err.splitlines() if 'done' in line] == [
    f'1 of 3 done, so far: {path}',
    f'2 of 3 done, so far: {path}',
  ]


def test_a_run_that_goes_on_lacks_nothing_that_it_had(tmp_path, capsys):
  folder = tmp_path / 'run'
  assert Study().run(folder, '--arms=b') == 0
  stopped = Study(fails='c')
  assert stopped.run(folder) == 1
  # The run was done, and is not while it makes further arms.
  assert stopped.seen['a'] == (['b'], ['b'], '', 'running')
  count = 'so far: 2 of 3 done'
  assert stopped.seen['c'] == (['a', 'b'], ['a', 'b'], count, 'running')
  assert found(folder) == (['a', 'b'], ['a', 'b'], count, 'failed')
  capsys.readouterr()
  last = Study()
  assert last.run(folder) == 0
  assert list(last.seen) == ['c']
  assert found(folder) == (['a', 'b', 'c'], ['a', 'b', 'c'], '', 'done')
  assert 'so far' not in capsys.readouterr().err


def test_a_whole_table_stands_until_another_one_is_whole(tmp_path, capsys):
  folder, whole = tmp_path / 'run', ['a', 'b', 'c']
  assert Study().run(folder) == 0
  capsys.readouterr()
  stopped = Study(fails='c')
  assert stopped.run(folder, '--eval=full') == 1
  assert stopped.seen['c'] == (whole, whole, '', 'running')
  assert '1 of 3 done\n2 of 3 done\n' in capsys.readouterr().err


def test_a_damaged_part_is_made_again(tmp_path):
  folder = tmp_path / 'run'
  assert Study().run(folder) == 0
  (part,) = (folder / 'parts').glob('b-*.csv')
  part.write_text('nothing')
  again = Study()
  assert again.run(folder) == 0
  assert list(again.seen) == ['b'] and again.seen['b'][-1] == 'running'


def test_the_first_process_alone_reports(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(distributed, 'is_first', lambda: False)
  assert Study().run(tmp_path / 'run') == 0
  assert not (tmp_path / 'run').exists()
  shown = capsys.readouterr()
  assert shown.out == '' and 'so far' not in shown.err
