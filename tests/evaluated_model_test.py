"""A trained model with other settings of its encoding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from extrap import config_json
from extrap.config import option
from extrap.config_flags import from_arguments
from extrap.errors import UsageError
from extrap.models import EvaluatedModel, Transformer, TransformerConfig
from extrap.models.positions import (
  ALiBi,
  DroPE,
  Gemma,
  NoPosition,
  Randomised,
  Rotary,
  Window,
  with_settings,
)
from extrap.study import StudyConfig
from extrap.tasks.addition import Addition


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(EvaluatedModel, StudyConfig):
  """One whose model is tested with other positions than it was trained."""

  model: TransformerConfig = option(
    TransformerConfig(depth=12, width=8, heads=2, ffn_width=8), 'the model'
  )


def read(*arguments):
  return from_arguments(Study, *arguments)


def test_settings_at_evaluation_stand_beside_how_much_to_evaluate():
  trained = ('--model.position=drope', '--model.position.scale=8')
  config = read(*trained, '--eval=full', '--eval.position.scale=16')
  assert config.eval == 'full'
  assert config.model.position == DroPE(scale=8.0)
  expected = dataclasses.replace(config.model, position=DroPE(scale=16.0))
  assert config.evaluated == expected
  assert read(*trained).evaluated == config.model


@pytest.mark.parametrize(
  ('arguments', 'trained', 'tested'),
  [
    (
      ['=randomised', '.stretch=64', '.base=alibi'],
      Randomised(stretch=64, base=ALiBi()),
      None,
    ),
    (
      ['=gemma', '.base=window', '.base.window=8', '.windowed=1'],
      Gemma(windowed=1, base=Window(window=8)),
      None,
    ),
    (
      ['=gemma', '.base.base=5', '@.base.base=6'],
      Gemma(base=Rotary(base=5.0)),
      Gemma(base=Rotary(base=6.0)),
    ),
    (
      ['=window', '.base.base=50', '@.window=9', '@.base.base=70'],
      Window(base=Rotary(base=50.0)),
      Window(base=Rotary(base=70.0), window=9),
    ),
    (['=rotary', '.base=50', '@=none'], Rotary(base=50.0), NoPosition()),
  ],
)
def test_flags_reach_what_an_encoding_is_around(arguments, trained, tested):
  config = read(
    *(f'--eval.position{a[1:]}' for a in arguments if a[0] == '@'),
    *(f'--model.position{a}' for a in arguments if a[0] != '@'),
  )
  assert config.model.position == trained
  assert config.eval_position == tested


def test_what_is_not_there_to_change_is_refused():
  with pytest.raises(UsageError, match=r'eval\.position\.scale: position'):
    read('--model.position=alibi', '--eval.position.scale=2')
  with pytest.raises(UsageError, match=r'eval\.position\.scale=0\.5: must be'):
    read('--model.position=drope', '--eval.position.scale=0.5')


def test_a_run_stays_the_same_run():
  plain, tested = read(), read('--eval.position=alibi')
  assert config_json.fingerprint(plain) == config_json.fingerprint(tested)
  data = config_json.to_json(tested)
  assert config_json.from_json(Study, data) == tested


def test_trained_parameters_fit_what_is_evaluated():
  config = read(
    '--model.depth=1', '--model.position=window', '--eval.position.window=2'
  )
  tokens_BT = Addition().from_integers(((907, 45),)).tokens
  ids = Addition().structure(tokens_BT)
  models = [Transformer(c, 14) for c in (config.model, config.evaluated)]

  @jax.jit
  def program(key):
    params = models[0].init(key, tokens_BT, ids)
    return [model.apply(params, tokens_BT, ids) for model in models]

  one_BTV, other_BTV = map(np.asarray, program(jax.random.key(0)))
  # The first two tokens see all that there is in a window of two.
  gap_T = abs(one_BTV - other_BTV).max(axis=(0, 2))
  assert jnp.all(gap_T[:2] < 1e-5) and jnp.all(gap_T[2:] > 1e-5)


def test_an_encoding_with_other_settings():
  assert with_settings(DroPE(growth=0.1), scale=4) == DroPE(growth=0.1, scale=4)
  assert with_settings(Rotary()) == Rotary()
  around = Randomised(base=Window(window=8))
  changed = with_settings(
    around, stretch=9, **{'base.window': 4, 'base.base.base': 5.0}
  )
  inner = Window(window=4, base=Rotary(base=5.0))
  assert changed == Randomised(stretch=9, base=inner)
  assert around == Randomised(base=Window(window=8))


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'scale': 0.5}, r'position\.scale=0\.5: must be >= 1'),
    ({'scales': 2.0}, "position 'drope' has no 'scales'; has: base, dropped"),
    ({'base.scale': 2.0}, "position 'rotary' has no 'scale'; has: base"),
    ({'base.base.base': 2.0}, r"'base' of position 'rotary' has no settings"),
  ],
)
def test_settings_that_are_not_there_are_refused(settings, message):
  with pytest.raises(UsageError, match=message):
    with_settings(DroPE(), **settings)
