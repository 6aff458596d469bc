"""Inputs whose numbers are names of something: a scaling would name something else."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from nanfix.install.sites import find_sites
from nanfix.model.addresses import SINGLE


class Table(layers.Layer):
    def build(self, _):
        self.rows = self.add_weight(shape=(4, 3), name="rows")

    def call(self, codes):
        return tf.gather(self.rows, tf.cast(codes[:, 0], "int32"))


def same_place(x):
    return ops.where(ops.equal(x, 2), 1.0, 0.0)


def first_of(lengths):
    return ops.cast(ops.less(ops.arange(4, dtype=lengths.dtype)[None], lengths), "float32")


def known(x):
    return ops.where(ops.not_equal(x, x), 0.0, x)


def site_of(*stack, columns=1, dtype="float32"):
    inputs = outputs = keras.Input((columns,), dtype=dtype)
    for layer in stack:
        outputs = layer(outputs)
    x = np.random.default_rng(0).integers(0, 4, (5, columns)) + np.arange(columns) * 0.01
    return find_sites(keras.Model(inputs, outputs), x.astype(dtype)).inputs[SINGLE]


@pytest.mark.parametrize(
    "stack",
    [
        (layers.CategoryEncoding(4), layers.Dense(1)),
        (layers.IntegerLookup(vocabulary=[0, 1, 2, 3], output_mode="one_hot"), layers.Dense(1)),
        (layers.Lambda(lambda t: ops.one_hot(ops.cast(t[:, 0], "int32"), 4)), layers.Dense(1)),
        (Table(), layers.Dense(1)),
        (layers.Lambda(lambda t: t + 1.0), layers.Embedding(9, 2), layers.Dense(1)),
        (layers.Lambda(lambda t: ops.one_hot(ops.cast(t * 2 % 5, "int32"), 5)), layers.Dense(1)),
    ],
    ids=[
        *("categories", "vocabulary", "one hot", "table"),
        *("offset", "rest"),
    ],
)
def test_what_is_looked_up_stays_as_it_is(stack):
    assert site_of(*stack).fixed or site_of(*stack).fixed_columns == {0}


@pytest.mark.parametrize(
    "front",
    [
        layers.Discretization(bin_boundaries=[1.0, 2.0], output_mode="one_hot"),
        layers.Lambda(same_place),
        layers.Lambda(first_of),
    ],
    ids=["bins", "comparison", "length"],
)
def test_whole_numbers_that_are_compared_are_names_and_measured_values_are_none(front):
    assert site_of(front, layers.Dense(1), dtype="int32").fixed
    assert not site_of(front, layers.Dense(1)).fixed


def test_a_search_for_nan_names_nothing():
    site = site_of(layers.Lambda(known), layers.Dense(1))
    assert not site.fixed and not site.fixed_columns


@pytest.mark.parametrize(
    ("pick", "columns"),
    [
        (lambda t: t[:, 2], {2}),
        (lambda t: t[:, 1:], {1, 2}),
        (lambda t: ops.unstack(t, axis=1)[1], {1}),
        (lambda t: ops.take(t, [0, 2], axis=1), {0, 2}),
    ],
)
def test_columns_that_are_looked_up_are_told_from_the_others(pick, columns):
    def joined(t):
        codes = ops.one_hot(ops.cast(pick(t), "int32"), 4)
        return ops.concatenate([t, ops.reshape(codes, (ops.shape(t)[0], -1))], axis=1)

    site = site_of(layers.Lambda(joined, output_shape=(None,)), columns=3)
    assert site.fixed_columns == columns and not site.fixed and not site.foldable


def hour(t):
    return ops.sin(t[:, :1] * (2 * np.pi / 24))


FORMULAS = {
    "the sine of a column": (lambda t: ops.concatenate([hour(t), t[:, 1:]], -1), False, {0}),
    "a logarithm and a root": (
        lambda t: ops.concatenate([ops.log1p(t[:, :1]), ops.sqrt(t[:, 1:2] / 7), t[:, 2:]], -1),
        False,
        {0, 1},
    ),
    "of all columns": (lambda t: ops.log(t + 1.0), True, set()),
    "a column that goes in by itself, too": (
        lambda t: ops.concatenate([hour(t), t], -1),
        False,
        set(),
    ),
    "an exponential, which scaling keeps small": (
        lambda t: ops.concatenate([ops.exp(t[:, :1]), t[:, 1:]], -1),
        False,
        set(),
    ),
    "divided by its own norm": (
        lambda t: t / ops.sqrt(ops.sum(ops.square(t), -1, keepdims=True)),
        False,
        set(),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_what_goes_into_formulas_alone_stays_as_it_is(name):
    front, whole, columns = FORMULAS[name]
    site = site_of(layers.Lambda(front), layers.Dense(1), columns=3)
    assert (site.fixed, site.fixed_columns) == (whole, columns)
