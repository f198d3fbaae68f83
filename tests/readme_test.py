"""README and its pages: snippets run, commands exist, tables are up to date."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import filling, publishing, tables
from experiments.__main__ import studies
from extrap import cli
from extrap.errors import ExtrapError, UsageError
from extrap.evaluation.results import Result, read_csv, write_csv
from extrap.models.positions import POSITIONS

ROOT = Path(__file__).parents[1]
PAGES = {path: path.read_text(encoding='utf-8') for path in filling.pages()}
LIBRARY, *CUSTOM, FORECAST, SCALING = [
  snippet
  for text in PAGES.values()
  for snippet in re.findall(r'```python\n(.*?)```', text, re.DOTALL)
]


def test_tables_are_what_the_results_give():
  new = filling.filled(PAGES, tables.tables())
  stale = [path.name for path, text in new.items() if text != PAGES[path]]
  assert not stale, 'run python -m experiments.tables'


BLOCK = '<!-- table: {0} -->\n\n{1}\n\n<!-- end: {0} -->\n'


def test_every_page_gets_the_tables_that_it_wants():
  texts = {
    Path('a.md'): BLOCK.format('one', 'old') + BLOCK.format('two', 'old'),
    Path('b.md'): BLOCK.format('one', 'older'),
  }
  assert filling.filled(texts, {'one': '1', 'two': '2'}) == {
    Path('a.md'): BLOCK.format('one', '1') + BLOCK.format('two', '2'),
    Path('b.md'): BLOCK.format('one', '1'),
  }


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (BLOCK.format('two', ''), r'a\.md: there is no table two'),
    (BLOCK.format('one', '') + '<!-- end: two -->', 'there is no table two'),
    ('', 'no page has the table one'),
    (BLOCK.format('one', '') * 2, 'once each'),
    (BLOCK.format('one', '') + '<!--table: one-->', 'is not <!-- table'),
  ],
)
def test_a_table_that_pages_or_results_lack_is_refused(text, message):
  with pytest.raises(ExtrapError, match=message):
    filling.filled({Path('a.md'): text}, {'one': '1'})


@pytest.mark.parametrize(
  ('flag', 'message'),
  [
    ('--name=bases', 'give --run'),
    ('--add', 'give --run'),
    ('--run=nothing', 'nothing/results.csv'),
  ],
)
def test_tables_take_a_run_or_say_in_a_line_what_is_wrong(
  flag, message, capsys
):
  with pytest.raises(SystemExit) as caught:
    cli.run(tables.main, tables.Source, argv=['tables', flag])
  assert caught.value.code
  said = capsys.readouterr().err.strip()
  assert message in said and '\n' not in said


def one_row(arm, value, seed=0, rung='x'):
  rest = dict.fromkeys(field.name for field in dataclasses.fields(Result))
  rest |= dict(replica=0, seed=seed, n=10, steps=1, samples=1, seconds=1.0)
  words = dict.fromkeys(('study', 'rung', 'split', 'metric'), 'x')
  words |= dict(hparams='{}', checkpoint='last', size='10')
  return Result(**(rest | words | dict(arm=arm, value=value, rung=rung)))


def test_a_run_replaces_its_arms_and_what_was_derived_of_them(tmp_path):
  path = tmp_path / 'results.csv'
  first = (('a', 0.1), ('a, 8 shifts', 0.2), ('b', 0.3))
  publishing.merge(path, [one_row(*pair) for pair in first], [])
  publishing.merge(path, [one_row('a', 0.4)], [])
  kept, _ = read_csv(path)
  assert {(r.arm, r.value) for r in kept} == {('a', 0.4), ('b', 0.3)}


def test_a_run_leaves_arms_of_like_names_alone(tmp_path):
  path = tmp_path / 'results.csv'
  first = (('a, sum', 0.1, 'one'), ('a, count', 0.2, 'one'), ('a', 0.3, 'two'))
  publishing.merge(
    path, [one_row(arm, value, rung=rung) for arm, value, rung in first], []
  )
  publishing.merge(path, [one_row('a, sum', 0.4, rung='one')], [])
  kept, _ = read_csv(path)
  assert {(r.arm, r.value) for r in kept} == {
    ('a, sum', 0.4),
    ('a, count', 0.2),
    ('a', 0.3),
  }


def test_seeds_of_a_run_are_added_to_those_of_its_arms(tmp_path):
  path = tmp_path / 'results.csv'
  publishing.merge(
    path, [one_row('a', 0.1, 0), one_row('a', 0.2, 1)], ['first']
  )
  new = [one_row('a', 0.3, 1), one_row('a', 0.4, 2)]
  publishing.merge(path, new, ['second'], add=True)
  kept, comments = read_csv(path)
  assert {(r.seed, r.value) for r in kept} == {(0, 0.1), (1, 0.3), (2, 0.4)}
  assert comments == ['first', 'second']


@pytest.mark.parametrize(
  ('comments', 'add', 'message'),
  [(['so far: 1 of 3 done'], False, 'not all'), ([], True, 'tables of x tell')],
)
def test_what_cannot_be_taken_is_refused(comments, add, message, tmp_path):
  write_csv(tmp_path / 'results.csv', [one_row('a', 0.1)], comments)
  with pytest.raises(UsageError, match=message):
    publishing.publish(tmp_path, 'x', add)


def test_every_picture_exists():
  for page, text in PAGES.items():
    for path in re.findall(r'!\[[^\]]*\]\(([^)]*)\)', text):
      assert (page.parent / path).stat().st_size > 1000, path


def prose(text):
  """A page without its blocks of code."""
  return re.sub(r'^```.*?^```', '', text, flags=re.DOTALL | re.MULTILINE)


def anchors(text):
  """What the headings of a page are linked by, as GitHub has it."""
  headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
  plain = [re.sub(r'\]\([^)]*\)', '', each).lower() for each in headings]
  return [re.sub(r'[^\w -]', '', each).replace(' ', '-') for each in plain]


def test_anchors_are_those_of_headings():
  text = '# A (b), `c-d`_e\n\n## [To: it](x.md)\n\n```\n# no\n```\n'
  assert anchors(prose(text)) == ['a-b-c-d_e', 'to-it']


LINKED = [
  *PAGES,
  *(path for of in ('extrap', 'launch') for path in (ROOT / of).rglob('*.md')),
]


@pytest.mark.parametrize(
  'page', LINKED, ids=lambda path: str(path.relative_to(ROOT))
)
def test_every_link_leads_somewhere(page):
  text = prose(page.read_text(encoding='utf-8'))
  for link in re.findall(r'\]\(([^)\s]*)\)', text):
    if link.startswith('https://'):
      continue
    path, _, anchor = link.partition('#')
    to = (page.parent / path).resolve() if path else page
    assert to.exists() and to.is_relative_to(ROOT), link
    if anchor:
      assert anchor in anchors(prose(to.read_text(encoding='utf-8'))), link


def test_readme_is_short_and_leads_to_every_page():
  readme, *topics = PAGES
  assert len(PAGES[readme].splitlines()) < 400
  linked = set(re.findall(r'\(experiments/pages/([^)#]+)', PAGES[readme]))
  assert linked == {path.name for path in topics}
  for path in topics:
    start = r'# .+\n\n\[All topics\]\(\.\./\.\./README\.md\)\n\n'
    assert re.match(start, PAGES[path]), path.name


def test_every_target_and_module_exists():
  makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
  text = '\n'.join(PAGES.values())
  for target in re.findall(r'(?:`|\n    )make ([a-z-]+)', text):
    assert re.search(rf'^{target}:', makefile, re.MULTILINE), target
  for module in re.findall(r'python -m ((?:experiments|launch)[\w.]*)', text):
    path = ROOT / module.replace('.', '/')
    assert path.is_dir() or path.with_suffix('.py').exists(), module


def test_studies_are_listed_with_claim_command_and_time():
  found = dict(studies())
  commands = {
    '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    for path in (ROOT / 'experiments').rglob('*.py')
    if "if __name__ == '__main__':" in path.read_text(encoding='utf-8')
  }
  lists = {f'experiments.{n}' for n in ('__main__', 'encodings', 'tables')}
  assert set(found) == commands - lists
  assert all({'CLAIM', 'TIME'} <= set(c) for c in found.values())


def test_forecast_snippet_runs(capsys):
  exec(compile(FORECAST, 'README', 'exec'), {})
  median, stops = capsys.readouterr().out.strip().splitlines()
  numbers = [float(each) for each in re.findall(r'0\.\d+', median)]
  assert len(numbers) == 3 and numbers[1] < numbers[0] < numbers[2] < 0.55
  # Falling from .9 to .55, a run will hardly have come to .2 by step 50.
  assert stops in ('True', 'False')


def test_snippet_of_scaling_laws_runs(capsys):
  exec(compile(SCALING, 'README', 'exec'), {})
  ends = re.findall(r'\d\.\d+', capsys.readouterr().out)
  low, further, high, high_further = map(float, ends)
  assert 1.5 < further < low < 2.7 and low < high and further < high_further


def test_library_snippet_runs(capsys):
  """The library's snippet, with fewer steps and shorter sums."""
  code = LIBRARY.replace('steps=500', 'steps=4').replace('200', '12')
  exec(compile(code, 'README', 'exec'), {})
  right = capsys.readouterr().out.strip()
  assert re.fullmatch(r'\[\d+ \d+ \d+ \d+\]', right)


@pytest.mark.parametrize('snippet', CUSTOM, ids=['encoding', 'task'])
def test_custom_snippets_are_short(snippet):
  assert len(snippet.strip().splitlines()) <= 25


def test_custom_encoding_trains_and_becomes_a_flag_value():
  import extrap
  from extrap.models import Transformer, TransformerConfig
  from extrap.tasks.addition import Addition

  names = {}
  try:
    exec(compile(CUSTOM[0], 'README', 'exec'), names)
    slope = names['Slope']()
    assert POSITIONS.get('slope') is names['Slope']
    task = Addition()
    config = TransformerConfig(width=8, heads=2, ffn_width=8, position=slope)
    model = Transformer(config, task.vocab_size)
    problem = extrap.SequenceProblem(
      task=task, model=model, max_size=3, batch_size=4
    )
    train = extrap.TrainConfig(steps=3, evaluate_every=0)
    fitted = extrap.fit(problem, train)
    bias = fitted.params['layers']['attention']['position_slope']
    assert bias.shape == (1, 1, 2)
    assert (bias != slope.start).any()  # It learns.
  finally:
    POSITIONS._entries.pop('slope', None)


def test_custom_task_copies():
  import jax
  import jax.numpy as jnp

  names = {}
  exec(compile(CUSTOM[1], 'README', 'exec'), names)
  task = names['Copy']()
  sizes = jnp.array([[1], [3], [5]])
  sample = jax.jit(task.sample, static_argnames='max_size')
  batch = sample(jax.random.key(0), sizes, max_size=5)
  for size, tokens in zip(sizes[:, 0], batch.tokens, strict=True):
    (number, zero), answer = task.read(tokens)
    assert zero == 0 and answer == number and len(str(number)) == size


def test_imports_are_fast_and_start_no_backend():
  code = (
    'import time; t = time.perf_counter();'
    'import extrap.models, extrap.training, extrap.evaluation;'
    'from jax._src import xla_bridge as b;'
    'assert not b.backends_are_initialized(), "a backend was started";'
    'import sys;'
    'slow = {"orbax", "matplotlib", "tensorflow_datasets", "tensorboardX"};'
    'assert not slow & set(sys.modules), slow & set(sys.modules)'
  )
  subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)


def test_help_explains_every_flag_with_default_and_unit():
  command = [sys.executable, '-m', 'experiments.addition', '--helpfull']
  shown = subprocess.run(
    command, check=True, cwd=ROOT, capture_output=True, text=True
  ).stdout
  for flag in ('--steps', '--model.position', '--train.learning_rate'):
    assert flag in shown
  steps = shown.partition('--steps:')[2][:120]
  assert "(default: '1200')" in steps and '[steps;' in steps
