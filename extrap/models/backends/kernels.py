"""Fused attention kernels: cuDNN's on NVIDIA GPUs, Pallas' on TPUs.

Both take the causal mask alone, all tokens as queries, and half precision.

Shape key: B examples, T tokens, H heads, D head width.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import PartitionSpec as P

LANES = 128  # tokens: blocks of the splash kernel are a multiple of this
LARGEST_BLOCK = 512


def fused(
  query_BTHD: jax.Array,
  key_BTHD: jax.Array,
  value_BTHD: jax.Array,
  *,
  implementation: str = 'cudnn',
) -> jax.Array:
  """cuDNN's flash attention, through `jax.nn.dot_product_attention`.

  Args:
    query_BTHD: queries of all tokens, multiplied by the scale of the logits;
      bfloat16, D at most 128 and a multiple of 8.
    key_BTHD: keys.
    value_BTHD: values.
    implementation: 'xla' gives the same function on any platform.
  """
  return jax.nn.dot_product_attention(
    query_BTHD,
    key_BTHD,
    value_BTHD,
    scale=1.0,
    is_causal=True,
    implementation=implementation,
  )


def splash(
  query_BTHD: jax.Array,
  key_BTHD: jax.Array,
  value_BTHD: jax.Array,
  *,
  interpret: bool = False,
) -> jax.Array:
  """Splash attention (`jax.experimental.pallas.ops.tpu.splash_attention`).

  XLA cannot partition the kernel by itself, so it runs on each device's own
  examples and heads.

  Args:
    query_BTHD: queries of all tokens, multiplied by the scale of the logits.
    key_BTHD: keys.
    value_BTHD: values.
    interpret: run the kernel step by step, on any platform.
  """
  run = functools.partial(_splash, interpret=interpret)
  mesh = jax.sharding.get_abstract_mesh()
  if not mesh.empty and mesh.size > 1:
    spec = local_spec(mesh.shape, query_BTHD.shape)
    run = jax.shard_map(
      run, in_specs=(spec, spec, spec), out_specs=spec, check_vma=False
    )
  return run(query_BTHD, key_BTHD, value_BTHD)


def local_spec(mesh: Mapping[str, int], shape: tuple[int, ...]) -> P:
  """Where examples and heads lie; an axis that does not divide is left out."""
  spec = nn.logical_to_mesh_axes(('batch', None, 'heads', None)) or P()
  axes = [
    axis if axis in mesh and size % mesh[axis] == 0 else None
    for axis, size in zip(spec, shape, strict=False)
  ]
  return P(*axes)


def _splash(*arrays_BTHD: jax.Array, interpret: bool) -> jax.Array:
  """On one device; tokens are padded on the right, which no query sees."""
  tokens = arrays_BTHD[0].shape[1]
  block = min(LARGEST_BLOCK, -(-tokens // LANES) * LANES)
  extra = -tokens % block
  arrays_BHTD = [
    jnp.pad(x_BTHD, ((0, 0), (0, extra), (0, 0), (0, 0))).swapaxes(1, 2)
    for x_BTHD in arrays_BTHD
  ]
  _, heads, padded, _ = arrays_BHTD[0].shape
  kernel = _splash_kernel(heads, padded, block, interpret)
  return jax.vmap(kernel)(*arrays_BHTD).swapaxes(1, 2)[:, :tokens]


def _splash_kernel(
  heads: int, tokens: int, block: int, interpret: bool
) -> Callable[..., jax.Array]:
  """The kernel of a causal mask: (q, k, v) of [H, T, D] to [H, T, D]."""
  # Imported when used: Pallas takes long to load, and few machines need it.
  from jax.experimental.pallas.ops.tpu import splash_attention

  sizes = splash_attention.BlockSizes(
    block_q=block,
    block_kv=block,
    block_q_dkv=block,
    block_kv_dkv=block,
    block_q_dq=block,
    block_kv_dq=block,
  )
  mask = splash_attention.MultiHeadMask(
    [splash_attention.CausalMask((tokens, tokens))] * heads
  )
  return splash_attention.make_splash_mha(
    mask=mask,
    block_sizes=sizes,
    head_shards=1,
    q_seq_shards=1,
    interpret=interpret,
  )


KERNELS = {'fused': fused, 'splash': splash}
