"""What a transformer is made of."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from extrap.config import changed, choice, option
from extrap.errors import UsageError
from extrap.models.positions import POSITIONS, Position

# For what depends on few tokens, in a way that one network hardly learns.
TWO_NETWORKS: Mapping[str, int | str] = dict(heads=8, ffn='geglu', ffn_depth=2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
  """A decoder; the standard, injected and looped forms are all settings.

  `depth` layers are applied `recurrences` times with shared parameters; the
  embedded input is added again before every `inject_every`-th layer. A model
  of l layers looped r times with injection (Abacus' LT) is depth=l,
  recurrences=r, inject_every=l; 'ST with input injection' is inject_every=1.
  """

  position: Position = choice(POSITIONS, 'none', 'position encoding')
  depth: int = option(1, 'layers with parameters of their own', minimum=1)
  recurrences: int = option(
    1, 'times that the stack of layers is applied', minimum=1
  )
  loops: Literal['fixed', 'length', 'doubling'] = option(
    'fixed',
    'how often a token is updated. fixed: `recurrences` times; length: as '
    'often as there are tokens before it; doubling: about log2 of that, the '
    'neighbours of a window twice as far apart in each loop',
  )
  carry: Literal['plain', 'norm', 'sign'] = option(
    'norm',
    'what loops that are not fixed hand on: the state as it is, with unit mean '
    'square, or the signs of its entries',
  )
  carry_noise: float = option(
    0.0,
    'largest noise that training adds to each entry of such a state before it '
    'is handed on, or its signs are taken',
    minimum=0.0,
  )
  inject_every: int = option(
    0, 'add the embedded input before every k-th layer (0: never)', minimum=0
  )
  width: int = option(64, 'width of the residual stream', minimum=1)
  heads: int = option(4, 'attention heads', minimum=1)
  ffn_width: int = option(256, 'hidden units of the feed-forward', minimum=1)
  ffn: Literal['gelu', 'geglu', 'swiglu'] = option(
    'gelu', 'feed-forward network: plain, or gated by GELU or SiLU'
  )
  ffn_depth: int = option(
    1,
    'feed-forward networks in a layer, one after the other; more of them can '
    'compute what depends on few tokens without looking at any others',
    minimum=1,
  )
  norm: Literal['rmsnorm', 'layernorm'] = option('rmsnorm', 'normalisation')
  norm_placement: Literal['pre', 'post', 'both'] = option(
    'pre', 'normalise what a sublayer reads, the sum after it, or both'
  )
  qk_norm: bool = option(False, 'normalise queries and keys of each head')
  logit_scale: Literal['constant', 'learned', 'log_length'] = option(
    'constant',
    'factor of attention logits: constant, learned a head, or learned times '
    'the logarithm of the number of tokens so far',
  )
  logit_gain: float = option(1.0, 'that factor, or where it starts')
  share_position: bool = option(
    False, 'share pairwise position parameters between layers'
  )
  attention: Literal[
    'auto', 'dense', 'blockwise', 'gathered', 'fused', 'splash'
  ] = option(
    'auto',
    'how attention is computed. dense: all pairs at once; blockwise: some '
    'pairs at a time, any bias, memory linear in length; gathered: the keys '
    'of a hard window; fused: cuDNN on NVIDIA GPUs, and splash: Pallas on '
    'TPUs, both bfloat16 and without pairwise bias. auto: by encoding, length '
    'and hardware',
  )
  remat: bool = option(False, 'recompute activations in the backward pass')
  dtype: Literal['float32', 'bfloat16', 'float64'] = option(
    'float32', 'type of activations; parameters stay float32'
  )

  def __post_init__(self) -> None:
    if self.width % self.heads:
      raise UsageError(
        f'--model.heads={self.heads} does not divide --model.width={self.width}'
      )
    if self.loops != 'fixed' and self.recurrences > 1:
      raise UsageError(
        f'--model.loops={self.loops} does not go with --model.recurrences='
        f'{self.recurrences}: the number of loops follows from the length'
      )
    period = len(self.position.layers)
    if self.depth % period:
      raise UsageError(
        f'--model.depth={self.depth} is no multiple of the {period} layers '
        f'after which --model.position={self.position.name} repeats'
      )
    if self.loops != 'fixed' and period > 1:
      raise UsageError(
        f'--model.position={self.position.name} does not go with --model.loops='
        f'{self.loops}: its layers differ'
      )
    if self.loops == 'doubling' and 'stride' not in self.position.reads:
      raise UsageError(
        '--model.loops=doubling needs an encoding whose window can be '
        'stretched: --model.position=previous'
      )

  @property
  def head_width(self) -> int:
    return self.width // self.heads


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluatedModel:
  """Flags of studies that may evaluate with other positions than they trained.

  For a study's configuration beside `StudyConfig`: with
  `--model.position=yarn --model.position.scale=8 --eval.position.scale=16` it
  is `evaluated` with a scale of 16, and `--eval.position=none` drops what it
  was trained with. Parameters must fit: settings that change their shapes, and
  encodings that have others, are of no use here.
  """

  model: TransformerConfig = option(TransformerConfig(), 'the model')
  eval_position: Position | None = changed(
    POSITIONS,
    'model.position',
    'eval.position',
    'position encoding at evaluation (default: that of the model)',
  )

  @property
  def evaluated(self) -> TransformerConfig:
    """The model as it is evaluated."""
    position = self.eval_position or self.model.position
    return dataclasses.replace(self.model, position=position)
