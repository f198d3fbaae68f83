"""Tests of training/flops.py."""

import jax
import jax.numpy as jnp
import pytest

from extrap.training.config import TrainConfig
from extrap.training.flops import count_flops, count_update_flops


def _shape(*sizes: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_counts_a_product() -> None:
  assert count_flops(jnp.matmul, _shape(3, 5), _shape(5, 7)) == 2 * 3 * 5 * 7
  # Nothing runs: this would need 4e12 bytes.
  huge = _shape(10**6, 10**6)
  assert count_flops(jnp.matmul, huge, huge) == 2e18


@pytest.mark.parametrize(
  ('formula', 'one', 'other', 'wanted'),
  [
    ('bij,bjk->bik', (4, 3, 5), (4, 5, 7), 2 * 4 * 3 * 5 * 7),
    ('ijk,jkl->il', (3, 5, 7), (5, 7, 2), 2 * 3 * 5 * 7 * 2),
    ('i,j->ij', (3,), (5,), 2 * 3 * 5),
    ('BQHD,BKHD->BHQK', (2, 3, 4, 5), (2, 6, 4, 5), 2 * 2 * 4 * 3 * 6 * 5),
  ],
)
def test_counts_batched_and_wide_products(
  formula: str, one: tuple[int, ...], other: tuple[int, ...], wanted: int
) -> None:
  found = count_flops(
    lambda x, y: jnp.einsum(formula, x, y), _shape(*one), _shape(*other)
  )
  assert found == wanted


def test_vmap_multiplies() -> None:
  product = jax.vmap(jnp.matmul, in_axes=(0, None))
  assert count_flops(product, _shape(6, 3, 5), _shape(5, 7)) == 6 * 210


def test_a_scan_counts_every_trip() -> None:
  def inner(x: jax.Array, _: None) -> tuple[jax.Array, None]:
    return jax.lax.scan(lambda y, _: (y @ y, None), x, length=3)

  def outer(x: jax.Array) -> jax.Array:
    return jax.lax.scan(inner, x, length=5)[0] @ x

  assert count_flops(outer, _shape(4, 4)) == (3 * 5 + 1) * 2 * 4**3


def test_of_a_condition_the_dearest_branch_counts() -> None:
  def choose(flag: jax.Array, x: jax.Array) -> jax.Array:
    return jax.lax.cond(flag, lambda x: x @ x @ x, lambda x: x @ x, x)

  flag = jax.ShapeDtypeStruct((), bool)
  assert count_flops(choose, flag, _shape(4, 4)) == 2 * 2 * 4**3

  def switch(index: jax.Array, x: jax.Array) -> jax.Array:
    branches = [lambda x: x, lambda x: x @ x, lambda x: x + 1]
    return jax.lax.switch(index, branches, x)

  index = jax.ShapeDtypeStruct((), jnp.int32)
  assert count_flops(switch, index, _shape(4, 4)) == 2 * 4**3


def test_an_unknown_number_of_trips_counts_once() -> None:
  def loop(x: jax.Array) -> jax.Array:
    return jax.lax.while_loop(lambda x: jnp.sum(x) < 9, lambda x: x @ x, x)

  assert count_flops(loop, _shape(4, 4)) == 2 * 4**3


def test_a_gradient_counts_three_times_its_product() -> None:
  def loss(x: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.sum(jnp.matmul(x, w) ** 2)

  shapes = _shape(3, 5), _shape(5, 7)
  forward = count_flops(loss, *shapes)
  assert forward == 2 * 3 * 5 * 7
  both = jax.value_and_grad(loss, argnums=(0, 1))
  assert count_flops(both, *shapes) == 3 * forward
  # The first layer's input has no gradient.
  assert count_flops(jax.value_and_grad(loss, argnums=1), *shapes) == (
    2 * forward
  )


def test_sees_through_compiled_and_recomputed_functions() -> None:
  def layer(x: jax.Array) -> jax.Array:
    return jnp.sin(x @ x) @ x

  wanted = 2 * 2 * 4**3
  assert count_flops(jax.jit(layer), _shape(4, 4)) == wanted
  assert count_flops(jax.checkpoint(layer), _shape(4, 4)) == wanted
  custom = jax.custom_jvp(layer)
  custom.defjvps(lambda t, ans, x: t)
  assert count_flops(custom, _shape(4, 4)) == wanted
  custom = jax.custom_vjp(layer)
  custom.defvjp(lambda x: (x, None), lambda _, g: (g,))
  assert count_flops(custom, _shape(4, 4)) == wanted
  assert count_flops(jnp.sin, _shape(4, 4)) == 0


def test_counts_the_products_of_an_update() -> None:
  params = {'kernel': _shape(3, 4, 6), 'bias': _shape(3, 6)}  # 3 replicas
  assert count_update_flops(TrainConfig(), params) == 0
  # Five times: x x^T, its square, and their sum times x.
  wanted = 5 * 2 * (4 * 6 * 4 + 4**3 + 4 * 4 * 6)
  assert count_update_flops(TrainConfig(optimizer='muon'), params) == wanted
