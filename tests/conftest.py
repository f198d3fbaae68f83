"""Eight simulated devices; programs that compile fast and are kept."""

import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

# Inherited by the processes that tests start, hence by environment.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
if os.environ['JAX_PLATFORMS'] == 'cpu':
  # Programs here are tiny: optimising one takes longer than it ever runs.
  os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
  # Without optimisations, half of what compiling takes. A flag that XLA does
  # not know would end the process.
  if version('jaxlib').startswith('0.10.'):
    os.environ.setdefault(
      'XLA_FLAGS',
      '--xla_cpu_use_fusion_emitters=false '
      '--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE',
    )
os.environ.setdefault(
  'JAX_COMPILATION_CACHE_DIR',
  str(Path(__file__).parents[1] / '.cache' / 'jax'),
)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')

import jax
import pytest
from absl import flags

jax.config.update('jax_num_cpu_devices', 8)
# An accidental outer sum is a common cause of a wrong loss.
jax.config.update('jax_numpy_rank_promotion', 'raise')


def pytest_configure() -> None:
  """Lets tests read flags: under pytest nothing parses the command line."""
  flags.FLAGS.mark_as_parsed()


def pytest_runtest_setup(item: pytest.Item) -> None:
  """Skips what needs an accelerator where there is none."""
  if item.get_closest_marker('accelerator'):
    if jax.default_backend() == 'cpu':
      pytest.skip('needs an accelerator: JAX_PLATFORMS=cuda, or tpu')


@pytest.fixture
def optimised() -> Iterator[None]:
  """For what holds bit for bit: programs are those that a user runs."""
  name = 'jax_disable_most_optimizations'
  before = jax.config.read(name)
  jax.config.update(name, False)
  yield
  jax.config.update(name, before)
