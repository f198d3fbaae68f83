"""Bad input gives one clear line, the right exit code, and leaves nothing."""

import pytest

from experiments import addition
from extrap import cli

TINY = (
  '--steps=4',
  '--replicas=2',
  '--batch_size=8',
  '--model.width=16',
  '--compare=place_window',
)


def run(*flags):
  """Runs the study in this process; returns the exit code."""
  with pytest.raises(SystemExit) as caught:
    cli.run(addition.main, addition.Config, argv=['addition', *flags])
  return caught.value.code or 0


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--model.depht=2'], ['model.depht']),
    (['--model.position=nonsense'], ['--model.position', 'nonsense']),
    (['--model.heads=3'], ['--model.heads', '--model.width']),
    (['--digits=0'], ['--digits']),
    (['--lengths=0,5'], ['--lengths']),
    (['--compare=nonsense'], ['nonsense']),
    (
      ['--model.position=learned', '--lengths=100'],
      ['100', '--model.position.max_size'],
    ),
    (['--model.position=abacus', '--digits=50'], ['--model.position.max_size']),
    (['--certify=/nowhere'], ['/nowhere']),
    (['--init_from=/nowhere'], ['/nowhere']),
    (['--mesh.data=64'], ['--mesh.data']),
    (['--train.best=acc'], ['--train.best', 'exact_match']),
    (['--task.hints=99', '--lengths=100'], ['--task.hints=99', '1001 digits']),
    (['--compare_up_to=0'], ['--compare_up_to']),
    (['--compare=abacus', '--digits=50'], ['--compare=abacus', '50']),
    (['--model.attention=gathered', '--model.position=none'], ['gathered']),
    (['--lengths='], ['--lengths']),
  ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
  flags, words, tmp_path, capsys
):
  path = tmp_path / 'run'
  assert run(*TINY, f'--workdir={path}', *flags) in (1, 2)
  line = _error(capsys)
  assert all(word in line for word in words), line
  assert not path.exists()


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
  (tmp_path / 'file').write_text('')
  assert run(*TINY, f'--workdir={tmp_path}/file/run') in (1, 2)
  assert str(tmp_path / 'file') in _error(capsys)


def _error(capsys):
  lines = capsys.readouterr().err.strip().splitlines()
  errors = [line for line in lines if line.startswith('error:')]
  assert len(errors) == 1
  return errors[0]
