"""Tests of configurations as flags and as JSON."""

import dataclasses
import functools
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Literal

import pytest
from absl import flags

from extrap import config_flags, config_json
from extrap.config import Registry, choice, option, preset
from extrap.config_flags import from_arguments
from extrap.errors import ExtrapError, UsageError

POSITIONS = Registry('position')


@POSITIONS.register('alibi')
@dataclasses.dataclass(frozen=True)
class Alibi:
  slopes: tuple[float, ...] = (0.5, 0.25)
  window: str = 'wide'


@POSITIONS.register('yarn')
@dataclasses.dataclass(frozen=True)
class Yarn:
  scale: float = option(16.0, 'Stretch', unit='ratio', minimum=1)
  window: int = 3
  kind: Literal['ntk', 'linear'] = 'ntk'
  learned: bool = False
  limit: int | None = None
  activation: Callable[[float], float] = abs
  hidden: int = dataclasses.field(default=1, metadata={'flag': False})


@POSITIONS.register('linear')
@dataclasses.dataclass(frozen=True)
class Linear:
  scale: float = option(4.0, 'Stretch', unit='ratio', minimum=1)


@dataclasses.dataclass(frozen=True)
class Model:
  depth: int = option(6, 'Blocks', minimum=1, maximum=99)
  activation: Literal['gelu', 'sin'] = option('gelu', 'Non-linearity')
  position: object = choice(POSITIONS, 'yarn', 'Position encoding')


@dataclasses.dataclass(frozen=True)
class Logging:
  every: int = option(10, 'Between lines', unit='steps')


@dataclasses.dataclass(frozen=True)
class Study:
  workdir: str = option('', 'Run folder', identity=False)
  steps: int = option(100, 'Training', unit='steps', identity=False)
  rate: float = option(1, 'Learning rate', minimum=0.0)
  resume: bool = option(True, 'Go on')
  init_from: str | None = option(None, 'Other run')
  order: Literal[1, 2] = option(2, 'Order')
  sizes: tuple[int, ...] = option((1, 2), 'Lengths', minimum=1)
  span: tuple[int, float] = option((0, 0.5), 'Span')
  suites: tuple[str, ...] = option((), 'Suites')
  logging: Logging = option(Logging(), 'Logging', identity=False)
  model: Model = dataclasses.field(default_factory=lambda: Model(depth=4))


def parse(*args, config_type=Study, prefix=''):
  """Returns the configuration and the parsed flags of a command line."""
  flag_values = flags.FlagValues()
  config_flags.define_flags(config_type, flag_values, prefix)
  assert flag_values(['program', *args]) == ['program']
  return config_flags.from_flags(config_type, flag_values, prefix), flag_values


def model_with(**fields):
  return Study(model=Model(depth=4, **fields))


# Presets.


@dataclasses.dataclass(frozen=True)
class Sized:
  """Two sizes, of which one changes a leaf and a field of a tree."""

  size: Literal['small', 'large'] = preset(
    'small', {'small': {}, 'large': {'steps': 9, 'model.depth': 7}}, 'Size'
  )
  steps: int = option(1, 'Training')
  model: Model = dataclasses.field(default_factory=lambda: Model(depth=4))


def test_a_preset_gives_defaults_and_what_is_given_counts():
  read = functools.partial(from_arguments, Sized)
  assert read() == Sized()
  assert read('--size=large') == Sized('large', 9, Model(depth=7))
  given = read('--size=large', '--steps=1', '--model.depth=4')
  assert given == Sized('large', 1, Model(depth=4))


def test_a_flagfile_of_a_preset_gives_the_same_again(tmp_path):
  config, flag_values = parse('--size=large', config_type=Sized)
  path = tmp_path / 'flags.txt'
  path.write_text(config_flags.flags_text(Sized, flag_values))
  assert '--steps=9' in path.read_text()
  assert from_arguments(Sized, f'--flagfile={path}') == config


def test_an_unknown_preset_is_refused():
  with pytest.raises(UsageError, match='size'):
    from_arguments(Sized, '--size=huge')


# Registry.


def test_registry_lists_gets_and_names():
  assert POSITIONS.names() == ('alibi', 'linear', 'yarn')
  assert POSITIONS.get('yarn') is Yarn
  assert POSITIONS.name_of(Yarn) == POSITIONS.name_of(Yarn()) == 'yarn'


def test_registry_suggests_the_closest_name():
  with pytest.raises(UsageError, match="position 'yarm'; did you mean 'yarn'"):
    POSITIONS.get('yarm')


def test_registry_has_no_suggestion_for_a_distant_name():
  with pytest.raises(UsageError, match=r"'qqq'; known: alibi, linear, yarn$"):
    POSITIONS.get('qqq')


def test_registry_refuses_to_name_a_stranger():
  with pytest.raises(ExtrapError, match='Model is not a registered position'):
    POSITIONS.name_of(Model())


def test_registry_refuses_a_name_or_a_class_twice():
  registry = Registry('kind')
  registry.register('a')(Alibi)
  with pytest.raises(ValueError, match="kind 'a' is registered twice"):
    registry.register('a')(Yarn)
  with pytest.raises(ValueError, match="Alibi is already 'a'"):
    registry.register('b')(Alibi)
  assert registry.names() == ('a',)


@pytest.mark.parametrize('decorate', [lambda c: c, dataclasses.dataclass])
def test_registry_refuses_what_is_not_frozen(decorate):
  with pytest.raises(TypeError, match='not a frozen dataclass'):
    Registry('kind').register('a')(decorate(type('Entry', (), {})))


def test_registry_reserves_the_field_name_choice():
  entry = dataclasses.make_dataclass('Entry', ['choice'], frozen=True)
  with pytest.raises(ValueError, match="cannot be called 'choice'"):
    Registry('kind').register('a')(entry)


# Flags.


def test_no_flags_give_the_defaults():
  assert parse()[0] == Study()


@pytest.mark.parametrize(
  ('arg', 'expected'),
  [
    ('--steps=7', Study(steps=7)),
    ('--rate=1e-3', Study(rate=1e-3)),
    ('--noresume', Study(resume=False)),
    ('--resume=false', Study(resume=False)),
    ('--init_from=runs/a', Study(init_from='runs/a')),
    ('--order=1', Study(order=1)),
    ('--sizes=3,4,5', Study(sizes=(3, 4, 5))),
    ('--sizes=', Study(sizes=())),
    ('--span=3,4', Study(span=(3, 4.0))),
    ('--suites=a,b', Study(suites=('a', 'b'))),
    ('--logging.every=2', Study(logging=Logging(every=2))),
    ('--model.depth=5', Study(model=Model(depth=5))),
    ('--model.activation=sin', model_with(activation='sin')),
    ('--model.position=alibi', model_with(position=Alibi())),
    ('--model.position.scale=8', model_with(position=Yarn(scale=8.0))),
    ('--model.position.kind=linear', model_with(position=Yarn(kind='linear'))),
    ('--model.position.learned', model_with(position=Yarn(learned=True))),
    ('--model.position.limit=9', model_with(position=Yarn(limit=9))),
  ],
)
def test_one_flag_changes_one_field(arg, expected):
  config, _ = parse(arg)
  assert config == expected
  assert config != Study()


def test_values_have_the_annotated_types():
  config, _ = parse('--span=3,4', '--order=1')
  assert [type(x) for x in config.span] == [int, float]
  assert type(config.rate) is float
  assert type(config.order) is int


@pytest.mark.parametrize('entry', ['yarn', 'alibi'])
def test_entries_read_a_shared_name_with_their_own_type(entry):
  args = (f'--model.position={entry}', '--model.position.window=7')
  window = parse(*args)[0].model.position.window
  assert window == {'yarn': 7, 'alibi': '7'}[entry]


def test_a_shared_name_is_checked_by_the_selected_entry():
  with pytest.raises(UsageError, match=r'--model\.position\.window=x: '):
    parse('--model.position.window=x')


def test_a_field_of_another_entry_is_refused():
  with pytest.raises(UsageError) as caught:
    parse('--model.position=alibi', '--model.position.scale=8')
  assert str(caught.value) == (
    "--model.position.scale: position 'alibi' has no 'scale'; "
    'has: slopes, window'
  )


def test_fields_may_come_before_their_selection():
  args = '--model.position.scale=8', '--model.position=linear'
  assert parse(*args)[0].model.position == Linear(scale=8.0)


def test_selecting_again_forgets_the_fields_of_the_first_entry():
  args = '--model.position=yarn', '--model.position.scale=8'
  assert parse(*args, args[0])[0].model.position == Yarn(scale=8.0)
  other = parse(*args, '--model.position=linear')[0]
  assert other.model.position == Linear()


def test_an_unknown_entry_is_refused_with_a_suggestion():
  message = "--model.position: unknown position 'yarm'; did you mean 'yarn'"
  with pytest.raises(flags.IllegalFlagValueError, match=message):
    parse('--model.position=yarm')


def test_an_entry_registered_later_becomes_a_flag_value():
  registry = Registry('kind')
  registry.register('old')(Alibi)
  study = dataclasses.make_dataclass(
    'Study', [('kind', object, choice(registry, 'old', 'Kind'))], frozen=True
  )
  with pytest.raises(flags.IllegalFlagValueError):
    parse('--kind=new', config_type=study)
  registry.register('new')(Linear)
  config, _ = parse('--kind=new', '--kind.scale=2', config_type=study)
  assert config.kind == Linear(scale=2.0)


def test_defaults_of_a_choice_come_from_the_enclosing_default():
  @dataclasses.dataclass(frozen=True)
  class Outer:
    model: Model = Model(position=Linear(scale=9.0))

  args = ('--model.depth=2',)
  assert parse(*args, config_type=Outer)[0].model.position == Linear(9.0)
  args = ('--model.position=yarn',)
  assert parse(*args, config_type=Outer)[0].model.position == Yarn()
  _, flag_values = parse(config_type=Outer)
  assert 'linear: 9.0' in flag_values['model.position.scale'].help


@pytest.mark.parametrize(
  'name', ['model.position.activation', 'model.position.hidden', 'model']
)
def test_what_is_not_a_leaf_has_no_flag(name):
  assert name not in parse()[1]


def test_an_option_of_a_type_without_flag_is_a_bug():
  study = dataclasses.make_dataclass(
    'Study', [('f', Callable, option(abs, 'Function'))], frozen=True
  )
  with pytest.raises(TypeError, match=r'Study\.f: no flag for its type'):
    parse(config_type=study)


@dataclasses.dataclass(frozen=True)
class Required:
  name: str
  size: int


REQUIRING = Registry('thing')
REQUIRING.register('plain')(Linear)
REQUIRING.register('required')(Required)


@dataclasses.dataclass(frozen=True)
class Requiring:
  name: str
  thing: object = choice(REQUIRING, 'plain', 'Thing')


def test_a_field_without_default_is_required():
  with pytest.raises(UsageError, match='--name: needs a value'):
    parse(config_type=Requiring)
  assert parse('--name=a', config_type=Requiring)[0].name == 'a'


def test_a_field_without_default_is_required_of_the_selected_entry():
  args = '--name=a', '--thing=required', '--thing.size=3'
  with pytest.raises(UsageError, match=r'--thing\.name: needs a value'):
    parse(*args, config_type=Requiring)
  config, flag_values = parse(*args, '--thing.name=b', config_type=Requiring)
  assert config.thing == Required('b', 3)
  assert 'required: required' in flag_values['thing.size'].help


def test_string_annotations_are_resolved():
  @dataclasses.dataclass(frozen=True)
  class Strings:
    sizes: 'tuple[int, ...]' = (1,)
    limit: 'int | None' = None

  args = '--sizes=2,3', '--limit=4'
  assert parse(*args, config_type=Strings)[0] == Strings((2, 3), 4)


def test_a_prefix_goes_before_every_name():
  args = '--teacher.depth=2', '--teacher.position=alibi'
  config, flag_values = parse(*args, config_type=Model, prefix='teacher')
  assert config == Model(depth=2, position=Alibi())
  text = config_flags.flags_text(Model, flag_values, prefix='teacher')
  assert '--teacher.depth=2\n' in text
  with pytest.raises(UsageError, match=r'--teacher\.depth=0'):
    parse('--teacher.depth=0', config_type=Model, prefix='teacher')


@pytest.mark.parametrize(
  ('arg', 'message'),
  [
    ('--model.depth=0', '--model.depth=0: must be >= 1 and <= 99'),
    ('--model.depth=100', '--model.depth=100: must be >= 1 and <= 99'),
    ('--rate=-1', '--rate=-1.0: must be >= 0.0'),
    ('--rate=nan', '--rate=nan: must be >= 0.0'),
    ('--sizes=3,0', '--sizes=3,0: must be >= 1'),
    ('--model.position.scale=0', '--model.position.scale=0.0: must be >= 1'),
  ],
)
def test_bounds_are_checked(arg, message):
  with pytest.raises(UsageError) as caught:
    parse(arg)
  assert str(caught.value) == message


def test_bounds_include_their_ends():
  assert parse('--model.depth=1')[0].model.depth == 1
  assert parse('--model.depth=99')[0].model.depth == 99


@pytest.mark.parametrize(
  'arg',
  [
    '--steps=x',
    '--steps=1.5',
    '--rate=x',
    '--resume=maybe',
    '--order=3',
    '--sizes=1,x',
    '--span=1',
    '--model.activation=relu',
  ],
)
def test_a_value_of_the_wrong_type_names_the_flag(arg):
  name = arg.split('=')[0]
  with pytest.raises(flags.IllegalFlagValueError, match=f'flag {name}='):
    parse(arg)


@pytest.mark.parametrize(
  ('name', 'parts'),
  [
    ('steps', ['Training [steps]', "(default: '100')"]),
    ('model.depth', ['Blocks [>= 1 and <= 99]', "(default: '4')"]),
    ('sizes', ["(default: '1,2')"]),
    ('order', ['one of 1|2']),
    ('model.position', ['<alibi|linear|yarn>', "(default: 'yarn')"]),
    (
      'model.position.scale',
      ['Stretch [ratio; >= 1] (linear: 4.0, yarn: 16.0)'],
    ),
    ('model.position.window', ['(alibi: wide, yarn: 3)']),
  ],
)
def test_help_has_default_unit_and_bounds(name, parts):
  text = ' '.join(parse()[1].get_help().split())
  start = text.index(f'--{name}:')
  for part in parts:
    assert part in text[start : start + 200]


def test_help_stands_under_the_name_of_the_module_that_users_know():
  assert parse()[1].get_help().startswith('\nextrap.config:\n')


def test_a_tuple_of_fixed_length_says_how_many_values_it_needs():
  message = 'flag --span=1: 1 values where 2 are needed'
  with pytest.raises(flags.IllegalFlagValueError, match=message):
    parse('--span=1')


def test_literals_that_python_finds_equal_stay_apart():
  @dataclasses.dataclass(frozen=True)
  class Equal:
    number: Literal[1, 2] = 1
    truth: Literal[True, 2] = True

  config, _ = parse('--number=1', '--truth=True', config_type=Equal)
  assert config.number is not True
  assert config.truth is True


# Flag files.

EVERYTHING = (
  '--steps=7',
  '--rate=1.1e-7',
  '--noresume',
  '--init_from=a b#c=d',
  '--order=1',
  '--sizes=',
  '--suites=a,"b,c"',
  '--model.position=yarn',
  '--model.position.scale=8',
  '--model.position.window=2',
  '--model.position.learned',
)


@pytest.mark.parametrize('args', [(), EVERYTHING])
def test_a_flagfile_gives_the_same_configuration(args, tmp_path):
  config, flag_values = parse(*args)
  path = tmp_path / 'flags.txt'
  path.write_text(config_flags.flags_text(Study, flag_values))
  again, flag_values = parse(f'--flagfile={path}')
  assert again == config
  assert config_flags.flags_text(Study, flag_values) == path.read_text()


def test_flags_after_a_flagfile_override_it(tmp_path):
  path = tmp_path / 'flags.txt'
  path.write_text(config_flags.flags_text(Study, parse(*EVERYTHING)[1]))
  args = '--steps=9', '--resume', '--model.position=alibi'
  config, _ = parse(f'--flagfile={path}', *args)
  assert (config.steps, config.resume, config.order) == (9, True, 1)
  assert config.model.position == Alibi()


def test_flags_text_omits_none_and_what_is_asked():
  _, flag_values = parse('--workdir=runs/a', '--noresume')
  lines = config_flags.flags_text(Study, flag_values, omit=('workdir',)).split()
  assert '--resume=false' in lines
  assert '--model.position=yarn' in lines
  assert not [line for line in lines if line.startswith('--workdir')]
  assert not [line for line in lines if line.startswith('--init_from')]
  assert '--workdir=runs/a\n' in config_flags.flags_text(Study, flag_values)


@pytest.mark.parametrize('arg', ['--init_from=a\n--steps=1', '--init_from=a '])
def test_flags_text_refuses_what_a_flagfile_would_change(arg):
  _, flag_values = parse(arg)
  with pytest.raises(UsageError, match=r'--init_from: .* does not fit'):
    config_flags.flags_text(Study, flag_values)


# JSON.


@pytest.mark.parametrize('args', [(), EVERYTHING, ('--model.position=alibi',)])
def test_json_round_trip_is_exact(args):
  config, _ = parse(*args)
  text = json.dumps(config_json.to_json(config))
  assert config_json.from_json(Study, json.loads(text)) == config


def test_json_keeps_fields_without_a_flag():
  config = Model(position=Yarn(hidden=5))
  assert config_json.from_json(Model, config_json.to_json(config)) == config


def test_json_of_a_choice_is_its_name_and_fields():
  data = config_json.to_json(Model(position=Linear()))
  assert data == {
    'depth': 6,
    'activation': 'gelu',
    'position': {'choice': 'linear', 'scale': 4.0},
  }


def test_json_refuses_a_function_that_is_not_the_default():
  with pytest.raises(ExtrapError, match=r'position\.activation: .*len'):
    config_json.to_json(Model(position=Yarn(activation=len)))


def test_json_refuses_an_unregistered_entry():
  with pytest.raises(ExtrapError, match='Logging is not a registered position'):
    config_json.to_json(Model(position=Logging()))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'extra': 1}, 'unknown in the configuration: extra;'),
    ({'steps': None}, 'steps: None is not of type int'),
    ({'steps': '6'}, "steps: '6' is not of type int"),
    ({'steps': 1.5}, 'steps: 1.5 is not of type int'),
    ({'order': 3}, r'order: 3 is not of type Literal\[1, 2\]'),
    ({'sizes': '1,2'}, r"sizes: '1,2' is not of type tuple\[int, \.\.\.\]"),
    ({'sizes': [1, 'x']}, 'sizes: .* is not of type'),
    ({'logging': {}}, r'missing in the configuration: logging\.every;'),
    ({'logging': 3}, 'logging: needs fields, found 3'),
    ({'model': {}}, r'missing .*: model\.activation, model\.depth, model\.pos'),
    ({'rate': -1.0}, r'--rate=-1\.0: must be >= 0\.0'),
  ],
)
def test_json_with_a_fault_is_refused_in_one_line(change, message):
  data = config_json.to_json(Study()) | change
  with pytest.raises(ExtrapError, match=message) as caught:
    config_json.from_json(Study, data)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('position', 'message'),
  [
    ({'scale': 4.0}, "position: needs a key 'choice'"),
    ({'choice': 'linaer', 'scale': 4.0}, "position: .*did you mean 'linear'"),
    ({'choice': 'linear'}, r'missing in .*: position\.scale'),
    ({'choice': 'linear', 'scale': 4.0, 'x': 1}, r'unknown .*: position\.x'),
  ],
)
def test_json_of_a_choice_with_a_fault_is_refused(position, message):
  data = config_json.to_json(Model()) | {'position': position}
  with pytest.raises(ExtrapError, match=message):
    config_json.from_json(Model, data)


# Identity.


def test_fingerprint_is_eight_hex_digits_that_stay_the_same():
  # Work folders are named by it: a change here makes old runs unfindable.
  assert config_json.fingerprint(Linear()) == '2466a75c'
  assert int(config_json.fingerprint(Study()), 16) < 16**8


def test_fingerprint_does_not_depend_on_the_order_of_fields():
  fields = [('a', int, 1), ('b', int, 2)]
  types = [dataclasses.make_dataclass('C', f) for f in (fields, fields[::-1])]
  first, second = (config_json.fingerprint(config()) for config in types)
  assert first == second


@pytest.mark.parametrize(
  ('change', 'is_other'),
  [
    ({'steps': 7}, False),
    ({'workdir': 'a'}, False),
    ({'logging': Logging(every=2)}, False),
    ({'rate': 1.0}, False),
    ({'rate': 2}, True),
    ({'sizes': (2, 1)}, True),
    ({'init_from': ''}, True),
    ({'model': Model(depth=5)}, True),
    ({'model': Model(depth=4, position=Yarn(scale=2))}, True),
    ({'model': Model(depth=4, position=Linear())}, True),
  ],
)
def test_fingerprint_and_differences_agree(change, is_other):
  old, new = Study(), Study(**change)
  changed = config_json.fingerprint(old) != config_json.fingerprint(new)
  assert changed == is_other
  assert bool(config_json.differences(old, new)) == is_other


@pytest.mark.parametrize(
  ('new', 'expected'),
  [
    (Study(model=Model(5)), 'model.depth: 4 in the run, 5 asked for'),
    (Study(resume=False), 'resume: true in the run, false asked for'),
    (Study(sizes=(3,)), 'sizes: 1,2 in the run, 3 asked for'),
    (Study(init_from='a'), 'init_from: none in the run, a asked for'),
    (
      model_with(position=Alibi()),
      'model.position: yarn in the run, alibi asked for',
    ),
    (
      model_with(position=Yarn(scale=2)),
      'model.position.scale: 16.0 in the run, 2.0 asked for',
    ),
    (Model(), 'configuration: Study in the run, Model asked for'),
  ],
)
def test_a_difference_is_one_line(new, expected):
  assert config_json.differences(Study(), new) == [expected]


def test_every_difference_is_listed():
  new = Study(rate=3, model=Model(depth=5, activation='sin'))
  names = [d.split(':')[0] for d in config_json.differences(Study(), new)]
  assert names == ['rate', 'model.depth', 'model.activation']


def test_importing_the_modules_leaves_jax_alone():
  modules = 'extrap.config_flags, extrap.config_json'
  program = f"import sys, {modules}; sys.exit('jax' in sys.modules)"
  subprocess.run([sys.executable, '-c', program], check=True)
