"""The two sizes of the study of Abacus embeddings: what is trained and tested.

mini: half the training length and 1 : 400,000 of the compute, for two cores.

paper: the recipe of McLeish et al. 2024 (arXiv 2405.17399; its code where the
paper is silent), for a GPU or a pod. Three models an arm; width 1024, 16 heads,
16 effective layers (8 for sorting) with post-norm; AdamW; one learning rate,
not tuned, in a trapezoid over the budget; a batch of 8192 that grows over the
first 60 % of it, by micro-batches of 512, each with a shift of its own. The
published feed-forward is called 2048 wide; gating halves that: 1024 here.

The published budgets are times on an RTX A4000: 24 hours, 8 exaFLOP; eight GPUs
for multiplication, two hours for bitwise OR. Here they are FLOPs of products in
training. What else differs: 118 million parameters where none are shared, not
122, as there is no feed-forward before the logits, nor a norm after the
embedding; a looped model's input is zero at first, not noise; the floor of
norms is 1e-6, not 1e-12; kernels start by LeCun's rule, not DeepNorm's; tables
of positions do not decay; activations are bfloat16, not float16.
"""

import dataclasses

from extrap.arms import MUON_RATES
from extrap.tasks.addition import Addition
from extrap.tasks.bitwise_or import BitwiseOr
from extrap.tasks.multiplication import Multiplication
from extrap.tasks.numbers import NumberTask
from extrap.tasks.sorting import Sorting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """A task, its training and its tests.

  Attributes:
    task: what is learned.
    trained: N, the largest training size.
    grid: side of the grid of sizes.
    extreme: largest of the equal sizes beyond the grid (0: none).
    longest: largest size that tables of positions and hints are made for,
      whatever the grid.
    layers: how many are applied one after the other.
    shift: largest random shift of places; table: rows of tables of places.
    steps: optimizer steps by default.
    budget: FLOPs a seed at most.
    rates: learning rates to choose from; fire_rates: those of arms with FIRE.
    rows: problems a cell and seed by default.
    arms: those trained by default.
  """

  task: NumberTask
  trained: int
  grid: int
  extreme: int = 0
  longest: int = 0
  layers: int
  shift: int
  table: int
  steps: int
  budget: float
  rates: tuple[float, ...]
  fire_rates: tuple[float, ...] = ()
  rows: int
  arms: tuple[str, ...]

  @property
  def largest(self) -> int:
    """The largest size that is tested."""
    return max(self.grid, self.extreme)

  def rates_of(self, encoding: str) -> tuple[float, ...]:
    """Learning rates of an arm."""
    return self.fire_rates * ('fire' in encoding) or self.rates

  def form(self, name: str) -> dict[str, int]:
    """How one of `FORMS` makes its layers, as settings of the model.

    st: layers with weights of their own; ii: the same with the input added
    before each; lt: one layer, looped, with the input; lt2, lt4: a block looped
    so many times, with the input before each loop.
    """
    loops = {'lt': self.layers, 'lt2': 2, 'lt4': 4}.get(name)
    if loops:
      depth = self.layers // loops
      return dict(depth=depth, recurrences=loops, inject_every=depth)
    injected = dict(inject_every=1) if name == 'ii' else {}
    return dict(depth=self.layers) | injected


FORMS = ('st', 'ii', 'lt', 'lt2', 'lt4')
MATRIX = (
  *(f'{p}_{f}' for p in ('nope', 'fire', 'abacus') for f in FORMS[:3]),
  'abacus_fire_lt',
  'abacus_rotary_lt',
)
THREE = ('fire_st', 'abacus_st', 'abacus_fire_st')
LOOPED = ('fire_lt', 'abacus_lt', 'abacus_fire_lt')
BLOCKS = ('fire_lt4', 'abacus_lt4', 'abacus_fire_lt4')


def _mini(
  task: NumberTask, trained: int, grid: int, steps: int, arms: tuple[str, ...]
) -> Setting:
  return Setting(
    task=task,
    trained=trained,
    grid=grid,
    layers=4,
    shift=5 * trained,
    table=16 * trained,
    steps=steps,
    budget=2e13,
    rates=MUON_RATES,
    rows=20,
    arms=arms,
  )


def _paper(
  task: NumberTask,
  trained: int,
  grid: int,
  steps: int,
  budget: float,
  arms: tuple[str, ...],
) -> Setting:
  return Setting(
    task=task,
    trained=trained,
    grid=grid,
    layers=16,
    shift=100,
    table=512,
    steps=steps,
    budget=budget,
    rates=(1e-4,),
    rows=100,
    arms=arms,
  )


SETTINGS = {
  'mini': {
    'addition': dataclasses.replace(
      _mini(Addition(), 10, 50, 7_000, MATRIX), extreme=80
    ),
    'sorting': _mini(Sorting(tags=50), 5, 15, 5_600, THREE),
    'bitwise_or': _mini(BitwiseOr(), 10, 50, 7_400, THREE),
    'multiplication': _mini(Multiplication(), 7, 12, 8_300, LOOPED),
  },
  'paper': {
    'addition': dataclasses.replace(
      _paper(Addition(), 20, 100, 52_900, 8e18, MATRIX), extreme=160
    ),
    'sorting': dataclasses.replace(
      _paper(Sorting(), 10, 30, 49_600, 8e18, THREE), layers=8
    ),
    'bitwise_or': _paper(BitwiseOr(), 20, 100, 4_480, 8e18 / 12, THREE),
    'multiplication': dataclasses.replace(
      _paper(Multiplication(), 15, 25, 428_000, 6.4e19, BLOCKS),
      fire_rates=(6e-5,),
    ),
  },
}

# Defaults of the flags that a size changes.
PRESETS = {
  'mini': {},
  'paper': {
    'replicas': 3,
    'batch_size': 8192,
    'model.width': 1024,
    'model.heads': 16,
    'model.ffn': 'geglu',
    'model.ffn_width': 1024,
    'model.norm': 'layernorm',
    'model.norm_placement': 'post',
    'model.dtype': 'bfloat16',
    'train.optimizer': 'adamw',
    'train.accumulate': 16,
    'train.ramp': 0.6,
    'train.schedule': 'trapezoid',
    'train.warmup_steps': 0,
    'train.warmup_fraction': 0.1,
    'train.cooldown_fraction': 0.1,
    'train.epsilon': 1e-12,
    'train.clip': 0.5,
    'train.enough': 0.0,
    'train.evaluate_every': 1000,
    'train.save_every': 1000,
  },
}
