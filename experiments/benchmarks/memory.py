"""Memory of compiled programs."""

import jax


def temporaries(lowered: jax.stages.Lowered) -> float:
  """MiB of temporaries in the compiled program; nothing runs."""
  analysis = lowered.compile().memory_analysis()
  return analysis.temp_size_in_bytes / 2**20
