"""Batches with one cause taken away, in numbers a person can compute."""

import numpy as np
import tensorflow as tf

from nanfix.changes.maps import Affine
from nanfix.explain._batch_changes import Moments, drawn_in, of_unit_scale, with_known_targets

X = np.float32([[0.0, 7.0], [4.0, 7.0], [np.nan, np.inf]])


def test_moments_are_of_the_finite_cells_and_a_constant_is_not_divided_by_0():
    moments = Moments.of(X, axis=(0,))
    np.testing.assert_array_equal(moments.mean, [2.0, 7.0])
    np.testing.assert_array_equal(moments.deviation, [2.0, 1.0])


def test_inputs_and_targets_are_brought_to_unit_scale_each_alone_or_both():
    batch = tf.constant(X), tf.constant([[10.0], [30.0], [20.0]])
    inputs, targets = [Moments.of(X, axis=(0,))], [Moments(np.float64(20.0), np.float64(10.0))]
    x, y = of_unit_scale(batch, inputs=inputs)
    np.testing.assert_array_equal(x[:2], [[-1.0, 0.0], [1.0, 0.0]])
    assert y is batch[1]
    x, y = of_unit_scale(batch, targets=targets)
    assert x is batch[0]
    np.testing.assert_array_equal(y, [[-1.0], [1.0], [0.0]])
    x, y = of_unit_scale(batch, inputs=inputs, targets=targets)
    np.testing.assert_array_equal(x[:2], [[-1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_array_equal(y, [[-1.0], [1.0], [0.0]])


def test_only_values_out_of_their_band_are_drawn_in():
    batch = tf.constant([[0.0, 5.0], [9.0, -5.0]]), tf.constant([[1e9], [1.0]])
    x, y = drawn_in(batch, ((0, Affine((0.0, 0.0), (2.0, 4.0))), (1, Affine((0.0,), (3.0,)))))
    np.testing.assert_array_equal(x, [[0.0, 4.0], [2.0, -4.0]])
    np.testing.assert_array_equal(y, [[3.0], [1.0]])


def test_a_code_is_replaced_in_numbers_of_any_width_and_in_nothing_else():
    y = {
        "float": tf.constant([-999.0, 2.0]),
        "wide": tf.constant([-999, 2], tf.int64),
        "lowest": tf.constant([np.iinfo("int32").max, 2]),
        "small": tf.constant([25, 2], tf.uint8),  # -999 as a byte
        "known": tf.constant([True, False]),
        "name": tf.constant(["a", "b"]),
    }
    _, known = with_known_targets((tf.constant(X), y), (-999.0, 2147483600.0), 7.0)
    values = {name: leaf.numpy().tolist() for name, leaf in known.items()}
    assert values == {
        "float": [7.0, 2.0],
        "wide": [7, 2],
        "lowest": [7, 2],
        "small": [25, 2],
        "known": [True, False],
        "name": [b"a", b"b"],
    }
