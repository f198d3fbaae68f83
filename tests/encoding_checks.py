"""An encoding against a formula for a pair of tokens, written one by one.

Operations run one at a time, in float32, on a few tokens: what they compile to
is shared by all encodings. The formula is NumPy's, in float64.

Shape key: B examples, T tokens, H heads, D head width, E model width.
"""

import contextlib
import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from extrap.errors import UsageError
from extrap.models import TransformerConfig, attention
from extrap.models.attention import Attention, Cache, View, empty_cache
from extrap.models.backends import blockwise, choose, hardware
from extrap.models.positions import POSITIONS, Position
from extrap.tasks.task import Structure

EXAMPLES, TOKENS, HEADS, WIDTH, PROMPT, BLOCK = 2, 7, 2, 6, 4, 4
ASKED = [5, 2]  # what the last layer of a model may be asked for alone


@dataclasses.dataclass(frozen=True)
class Case:
  """One example, as a formula sees it.

  Attributes:
    query, key, value: [H, T, D], as projected; nothing is mapped or scaled.
    x: [T, E], what they are projected from.
    params: the encoding's own, by name, and what its layers share.
    length: tokens in the sequence.
    position: of each token, [T]; what the encoding reads.
    ids: all fields of the structure, [T] each.
  """

  query: np.ndarray
  key: np.ndarray
  value: np.ndarray
  x: np.ndarray
  params: Mapping[str, np.ndarray]
  length: int
  position: np.ndarray
  ids: Mapping[str, np.ndarray]

  @property
  def width(self) -> int:
    return self.query.shape[-1]


# What a query of a head reads, [D]: (case, head, query index) -> [D].
Read = Callable[[Case, int, int], np.ndarray]
# The logit of a pair: (case, head, query index, key index) -> number.
Logit = Callable[[Case, int, int, int], float]


def softmax_of(logit: Logit) -> Read:
  """What is read by softmax attention with these logits over the past."""

  def read(case: Case, head: int, n: int) -> np.ndarray:
    row = np.array([logit(case, head, n, m) for m in range(n + 1)])
    weight = np.exp(row - row.max())
    return weight / weight.sum() @ case.value[head, : n + 1]

  return read


def turned(x_D: np.ndarray, angle: np.ndarray) -> np.ndarray:
  """Pair (j, j + D/2) of a vector turned by angle[j]."""
  half = len(x_D) // 2
  complex_ = (x_D[:half] + 1j * x_D[half:]) * np.exp(1j * angle)
  return np.concatenate([complex_.real, complex_.imag])


def product(case: Case, head: int, n: int, m: int) -> float:
  """The logit of no encoding at all."""
  return case.query[head, n] @ case.key[head, m] / np.sqrt(case.width)


def at_distance(
  case: Case,
  head: int,
  n: int,
  m: int,
  distance: float | np.ndarray,
  base: float = 10_000.0,
) -> float:
  """Rotary's logit at a distance, which may be another one for each pair."""
  query, key = case.query[head, n], case.key[head, m]
  angle = distance * rates(case.width, base)
  return turned(query, angle) @ key / np.sqrt(case.width)


def rates(width: int, base: float = 10_000.0) -> np.ndarray:
  """Rotary's base^(-2j/D), j = 0 .. D/2 - 1."""
  return base ** (-2 * np.arange(width // 2) / width)


def with_each(position: Position, **settings: object) -> tuple[Position, ...]:
  """The same encoding with one of these settings changed each."""
  return tuple(
    dataclasses.replace(position, **{name: value})
    for name, value in settings.items()
  )


class Encoded:
  """An encoding in one layer of attention, with random parameters."""

  def __init__(
    self,
    position: Position,
    *,
    heads: int = HEADS,
    width: int = WIDTH,
    tokens: int = TOKENS,
    qk_norm: bool = False,
    seed: int = 0,
    **ids: np.ndarray,
  ) -> None:
    """Draws inputs and parameters; `ids` are fields of the structure, [T]."""
    self.position, self.tokens, self.heads = position, tokens, heads
    self.config = TransformerConfig(
      width=heads * width, heads=heads, ffn_width=4, qk_norm=qk_norm
    )
    self.config = dataclasses.replace(
      self.config, position=position, depth=len(position.layers)
    )
    self._rng = np.random.default_rng(seed)
    self.x_BTE = self.normal(EXAMPLES, tokens, heads * width)
    self.structure = structure(tokens, **ids)
    self.params = self._params()

  def normal(self, *shape: int) -> jax.Array:
    return jnp.asarray(self._rng.normal(size=shape), jnp.float32)

  def _params(self) -> dict:
    """Random ones; the encoding's own near what it starts with."""

    def init(key: jax.Array) -> dict:
      view = self.view(self.structure)
      shared, common = {}, self.position.common
      width = self.config.head_width
      common(view.ids, Recorder(shared, key), width)
      layer = Attention(self.config)
      own = layer.init(
        key, self.x_BTE, self.x_BTE, view, None, self.shared(view, shared)
      )
      return {'own': nn.unbox(own)['params'], 'shared': shared}

    with jax.disable_jit():
      params = init(jax.random.key(0))
    return jax.tree.map(lambda x: x + 0.3 * self.normal(*x.shape), params)

  def shared(self, view: View, shared: Mapping[str, jax.Array]) -> dict:
    """What `common` computes from the parameters that layers share."""
    param = lambda name, init, shape: shared[name]  # noqa: E731
    return self.position.common(view.ids, param, self.config.head_width)

  def view(self, structure: Structure, backend: str = 'dense') -> View:
    """All tokens ask, as prepared for a test (no random shifts)."""
    if 'length' in self.position.reads:
      last = jnp.max(structure.index, axis=1, keepdims=True) + 1
      length = jnp.broadcast_to(last, structure.index.shape)
      structure = structure.replace(length=length)
    ids = self.position.prepare(structure, None, False)
    return View(ids, ids, None, backend, in_order=True)

  def with_position(self, position: Position) -> 'Encoded':
    """The same inputs and parameters with another encoding."""
    other = copy.copy(self)
    other.position = position
    other.config = dataclasses.replace(self.config, position=position)
    return other

  def read(
    self, params: dict, x_BTE: jax.Array, backend: str = 'dense'
  ) -> jax.Array:
    """What all tokens read, [B, T, E], projected."""
    view = self.view(self.structure, backend)
    shared = self.shared(view, params['shared'])
    return Attention(self.config).apply(
      {'params': params['own']}, x_BTE, x_BTE, view, None, shared
    )[0]

  def read_at(self, tokens: Sequence[int], backend: str) -> jax.Array:
    """What some tokens alone read, in any order."""
    index_BQ = jnp.tile(jnp.asarray(tokens)[None], (EXAMPLES, 1))
    view = self.view(self.structure, backend)
    shared = self.shared(view, self.params['shared'])
    x_BQE = self.x_BTE[:, jnp.asarray(tokens)]
    with small_blocks():
      return Attention(self.config).apply(
        {'params': self.params['own']},
        *(x_BQE, self.x_BTE, view.at(index_BQ), None, shared),
      )[0]

  def decoded(self) -> jax.Array:
    """The same, a prompt first and then one token at a time."""
    cache = empty_cache(self.config, (), (EXAMPLES, self.tokens))
    # Slots of tokens that have not been read may hold anything.
    cache = jax.tree.map(jnp.ones_like, cache)
    parts = []
    for first, last in [(0, PROMPT), *zip_steps(PROMPT, self.tokens)]:
      part, cache = self._step(cache, first, last)
      parts.append(part)
    return jnp.concatenate(parts, axis=1)

  def _step(
    self, cache: Cache, first: int, last: int
  ) -> tuple[jax.Array, Cache]:
    # Nothing beyond the tokens read so far is known.
    index_BQ = jnp.tile(jnp.arange(first, last)[None], (EXAMPLES, 1))
    known = self.structure
    if 'length' in self.position.reads:
      known = known.replace(length=jnp.full(known.index.shape, last))
    ids = self.position.prepare(known, None, False)
    view = View(ids, ids.take(index_BQ))
    x_BQE = self.x_BTE[:, first:last]
    shared = self.shared(view, self.params['shared'])
    return Attention(self.config).apply(
      {'params': self.params['own']}, x_BQE, x_BQE, view, cache, shared
    )

  def case(self, example: int) -> Case:
    """One example in float64, for a formula."""
    own = jax.tree.map(lambda x: np.asarray(x, np.float64), self.params)
    layer = own['own']
    x_TE = np.asarray(self.x_BTE[example], np.float64)
    project = lambda name: np.einsum('TE,EHD->HTD', x_TE, layer[name])  # noqa: E731
    query, key, value = (project(name) for name in ('query', 'key', 'value'))
    if self.config.qk_norm:
      query = normalised(query) * layer['query_norm']['scale']
      key = normalised(key) * layer['key_norm']['scale']
    prefix = 'position_'
    params = {
      name.removeprefix(prefix): value
      for name, value in layer.items()
      if name.startswith(prefix)
    }
    fields = dataclasses.asdict(self.structure)
    ids = {
      name: np.asarray(field[0])
      for name, field in fields.items()
      if isinstance(field, jax.Array)
    }
    return Case(
      *(query, key, value, x_TE, params | own['shared'], self.tokens),
      position=ids['position'],
      ids=ids,
    )

  def by_formula(self, read: Read, decoding: bool = False) -> np.ndarray:
    """What all tokens read by the formula, [B, T, E], projected.

    Decoding, the sequence ends with the token, or with the prompt.
    """
    out_HDE = np.asarray(self.params['own']['out'], np.float64)
    rows = []
    for example in range(EXAMPLES):
      case, read_THD = self.case(example), []
      for n in range(self.tokens):
        length = max(n + 1, PROMPT) if decoding else self.tokens
        known = dataclasses.replace(case, length=length)
        read_THD.append([read(known, head, n) for head in range(self.heads)])
      rows.append(np.einsum('THD,HDE->TE', np.array(read_THD), out_HDE))
    return np.array(rows)


def of_digits() -> list[str]:
  """Encodings that read more of a token than where it stands."""
  neutral = {'position', 'length', 'level'}
  names = POSITIONS.names()
  return [n for n in names if not neutral.issuperset(POSITIONS.get(n)().reads)]


class Recorder:
  """A `param` that draws what is asked for, and keeps it."""

  def __init__(self, made: dict, key: jax.Array) -> None:
    self.made, self._key = made, key

  def __call__(self, name: str, init: Callable, shape: tuple) -> jax.Array:
    self.made.setdefault(name, init(self._key, shape))
    return self.made[name]


def zip_steps(first: int, last: int) -> list[tuple[int, int]]:
  """Spans of one token from first to last."""
  return [(t, t + 1) for t in range(first, last)]


def normalised(x: np.ndarray) -> np.ndarray:
  """Unit mean square, as RMSNorm without its scale."""
  return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)


def structure(tokens: int, **ids: np.ndarray) -> Structure:
  """Tokens in a row, of every example; zero where nothing is given."""
  index_BT = jnp.tile(jnp.arange(tokens)[None], (EXAMPLES, 1))
  zero_BT = jnp.zeros_like(index_BT)
  line = Structure(index_BT, index_BT, zero_BT, zero_BT, zero_BT, zero_BT)
  given = {
    k: jnp.tile(jnp.asarray(v)[None], (EXAMPLES, 1)) for k, v in ids.items()
  }
  return line.replace(**given)


def assert_encodes(
  position: Position,
  read: Read,
  others: tuple[Position, ...] = (),
  *,
  blocks: bool = True,
  decodes: bool = True,
  atol: float = 2e-5,
  **settings: object,
) -> Encoded:
  """An encoding equals its formula in every way of computing it.

  Dense attention against the formula; blocks against dense attention, with the
  gradients of every parameter, of which none is zero; some tokens alone, and
  decoding with a cache, against both; and encodings with another constant do
  not equal the formula.

  Args:
    position: the encoding.
    read: the formula, as `softmax_of(logit)`.
    others: the same encoding with one setting changed each.
    blocks: whether it serves in blocks; it is refused there otherwise.
    decodes: whether what a token reads can be computed token by token.
    atol: largest difference.
    **settings: of `Encoded`.
  """
  with jax.disable_jit():
    encoded = Encoded(position, **settings)
    params, x_BTE = encoded.params, encoded.x_BTE
    dense, gradient = with_gradient(encoded, 'dense')
    expected = encoded.by_formula(read)
    np.testing.assert_allclose(dense, expected, atol=atol)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
      assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
      assert abs(leaf).max() > 1e-7, jax.tree_util.keystr(path)
    asked = encoded.read_at(ASKED, 'blockwise' if blocks else 'dense')
    np.testing.assert_allclose(asked, expected[:, ASKED], atol=atol)
    if decodes:
      grown = expected
      if 'length' in position.reads:
        grown = encoded.by_formula(read, decoding=True)
      np.testing.assert_allclose(encoded.decoded(), grown, atol=atol)
    if blocks:
      in_blocks, other = with_gradient(encoded, 'blockwise')
      np.testing.assert_allclose(in_blocks, expected, atol=atol)
      jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=2e-4, rtol=1e-3),
        other,
        gradient,
      )
    else:
      assert_refused_in_blocks(encoded)
    for changed in others:
      differs = encoded.with_position(changed).read(params, x_BTE)
      gap = abs(np.asarray(differs) - expected).max()
      assert gap > 10 * atol, (changed, gap)
  return encoded


def with_gradient(encoded: Encoded, backend: str) -> tuple[jax.Array, dict]:
  """What is read, and the gradient of parameters and inputs."""

  def loss(params: dict, x_BTE: jax.Array) -> tuple[jax.Array, jax.Array]:
    out = encoded.read(params, x_BTE, backend)
    return jnp.sum(jnp.sin(jnp.arange(out.size)).reshape(out.shape) * out), out

  with small_blocks():
    gradients, out = jax.grad(loss, (0, 1), has_aux=True)(
      encoded.params, encoded.x_BTE
    )
  return out, gradients


@contextlib.contextmanager
def small_blocks() -> Iterator[None]:
  """A few tokens make several blocks."""
  small = functools.partial(blockwise, block=BLOCK)
  whole, attention.blockwise = attention.blockwise, small
  try:
    yield
  finally:
    attention.blockwise = whole


def assert_refused_in_blocks(encoded: Encoded) -> None:
  """A rule that needs all pairs at once says so."""
  config = dataclasses.replace(encoded.config, attention='blockwise')
  try:
    choose(config, hardware(), encoded.tokens, windowed=False)
  except UsageError as error:
    assert 'rule of its own' in str(error)
  else:
    raise AssertionError('served in blocks')
