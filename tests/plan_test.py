"""Tests of launch/plan.py: what a run takes, before it is paid for."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from extrap.errors import ExtrapError, UsageError
from extrap.planning import accelerators, roofline
from extrap.planning.accelerators import ACCELERATORS
from extrap.planning.step import Exchange, Step
from launch import command_line, plan, plan_table

ROOT = Path(__file__).parents[1]
STUDY = [
  *('python', '-m', 'experiments.addition', '--replicas=1', '--digits=4'),
  *('--batch_size=16', '--model.position=abacus', '--model.depth=3'),
  *('--model.width=32', '--model.heads=2', '--model.ffn_width=32'),
  *('--model.dtype=bfloat16', '--steps=1000'),
]

STEP = Step(
  mesh={'replica': 1, 'data': 32, 'model': 1},
  steps=3600,
  replicas=1,
  dtype='bfloat16',
  parameters=1000,
  parameter_bytes=4e9,
  optimizer_bytes=8e9,
  other_bytes=0.0,
  activation_bytes=10e9,
  flops={'bf16': 197e12, 'f32': 0.0},
  product_bytes=0.0,
  exchanges=[Exchange('all-gather', 32, 32, 2.0, 1e9)],
  unknown_loops=0,
  compiler='cpu',
  seconds=1.0,
  peak_bytes=2**30,
)


def run(*argv: str) -> int:
  """The exit code of a plan."""
  with pytest.raises(SystemExit) as caught:
    command_line.run(plan.main, plan.Config, '', ['plan', *argv])
  return caught.value.code


def test_each_resource_has_its_time() -> None:
  found = roofline.bound(STEP, ACCELERATORS['v5e'])
  assert found.compute == pytest.approx(1.0)
  assert found.memory == pytest.approx(2 * 12e9 / 819e9)
  assert found.network == pytest.approx(1e9 / 200e9)
  assert (found.seconds, found.binds) == (found.compute, 'compute')


def test_the_longest_binds() -> None:
  chip = ACCELERATORS['v5e']
  idle = dataclasses.replace(STEP, flops={})
  assert roofline.bound(idle, chip).binds == 'memory'
  sends = dataclasses.replace(idle.exchanges[0], sent=1e12)
  busy = dataclasses.replace(idle, exchanges=[sends])
  assert roofline.bound(busy, chip).binds == 'network'


def test_float32_is_slower() -> None:
  exact = dataclasses.replace(STEP, flops={'f32': 67e12})
  assert roofline.bound(exact, ACCELERATORS['H100']).compute == 1.0
  slowed = roofline.bound(exact, ACCELERATORS['v5e']).compute
  assert slowed == pytest.approx(6 * 67 / 197)


def test_a_lower_utilisation_takes_longer_but_never_beats_the_bound() -> None:
  found = roofline.Bound(compute=1.0, memory=0.5, network=3.0)
  assert found.expected(0.25) == 4.0
  assert found.expected(0.5) == 3.0


def test_eight_gpus_share_a_board() -> None:
  chip = ACCELERATORS['H100']

  def network(size: int, span: int) -> float:
    exchange = Exchange('all-gather', size, span, 1.0, 45e9)
    step = dataclasses.replace(STEP, exchanges=[exchange])
    return roofline.bound(step, chip).network

  assert network(8, 8) == pytest.approx(0.1)
  # All eight adapters of a board, or one for each of 8 on other boards.
  assert network(32, 32) == pytest.approx(45 / 400)
  assert network(4, 25) == pytest.approx(45 / 50)


@pytest.mark.parametrize('name', list(ACCELERATORS))
def test_the_data_sheet_is_plausible(name: str) -> None:
  """Orders of magnitude: a slip of a unit would be three of them."""
  chip = ACCELERATORS[name]
  assert 1e14 < chip.bfloat16 < 2e15
  assert 5 < chip.bfloat16 / chip.float32 < 20
  assert 10e9 < chip.memory < 200e9
  assert 100 < chip.bfloat16 / chip.bandwidth < 700
  assert 2 < chip.bandwidth / chip.links < 15
  assert chip.network <= chip.links
  assert accelerators.find(name.lower()) == name


def test_exceeded_memory_is_told() -> None:
  assert not plan.warnings([STEP], 'v5p')
  (line,) = plan.warnings([STEP], 'v5e')
  assert '--devices=32' in line and '20.5 GiB' in line and 'of v5e;' in line
  (line,) = plan.warnings([STEP], None)
  assert 'of v5e;' in line


def test_estimates_are_named() -> None:
  assert 'bfloat16 is held in float32' in plan.report(STEP, 0.45)
  told = plan.report(dataclasses.replace(STEP, compiler='v5e:4x8'), 0.45)
  assert 'bfloat16 is held in float32' not in told


def test_a_step_survives_json() -> None:
  data = json.loads(json.dumps(dataclasses.asdict(STEP)))
  assert Step.from_json(data) == STEP


def test_csv_and_page() -> None:
  rows = plan_table.rows_of(STEP, 0.5)
  comments = ['command: python -m launch.plan', 'on a laptop']
  text = plan_table.csv_text(rows, comments)
  assert plan_table.read_csv(text) == (rows, comments)
  by_name = {row['accelerator']: row for row in rows}
  assert by_name['v5e']['fits'] == 'no'
  assert float(by_name['v5e']['hours']) == pytest.approx(2)
  assert float(by_name['v5e']['chip_hours']) == pytest.approx(64)
  table = plan_table.page_table(rows, comments)
  assert '(2 h, compute)' in table
  assert '```sh\npython -m launch.plan\n```' in table
  page = f'before\n{plan_table.BEGIN}\nold\n{plan_table.END}\nafter\n'
  page = plan_table.update_page(page, table)
  assert 'old' not in page and page.startswith('before') and table in page
  assert plan_table.update_page(page, table) == page
  with pytest.raises(ExtrapError, match='needs'):
    plan_table.update_page('no marks', table)


def test_the_page_is_up_to_date() -> None:
  path = ROOT / 'launch' / 'README.md'
  page = path.read_text('utf-8') if path.exists() else ''
  if plan_table.BEGIN not in page:
    pytest.skip('the page has no such table')
  results = ROOT / 'experiments' / 'results' / 'plan.csv'
  table = plan_table.page_table(
    *plan_table.read_csv(results.read_text('utf-8'))
  )
  assert plan_table.update_page(page, table) == page, (
    'run python -m launch.plan --csv=experiments/results/plan.csv '
    '--page=launch/README.md'
  )


def test_the_published_plan_is_that_of_the_recipe() -> None:
  text = (ROOT / 'experiments' / 'results' / 'plan.csv').read_text('utf-8')
  rows, comments = plan_table.read_csv(text)
  assert {row['chips'] for row in rows} == {'1', '8', '64', '256'}
  assert {row['accelerator'] for row in rows} == set(ACCELERATORS)
  assert {row['parameters'] for row in rows} == {'117667840'}
  assert comments[0].startswith('command: python -m launch.plan ')


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    ([], 'nothing to run: python -m launch.plan'),
    (['--'], 'nothing to run: python -m launch.plan'),
    (['--', 'ls', '-l'], 'ls -l cannot be planned: write python -m'),
    (['--devices=257', '--', *STUDY], '--devices=257: must be >= 1 and <= 256'),
    (['--devices=0', '--', *STUDY], '--devices=0: must be >= 1 and <= 256'),
    (['--devices=', '--', *STUDY], '--devices is empty'),
    (
      ['--accelerator=v9', '--', *STUDY],
      '--accelerator=v9 is unknown; known: v4, v5e, v5p, v6e, H100, H200',
    ),
    (['--utilisation=2', '--', *STUDY], '--utilisation=2.0: must be'),
    (['--page=page.md'], '--page needs --csv'),
    (
      ['--compiler=tpu', '--accelerator=H100', '--', *STUDY],
      '--accelerator=H100: there is no TPU slice of 1 chips',
    ),
  ],
)
def test_bad_input_is_one_line(
  argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
  assert run(*argv) == 2
  shown, told = capsys.readouterr()
  assert told.startswith('error: ') and told.count('\n') == 1
  assert message in told and not shown


@pytest.mark.parametrize(
  ('devices', 'words', 'message'),
  [
    (6, [*STUDY, '--mesh.data=4', '--mesh.model=-1'], '4 does not divide 6'),
    (2, STUDY, 'is a mesh of 1, --devices=2: write --mesh.data=-1'),
    (1, ['python', '-m', 'experiments.nope'], 'no module experiments.nope'),
    (1, ['python', '-m', 'extrap.config'], 'extrap.config is not a study'),
    (1, [*STUDY, '--model.depht=2'], "Unknown command line flag 'model.depht'"),
  ],
)
def test_what_the_study_refuses_is_one_line(
  devices: int,
  words: list[str],
  message: str,
  tmp_path: Path,
  capsys: pytest.CaptureFixture[str],
) -> None:
  out = tmp_path / 'plan.csv'
  assert run(f'--devices={devices}', f'--csv={out}', '--', *words) == 2
  shown, told = capsys.readouterr()
  assert told.startswith('error: ') and told.count('\n') == 1
  assert message in told and not shown and not out.exists()


def test_a_killed_compiler_is_told() -> None:
  done = subprocess.CompletedProcess([], -9, '', '')
  error = plan._failure(done)
  assert error.exit_code == 1 and 'killed by signal 9' in str(error)


@pytest.mark.slow
def test_a_plan_of_several_numbers_of_devices(
  tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
  out, page = tmp_path / 'plan.csv', tmp_path / 'page.md'
  page.write_text(f'{plan_table.BEGIN}\n{plan_table.END}\n')
  words = [*STUDY, '--mesh.data=-1']
  asked = ['--devices=1,8', '--compiler=cpu', f'--csv={out}', f'--page={page}']
  assert run(*asked, '--', *words) == 0
  shown, told = capsys.readouterr()
  assert not told and 'collectives     none' in shown
  one, many = (row for row in _rows(out) if row['accelerator'] == 'v5e')
  assert (one['collectives'], one['sent_bytes']) == ('none', '0')
  # Fully sharded: weights are gathered, in bfloat16, and gradients scattered.
  assert 'all-gather among 8' in many['collectives']
  assert 'reduce-scatter among 8' in many['collectives']
  assert 'all-to-all' not in many['collectives']
  kernels = int(one['parameters'])
  assert float(many['sent_bytes']) < 3 * 2 * kernels
  # The table of places is whole on every device.
  assert float(one['parameter_bytes']) == 4 * kernels
  table = 4 * 128 * 32
  spread = table + (4 * kernels - table) / 8
  assert float(many['parameter_bytes']) == pytest.approx(spread, rel=0.05)
  assert float(many['flops']) == pytest.approx(
    float(one['flops']) / 8, rel=0.01
  )
  assert 2.0 < float(many['optimizer_bytes']) / spread < 2.1
  assert float(many['activation_bytes']) < float(one['activation_bytes']) / 4
  assert page.read_text().count('| 8 |') == 1


def _rows(path: Path) -> list[plan_table.Row]:
  return plan_table.read_csv(path.read_text('utf-8'))[0]


def test_nothing_imports_jax() -> None:
  code = "import sys, launch.plan; sys.exit('jax' in sys.modules)"
  assert (
    subprocess.run(
      [sys.executable, '-c', code], check=False, cwd=ROOT
    ).returncode
    == 0
  )


def test_the_environment_of_the_child() -> None:
  given = {
    'XLA_FLAGS': '--a=1 --xla_force_host_platform_device_count=8',
    'B': 'b',
  }
  made = plan.environment(given, 64)
  assert made['XLA_FLAGS'].split() == [
    '--a=1',
    '--xla_force_host_platform_device_count=64',
  ]
  assert (made['B'], made['JAX_PLATFORMS']) == ('b', 'cpu')


def test_topologies_by_the_number_of_chips(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  def found(name: str | None, devices: int, **kwargs: str) -> str | None:
    return plan.topology_of(plan.Config(**kwargs), name, devices)

  monkeypatch.setattr(plan.importlib.util, 'find_spec', lambda name: object())
  assert found('v5e', 8) == 'v5e:2x4'
  assert found('v5p', 64) == 'v5p:4x4x4'
  assert found('v5e', 6) is None
  assert found('H100', 8) is None
  assert found('v5e', 8, compiler='cpu') is None
  monkeypatch.setattr(plan.importlib.util, 'find_spec', lambda name: None)
  assert found('v5e', 8) is None
  with pytest.raises(UsageError, match='there is no libtpu'):
    found('v5e', 8, compiler='tpu')


@pytest.mark.slow
def test_the_tpu_compiler_finds_the_same_flops() -> None:
  pytest.importorskip('libtpu')
  study = [*STUDY[2:], '--mesh.data=-1']
  simulated = plan.measure(sys.executable, study, 4)
  compiled = plan.measure(sys.executable, study, 4, 'v5e:2x2')
  assert compiled.compiler == 'v5e:2x2'
  flops = pytest.approx(simulated.total_flops, rel=0.01)
  assert compiled.total_flops == flops
