"""Which way of computing attention serves a model on a machine."""

from extrap.errors import UsageError
from extrap.models.config import TransformerConfig
from extrap.models.hardware import Hardware, hardware
from extrap.models.positions.position import ALL_PAIRS

# Tokens from which `auto` takes each. The first two are measured on a CPU
# (experiments/benchmarks/attention.py); the kernels' is a guess.
GATHERED_FROM = 128
BLOCKWISE_FROM = 1024
KERNEL_FROM = 512

BACKENDS = ('dense', 'blockwise', 'gathered', 'fused', 'splash')
# Hooks that act on pairs of tokens; the kernels know the causal mask alone.
PAIR_HOOKS = ('pair_bias', 'visible', 'key_bias', 'combine')


def choose(
  config: TransformerConfig, on: Hardware, tokens: int, *, windowed: bool
) -> str:
  """The backend of a forward pass over all tokens.

  Args:
    config: of the model; `config.attention` asks for one, or 'auto'.
    on: where it will run.
    tokens: length of the sequences.
    windowed: whether the encoding names each token's neighbours.

  Raises:
    UsageError: the backend that was asked for cannot serve.
  """
  serve = [b for b in BACKENDS if not obstacle(b, config, on, windowed)]
  asked = config.attention
  if asked == 'auto':
    return _best(serve, tokens)
  if asked not in serve:
    raise UsageError(
      f'--model.attention={asked} with --model.position='
      f'{config.position.name}: {obstacle(asked, config, on, windowed)}; '
      f'possible here: {", ".join(["auto", *serve])}'
    )
  return asked


def _best(serve: list[str], tokens: int) -> str:
  """The first that serves and is worth it at this length."""
  for backend, least in (
    ('gathered', GATHERED_FROM),
    ('fused', KERNEL_FROM),
    ('splash', KERNEL_FROM),
    ('blockwise', BLOCKWISE_FROM),
  ):
    if backend in serve and tokens >= least:
      return backend
  return 'dense'


def row_bytes(
  config: TransformerConfig, tokens: int, window: int | None
) -> int:
  """What attention to a single row takes here, about.

  Args:
    config: of the model.
    tokens: of the row.
    window: neighbours that the encoding names for each token; None without.
  """
  windowed = window is not None
  backend = choose(config, hardware(), tokens, windowed=windowed)
  if backend == 'dense':
    return 4 * config.heads * tokens**2
  if backend == 'gathered':  # Keys and values of each neighbour.
    return 4 * tokens * window * 2 * config.width
  return 4 * tokens * config.width


def obstacle(
  backend: str, config: TransformerConfig, on: Hardware, windowed: bool
) -> str | None:
  """Why a backend cannot serve; None where it can."""
  position = config.position
  if backend == 'gathered' and not windowed:
    return 'it needs a hard window, such as that of place_window'
  if backend in ('dense', 'gathered'):
    return None
  if any(map(position.acts, ALL_PAIRS)):  # Only the dense path has them all.
    return 'this encoding has a rule of its own for attention'
  if backend == 'blockwise':
    return None
  if any(map(position.acts, PAIR_HOOKS)):
    return 'it takes the causal mask alone, and this encoding acts on pairs'
  if position.key_shape(config.head_width) != (config.head_width,):
    return 'its keys are wider than its values with this encoding'
  if config.dtype != 'bfloat16':
    return f'it needs --model.dtype=bfloat16, not {config.dtype}'
  return {'fused': _no_cudnn, 'splash': _no_splash}[backend](config, on)


def _no_cudnn(config: TransformerConfig, on: Hardware) -> str | None:
  """What cuDNN's flash attention lacks (jax 0.10 to 0.12 check the same)."""
  try:
    major = int(on.capability.split('.')[0])
  except ValueError:
    major = 0
  if on.platform != 'gpu' or major < 8:
    return 'it needs an NVIDIA GPU of compute capability 8.0 or more'
  width = config.head_width
  if width > 128 or width % 8:
    return f'it needs a head width of 8, 16, ... 128, not {width}'
  return None


def _no_splash(config: TransformerConfig, on: Hardware) -> str | None:
  if on.platform != 'tpu':
    return f'it needs a TPU, not a {on.platform}'
  width = config.head_width
  if width != 64 and width % 128:
    return f'it needs a head width of 64 or a multiple of 128, not {width}'
  return None
