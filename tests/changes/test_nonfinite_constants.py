"""Constants that are not finite: which are at fault, and what takes the place of their numbers."""

import numpy as np
import pytest
import tensorflow as tf

from nanfix.changes.nonfinite_constants import filled, in_graph
from nanfix.model.nonfinite_weights import is_at_fault

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("constant", "finite"),
    [
        ([-INF, -2.0, -1.0], [-2.0, -2.0, -1.0]),
        ([INF, 3.0, 1.0], [3.0, 3.0, 1.0]),
        ([NAN, 3.0, 1.0], [2.0, 3.0, 1.0]),
        ([NAN, 0.0], [0.0, 0.0]),
        ([[-INF, INF], [1.0, 2.0]], [[1.0, 2.0], [1.0, 2.0]]),
    ],
)
def test_what_takes_the_place_of_numbers_that_are_not_finite(constant, finite):
    made = np.array(constant, "float32")
    assert is_at_fault(made)
    np.testing.assert_array_equal(filled(made), finite)
    assert filled(made).dtype == made.dtype


@pytest.mark.parametrize("mask", [-INF, INF, [0.0, -INF], [[0.0, INF], [0.0, 0.0]]])
def test_a_mask_is_meant(mask):
    assert not is_at_fault(np.array(mask)) and filled(np.array(mask)) is None


def test_a_constant_without_a_finite_number_is_at_fault_and_stays():
    assert is_at_fault(np.array(NAN)) and filled(np.array(NAN)) is None


@pytest.mark.parametrize("size", [3, 3000])  # what is small is written into a graph
def test_a_tensor_made_outside_of_a_graph_is_known_in_it(size):
    outside, seen = tf.constant([-INF, *np.arange(1.0, size)]), []

    @tf.function
    def outer(x):
        @tf.function
        def inner(x):
            seen.extend([in_graph(x), in_graph(tf.convert_to_tensor(outside))])
            return x + outside

        return inner(x)

    outer(outside)
    assert seen[0] is None and seen[1] is not None
