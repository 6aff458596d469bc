"""What an operation was given, in words."""

import numpy as np
import pytest

from nanfix.explain.given import range_of

WORDS = {
    "0.5": [0.5, 0.5],
    "-1 to 1": [-1.0, 1.0],
    "-1.0000001 to 0.99999994": [-1.0000001, 0.99999994],
    "0.5 to 1.0000001 with 1 NaN": [0.5, 1.0000001, np.nan],
    "2 with 1 inf and 2 -inf": [2.0, np.inf, -np.inf, -np.inf],
    "3 -inf": [-np.inf] * 3,
}


@pytest.mark.parametrize("words", WORDS)
def test_the_sign_of_an_infinity_and_a_number_just_beside_an_edge_are_told(words):
    assert range_of(np.float32(WORDS[words])) == words
