"""What tests of language models share: a small model and its parameters."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from extrap.language import LanguageProblem
from extrap.models import Transformer, TransformerConfig
from extrap.tasks.text import RunningText


def build(position, depth=1):
  """A model of eight channels and two heads."""
  config = TransformerConfig(
    position=position, depth=depth, width=8, heads=2, ffn_width=8
  )
  return Transformer(config, RunningText.vocab_size)


def write_modules(folder):
  """Forty small modules; returns their folder."""
  for number in range(40):
    lines = (f'  x{number + line} = {line * 7}\n' for line in range(9))
    source = f'def f{number}():\n' + ''.join(lines)
    (folder / f'm{number}.py').write_text(source)
  return folder


def random_params(model, *replicas):
  """Parameters of the right shapes; drawing them on the host is faster."""
  problem = LanguageProblem(model=model, length=8)
  shapes = nn.unbox(jax.eval_shape(problem.init, jax.random.key(0)))
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: jnp.asarray(
      rng.normal(0, 0.5, (*replicas, *leaf.shape)), leaf.dtype
    ),
    shapes,
  )
