"""Costs read from HLO: by hand, and against what XLA compiles."""

import dataclasses
import functools
import textwrap
from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from experiments import addition
from extrap.models import TransformerConfig
from extrap.models.positions import POSITIONS
from extrap.planning.hlo_costs import Collective, read_costs
from extrap.planning.measure import OneStep
from extrap.training.config import TrainConfig
from extrap.training.flops import count_flops
from extrap.training.sharding import MeshConfig, make_mesh
from extrap.training.trainer import make_trainer

DOT = (
  '%dot.1 = f32[3,7]{1,0} dot(%a, %b), lhs_contracting_dims={1}, '
  'rhs_contracting_dims={0}'
)
ONE = 2 * 3 * 5 * 7


def program(entry: str, *others: str) -> str:
  """An HLO module with the operands of DOT."""
  computations = '\n\n'.join(textwrap.dedent(other) for other in others)
  return (
    'HloModule test, entry_computation_layout={()->f32[]}, num_partitions=8\n\n'
    f'{computations}\n\nENTRY %main (a: f32[3,5], b: f32[5,7]) -> f32[] {{\n'
    '  %a = f32[3,5]{1,0} parameter(0)\n'
    '  %b = f32[5,7]{1,0} parameter(1)\n'
    f'{textwrap.indent(textwrap.dedent(entry).strip(), "  ")}\n}}\n'
  )


def computation(name: str, *lines: str) -> str:
  """One with the operands of DOT; the last line is what it returns."""
  body = ['%a = f32[3,5]{1,0} parameter(0)', '%b = f32[5,7]{1,0} parameter(1)']
  *before, last = body + list(lines)
  text = ''.join(f'  {line}\n' for line in (*before, f'ROOT {last}'))
  return f'%{name} (a: f32[3,5], b: f32[5,7]) -> f32[3,7] {{\n{text}}}'


def test_a_product() -> None:
  costs = read_costs(program(f'ROOT {DOT}'))
  assert costs.flops == {'f32': ONE}
  assert costs.product_bytes == 4 * (15 + 35 + 21)
  assert not costs.counts


def test_what_is_no_program_is_refused() -> None:
  with pytest.raises(ValueError, match='HLO'):
    read_costs('module @jit_f {}')


def test_fusions_and_calls_are_followed() -> None:
  costs = read_costs(
    program(
      """
      %f = f32[3,7]{1,0} fusion(%a, %b), kind=kOutput, calls=%fused
      ROOT %c = f32[3,7]{1,0} call(%a, %b), to_apply=%outer
      """,
      computation('fused', DOT),
      computation('outer', '%g = f32[3,7]{1,0} call(%a, %b), to_apply=%fused'),
    )
  )
  assert costs.total_flops == 2 * ONE


def test_the_dearest_branch_counts() -> None:
  costs = read_costs(
    program(
      'ROOT %c = f32[3,7] conditional(%i, %a, %b), '
      'branch_computations={%cheap, %dear}',
      computation('cheap', DOT),
      computation('dear', DOT, DOT.replace('dot.1', 'dot.2')),
    )
  )
  assert costs.total_flops == 2 * ONE


def loop(
  counter: str, attributes: str = '', start: int = 0, limit: str = '10'
) -> str:
  """A loop around DOT; `counter` is what its body makes of the counter %i."""
  state = '(s32[], f32[3,5]{1,0}, f32[5,7]{1,0})'
  return program(
    f"""
    %start = s32[] constant({start})
    %state = {state} tuple(%start, %a, %b)
    ROOT %w = {state} while(%state), condition=%until, body=%round{attributes}
    """,
    f"""\
    %until (s: {state}) -> pred[] {{
      %s = {state} parameter(0)
      %i = s32[] get-tuple-element(%s), index=0
      %n = s32[] {f'constant({limit})' if limit else 'negate(%i)'}
      ROOT %less = pred[] compare(%i, %n), direction=LT
    }}""",
    f"""\
    %round (s: {state}) -> {state} {{
      %s = {state} parameter(0)
      %i = s32[] get-tuple-element(%s), index=0
      %a = f32[3,5]{{1,0}} get-tuple-element(%s), index=1
      %b = f32[5,7]{{1,0}} get-tuple-element(%s), index=2
      %one = s32[] constant(1)
      {counter}
      {DOT}
      ROOT %t = {state} tuple(%next, %a, %b)
    }}""",
  )


ADD = '%next = s32[] add(%i, %one)'
TWICE = '%half = s32[] add(%i, %one)\n      %next = s32[] add(%half, %one)'


@pytest.mark.parametrize(
  ('text', 'rounds'),
  [
    (loop(ADD), 10),
    (loop(ADD, start=4), 6),
    (loop(TWICE), 5),
    (loop(TWICE, limit='9'), 5),
    (loop('%next = s32[] fusion(%i), kind=kLoop, calls=%plus'), 10),
    (loop(ADD, ', backend_config={"known_trip_count":{"n":"3"}}'), 3),
  ],
  ids=['counted', 'from 4', 'unrolled', 'odd', 'fused', 'known'],
)
def test_loops_count_their_rounds(text: str, rounds: int) -> None:
  costs = read_costs(text)
  assert costs.total_flops == rounds * ONE
  assert not costs.unknown_loops


def test_a_loop_that_nothing_bounds_is_told() -> None:
  costs = read_costs(loop(ADD, limit=''))
  assert (costs.total_flops, costs.unknown_loops) == (ONE, 1)


def test_a_loop_whose_start_is_computed_is_told() -> None:
  text = loop(ADD, start=4)
  copied = text.replace(
    '%start = s32[] constant(4)',
    '%four = s32[] constant(4)\n  %start = s32[] copy(%four)',
  )
  assert read_costs(copied).total_flops == 6 * ONE
  costs = read_costs(copied.replace('copy(%four)', 'negate(%four)'))
  assert (costs.total_flops, costs.unknown_loops) == (ONE, 1)


@pytest.mark.parametrize(
  ('groups', 'size', 'span'),
  [
    ('{{0,2,4,6},{1,3,5,7}}', 4, 7),
    ('[4,2]<=[8]', 2, 2),
    ('[4,2]<=[2,4]T(1,0)', 2, 5),
    ("mesh['x'=2,'y'=4] {'y'}", 4, 4),
    ("mesh['x'=2,'y'=4] {'x'}", 2, 5),
    ("mesh['x'=2,'y'=4] {'x','y'}", 8, 8),
    ("mesh['x'=2,'y'=4] {'y':(1)2}", 2, 3),
    ('{}', 8, 8),
  ],
)
def test_groups_of_devices(groups: str, size: int, span: int) -> None:
  costs = read_costs(
    program(
      'ROOT %g = f32[24,5]{1,0} all-gather(%a), channel_id=1, '
      f'replica_groups={groups}, dimensions={{0}}'
    )
  )
  assert costs.counts == {Collective('all-gather', size, span): 1}
  assert costs.total_sent == (size - 1) * 60


@pytest.mark.parametrize(
  ('kind', 'sent'),
  [
    ('all-reduce', 2 * 3 / 4),
    ('reduce-scatter', 3 / 4),
    ('all-to-all', 3 / 4),
    ('all-gather', 3),
  ],
)
@pytest.mark.parametrize('start', ['', '-start'])
def test_bytes_sent_are_those_of_a_ring(
  kind: str, sent: float, start: str
) -> None:
  ended = f'%e = f32[3,5] {kind}-done(%g)' if start else ''
  costs = read_costs(
    program(
      f"""
      %g = (bf16[3,5]{{1,0}}, bf16[12,5]) {kind}{start}(%h, /*index=1*/%a), \
replica_groups=[2,4]<=[8]
      %h = bf16[3,5]{{1,0:T(8,128)(2,1)}} convert(%a)
      {ended}
      """
    )
  )
  assert costs.counts == {Collective(kind, 4, 4): 1}
  assert costs.total_sent == sent * 15 * (2 + 4)


def test_a_single_device_sends_nothing() -> None:
  text = 'ROOT %g = f32[3,5] all-reduce(%a), replica_groups=[8,1]<=[8]'
  assert not read_costs(program(text)).counts


def test_a_sum_that_is_only_sliced_is_a_reduce_scatter() -> None:
  text = """
    %r = f32[3,5] all-reduce(%a), replica_groups={}, to_apply=%sum
    %t = f32[5,3] transpose(%r), dimensions={1,0}
    ROOT %s = f32[1,3] dynamic-slice(%t, %i, %j), dynamic_slice_sizes={1,3}
    """
  (found,) = read_costs(program(text)).counts
  assert found.kind == 'reduce-scatter'
  used = text + '\n    %u = f32[3,5] negate(%r)'
  (found,) = read_costs(program(used)).counts
  assert found.kind == 'all-reduce'


def test_products_that_tpus_write_as_convolutions() -> None:
  """A batched product: the batch is a dimension with one place a result."""
  text = """
    %x = f32[4,3,5]{2,1,0} parameter(2)
    %y = f32[4,5,7]{2,1,0} parameter(3)
    ROOT %c = f32[4,3,7]{2,1,0} convolution(%x, %y), \
window={size=4 stride=3 pad=0_0 lhs_dilate=4}, dim_labels=0bf_0io->0bf
    """
  assert read_costs(program(text)).total_flops == 4 * ONE
  plain = text.replace('[4,', '[1,').replace(
    'window={size=4 stride=3 pad=0_0 lhs_dilate=4}, ', ''
  )
  assert read_costs(program(plain)).total_flops == ONE


# Against the compiler.


def compiled(function: Callable, *shapes: tuple[int, ...]) -> str:
  args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  return jax.jit(function).lower(*args).compile().as_text()


def test_nested_scans() -> None:
  def inner(x: jax.Array, _: None) -> tuple[jax.Array, None]:
    return jax.lax.scan(lambda y, _: (jnp.tanh(y @ y), None), x, length=3)

  def outer(x: jax.Array) -> jax.Array:
    return jax.lax.scan(inner, x, length=5)[0] @ x

  costs = read_costs(compiled(outer, (16, 16)))
  assert costs.total_flops == (3 * 5 + 1) * 2 * 16**3


def test_a_product_spread_over_devices() -> None:
  """Each device gathers the weights, and adds up its part of the result."""
  mesh = make_mesh(MeshConfig(data=4))
  rows, whole = (NamedSharding(mesh, spec) for spec in (P('data'), P()))

  def step(x: jax.Array, w: jax.Array) -> jax.Array:
    return jax.grad(lambda w: jnp.sum(jnp.tanh(x @ w)))(
      jax.lax.with_sharding_constraint(w, whole)
    )

  text = (
    jax.jit(step, in_shardings=(rows, rows), out_shardings=whole)
    .lower(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in ((32, 16), (16, 8))))
    .compile()
    .as_text()
  )
  costs = read_costs(text)
  assert costs.total_flops == 2 * 2 * 8 * 16 * 8
  assert costs.sent == {
    Collective('all-gather', 4, 4): 3 / 4 * 16 * 8 * 4,
    Collective('all-reduce', 4, 4): 2 * 3 / 4 * 16 * 8 * 4,
  }


CONFIG = addition.Config(
  model=TransformerConfig(
    position=POSITIONS.get('abacus')(),
    depth=3,
    width=32,
    heads=2,
    ffn_width=32,
    ffn='geglu',
  ),
  batch_size=8,
  digits=10,
  replicas=1,
)


def step_of(config: addition.Config, mesh: MeshConfig) -> OneStep:
  trainer = make_trainer(
    addition.problem(config),
    TrainConfig(evaluate_every=0),
    mesh=make_mesh(mesh),
  )
  fields = dataclasses.fields(trainer)
  return OneStep(**{f.name: getattr(trainer, f.name) for f in fields})


@functools.cache
def scanned(data: int = 1) -> str:
  """The program of a training step, its layers in a loop."""
  return step_of(CONFIG, MeshConfig(data=data)).lower().compile().as_text()


def flops_of(text: str) -> float:
  return read_costs(text).total_flops


@pytest.mark.slow
def test_scanned_layers_cost_what_unrolled_ones_do(
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  looped = scanned()
  unroll = functools.partial(jax.lax.scan, unroll=True)
  monkeypatch.setattr(jax.lax, 'scan', unroll)
  unrolled = step_of(CONFIG, MeshConfig()).lower().compile().as_text()
  assert unrolled.count(' dot(') > 1.3 * looped.count(' dot(')
  assert flops_of(looped) == pytest.approx(flops_of(unrolled), rel=0.01)


@pytest.mark.slow
def test_devices_share_the_products() -> None:
  assert flops_of(scanned(4)) == pytest.approx(
    flops_of(scanned()) / 4, rel=0.01
  )


def test_the_jaxpr_has_as_many() -> None:
  step = step_of(CONFIG, MeshConfig())
  counted = count_flops(
    lambda state: step.single(state, jnp.int32(0), None), step.abstract
  )
  assert flops_of(scanned()) == pytest.approx(counted, rel=0.01)


def test_the_closed_form() -> None:
  """6 N D, the attention's two products, and a last layer of queries only."""
  model, task = CONFIG.model, CONFIG.task
  width, tokens, queries = model.width, task.token_length(10), 10 + 2
  ffn = 3 * width * model.ffn_width
  layer = tokens * (4 * width**2 + ffn) + 2 * tokens**2 * width
  last = 2 * tokens * width**2 + queries * (2 * width**2 + ffn)
  last += 2 * queries * tokens * width
  logits = queries * width * task.vocab_size
  # The table of tokens has a gradient, and needs none for the tokens.
  embedding = 2 / 3 * tokens * task.vocab_size * width
  each = 6 * ((model.depth - 1) * layer + last + logits + embedding)
  assert flops_of(scanned()) == pytest.approx(
    CONFIG.batch_size * each, rel=0.05
  )
