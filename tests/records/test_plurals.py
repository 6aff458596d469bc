"""Words that depend on a number."""

import pytest

from nanfix.records.plurals import counted


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 layers"), (1, "1 layer"), (2, "2 layers"), (21, "21 layers")]
)
def test_a_single_thing_is_no_plural(number, words):
    assert counted(number, "layer") == words
