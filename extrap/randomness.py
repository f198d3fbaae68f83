"""Randomness by name: every draw is a function of (seed, name, step).

Folding a name into a key, rather than splitting in call order, means that
adding one draw never shifts another, and that a resumed run needs no state.
"""

import zlib

import jax


def named(key: jax.Array, *names: str | int | jax.Array) -> jax.Array:
  """Folds names (text or integers, traced ones too) into a typed key."""
  for name in names:
    data = zlib.crc32(name.encode()) if isinstance(name, str) else name
    key = jax.random.fold_in(key, data)
  return key
