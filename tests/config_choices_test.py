"""Choices within choices, and choices that flags change, as flags and JSON."""

import dataclasses

import pytest
from absl import flags

from extrap import config_flags, config_json
from extrap.config import Registry, changed, choice, option
from extrap.config_flags import from_arguments
from extrap.errors import UsageError

SHAPES = Registry('shape')


@dataclasses.dataclass(frozen=True)
class Shape:
  """What the entries are."""


@SHAPES.register('disc')
@dataclasses.dataclass(frozen=True)
class Disc(Shape):
  scale: float = option(2.0, 'Size', minimum=1)
  base: float = option(0.5, 'Height')


@SHAPES.register('square')
@dataclasses.dataclass(frozen=True)
class Square(Shape):
  side: int = option(3, 'Side')


@SHAPES.register('frame')
@dataclasses.dataclass(frozen=True)
class Frame(Shape):
  """Around another shape; its `base` is no number, as that of a disc."""

  thick: int = option(1, 'Thickness')
  base: Shape = choice(SHAPES, 'disc', 'What it is around', scale=4.0)


@SHAPES.register('needy')
@dataclasses.dataclass(frozen=True)
class Needy(Shape):
  name: str


@dataclasses.dataclass(frozen=True)
class Model:
  shape: Shape = choice(SHAPES, 'square', 'Shape')


@dataclasses.dataclass(frozen=True)
class Study:
  """The flag of what is changed stands beside a leaf of the same name."""

  eval: str = option('quick', 'How much')
  eval_shape: Shape | None = changed(
    SHAPES, 'model.shape', 'eval.shape', 'At a look'
  )
  model: Model = option(Model(), 'Model')


def read(*arguments):
  """Arguments are written without the '--model.shape' that they begin with."""
  arguments = [f'--model.shape{argument}' for argument in arguments]
  return from_arguments(Study, *arguments).model.shape


INNER = Frame(base=Square())
NESTED = [
  (['=frame'], Frame(base=Disc(scale=4.0))),
  (['=frame', '.thick=5', '.base=square'], Frame(5, Square())),
  (['.base.side=2', '.base=square', '=frame'], Frame(base=Square(2))),
  # The default inside keeps what the field changed of it.
  (['=frame', '.base.base=0.1'], Frame(base=Disc(4.0, 0.1))),
  (['=frame', '.base=disc', '.base.base=3'], Frame(base=Disc(4.0, 3.0))),
  (['=disc', '.base=0.1'], Disc(base=0.1)),
  (['=frame', '.base=frame', '.base.base=square'], Frame(base=INNER)),
  (
    ['=frame', '.base=frame', '.base.base=square', '.base.base.side=9'],
    Frame(base=Frame(base=Square(9))),
  ),
  # Selecting another one forgets the fields of the first.
  (['=frame', '.base=square', '.base.side=2', '.base=disc'], Frame()),
  (['=disc', '.base=2', '=frame'], Frame()),
  (['=frame', '.base=square', '=square', '=frame'], Frame()),
]


@pytest.mark.parametrize(('arguments', 'expected'), NESTED)
def test_a_choice_within_a_choice_has_flags(arguments, expected):
  assert read(*arguments) == expected


def test_a_default_of_a_choice_may_hold_another_choice():
  @dataclasses.dataclass(frozen=True)
  class Outer:
    shape: Shape = choice(SHAPES, 'frame', 'Shape', thick=7, base=Square(8))

  given = from_arguments(Outer, '--shape.base.side=2')
  assert given.shape == Frame(7, Square(2))
  assert from_arguments(Outer).shape == Frame(7, Square(8))


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (
      ['=frame', '.base=square', '.base.scale=2'],
      r"--model\.shape\.base\.scale: shape 'square' has no 'scale'; has: side",
    ),
    (
      ['=disc', '.base.scale=2'],
      r"--model\.shape\.base\.scale: shape 'disc' has no 'base\.scale'",
    ),
    (
      ['=frame', '.base=dics'],
      r"--model\.shape\.base: unknown shape 'dics'; did you mean 'disc'",
    ),
    (['=frame', '.base.scale=x'], r'--model\.shape\.base\.scale=x: '),
    (['=frame', '.base.scale=0'], r'--model\.shape\.base\.scale=0\.0: must be'),
    (['=frame', '.base=needy'], r'--model\.shape\.base\.name: needs a value'),
    (['.base.base.base.scale=2'], 'Unknown command line flag'),
  ],
)
def test_what_a_choice_within_a_choice_lacks_is_refused(arguments, message):
  with pytest.raises(UsageError, match=message):
    read(*arguments)


def test_flags_end_and_deeper_choices_keep_their_defaults():
  flag_values = flags.FlagValues()
  config_flags.define_flags(Model, flag_values)
  deepest = 'shape.base.base.base'
  assert f'{deepest[:-5]}.thick' in flag_values
  # That of a disc is a number and has one; that of a frame has none.
  assert deepest in flag_values
  assert f'{deepest}.thick' not in flag_values
  arguments = ('--shape=frame', '--shape.base=frame', '--shape.base.base=frame')
  config = from_arguments(Model, *arguments, '--shape.base.base.thick=2')
  assert config.shape == Frame(base=Frame(base=Frame(2)))


def test_help_tells_of_each_field_once():
  flag_values = flags.FlagValues()
  config_flags.define_flags(Study, flag_values)
  told = flag_values['model.shape.base'].help
  assert 'Height (disc: 0.5)' in told
  assert 'What it is around (frame: disc)' in told
  for name, like in (
    ('model.shape.base', 'model.shape'),
    ('model.shape.base.base', 'model.shape.base'),
    ('eval.shape', 'model.shape'),
  ):
    assert flag_values[f'{name}.side'].help == f'As --{like}.side.'


def test_choices_within_a_choice_are_of_one_registry():
  others, outer = Registry('other'), Registry('outer')
  others.register('square')(dataclasses.make_dataclass('A', [], frozen=True))
  for registry, name in ((SHAPES, 'a'), (others, 'b')):
    field = ('base', object, choice(registry, 'square', ''))
    outer.register(name)(dataclasses.make_dataclass(name, [field], frozen=True))
  study = dataclasses.make_dataclass(
    'Study', [('shape', object, choice(outer, 'a', ''))], frozen=True
  )
  with pytest.raises(TypeError, match=r'--shape\.base: .* several registries'):
    from_arguments(study)


WHOLE = ('--model.shape=frame', '--model.shape.base=frame')
WHOLE += ('--model.shape.base.base=square', '--model.shape.base.base.side=9')


def test_flagfile_and_json_hold_choices_within_a_choice(tmp_path):
  arguments = (*WHOLE, '--eval.shape.base.thick=3')
  flag_values = flags.FlagValues()
  config_flags.define_flags(Study, flag_values)
  flag_values(['', *arguments])
  config = config_flags.from_flags(Study, flag_values)
  assert config.model.shape == Frame(base=Frame(base=Square(9)))
  text = config_flags.flags_text(Study, flag_values)
  path = tmp_path / 'flags.txt'
  path.write_text(text, encoding='utf-8')
  assert from_arguments(Study, f'--flagfile={path}') == config
  data = config_json.to_json(config)
  inner = {'choice': 'square', 'side': 9}
  assert data['model']['shape']['base']['base'] == inner
  assert config_json.from_json(Study, data) == config


def test_a_changed_choice_is_the_original_one_with_other_fields():
  original = ['--model.shape=frame', '--model.shape.thick=5']
  for given, expected in (
    ([], None),
    (['--eval=full'], None),
    (['--eval.shape.thick=6'], Frame(6)),
    (['--eval.shape.base.scale=8'], Frame(5, Disc(8.0))),
    (['--eval.shape=square'], Square()),
    (['--eval.shape=frame'], Frame(5)),
  ):
    config = from_arguments(Study, *original, *given)
    assert (config.eval_shape, config.model.shape) == (expected, Frame(5))
    assert config.eval == ('full' if given == ['--eval=full'] else 'quick')
    data = config_json.to_json(config)
    assert config_json.from_json(Study, data) == config


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('--eval.shape.scale=8', r"eval\.shape\.scale: shape 'square' has no"),
    ('--eval.shape=squaer', "unknown shape 'squaer'; did you mean 'square'"),
    ('--eval.shape.side=x', r'--eval\.shape\.side=x'),
  ],
)
def test_a_change_that_the_original_lacks_is_refused(argument, message):
  with pytest.raises(UsageError, match=message):
    from_arguments(Study, argument)


def test_bounds_hold_for_a_changed_choice():
  arguments = ('--model.shape=disc', '--eval.shape.scale=0.5')
  with pytest.raises(UsageError, match=r'--eval\.shape\.scale=0\.5: must be'):
    from_arguments(Study, *arguments)


def test_how_a_run_is_looked_at_does_not_make_it_another_run():
  plain, looked = (
    from_arguments(Study, *given) for given in ([], ['--eval.shape.side=7'])
  )
  assert looked.eval_shape == Square(7)
  assert config_json.fingerprint(plain) == config_json.fingerprint(looked)
  assert config_json.differences(plain, looked) == []
