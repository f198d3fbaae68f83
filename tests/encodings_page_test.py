"""The page of encodings is what the registry and the tests give."""

import pytest

from experiments import encodings
from extrap.models.positions import POSITIONS, Position


def test_the_page_is_up_to_date():
  found = encodings.PAGE.read_text(encoding='utf-8')
  assert found == encodings.page(), 'run python -m experiments.encodings'


@pytest.mark.parametrize('name', POSITIONS.names())
def test_an_encoding_says_what_it_is(name):
  position = POSITIONS.get(name)()
  _, summary, source, cost, reads, test = encodings.row(name, position)
  own = type(position).__doc__
  assert own and not own.startswith(f'{type(position).__name__}('), 'no text'
  assert summary and source, f'{name}: neither text nor paper'
  assert cost in 'ABCDEF' and len(cost) == 1, f'{name}: no cost'
  assert reads and test != 'none', f'{name}: no test names it'


def test_a_row_tells_of_an_encoding():
  cells = encodings.row('alibi', POSITIONS.get('alibi')())
  assert cells == [
    '`alibi`',
    'A fixed slope a head (Press et al. 2021, arXiv 2108.12409)',
    '[2108.12409](https://arxiv.org/abs/2108.12409)',
    'C',
    'position',
    '[encodings_test.py](../../../tests/encodings_test.py)',
  ]
  assert encodings.source('GPT-2') == 'GPT-2'
  assert POSITIONS.get('none')().reads == ()
  assert encodings.row('none', POSITIONS.get('none')())[4] == 'nothing'


def test_an_encoding_that_no_test_names_has_none():
  stranger = type('Stranger' + 'Class', (Position,), {})
  assert encodings.test_of('stran' + 'ger', stranger) is None
