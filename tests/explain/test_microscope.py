"""The look at one step: norms that mean the same for every optimizer, and no tensor kept."""

import weakref

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf

import nanfix
from nanfix.explain.microscope import _Microscope, observe
from nanfix.model.operations import traced
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase
from nanfix.records.unsafe_operations import (
    BY_INFINITY,
    DIFFERENCES,
    SHARES_OF_EXPONENTIALS,
    SQUEEZED,
)


def test_gradient_of_a_scaled_loss_is_told_unscaled():
    plain = keras.optimizers.SGD(0.1)
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**10)
    batch = tuple(map(tf.constant, explosions.table(rows=8)))
    norms = [
        observe(explosions.mlp(optimizer), batch).gradient_norm for optimizer in (plain, scaled)
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


@pytest.mark.parametrize("jit", [True, False], ids=["xla", "plain"])
def test_a_slope_that_a_kernel_hides_is_seen_where_xla_computes_it(jit):
    model, x, y, _ = explosions.hidden_slope()
    model.jit_compile = jit
    seen = observe(model, (tf.constant(x[:16]), tf.constant(y[:16])))
    assert seen.masked is jit and seen.operation == ("Sqrt" if jit else None)


class TimesInfinity(keras.layers.Layer):
    """Is to take -inf for what a mask leaves out, and takes NaN for what it keeps: 0 * -inf."""

    def call(self, x):
        kept = tf.cast(x[..., :1] > -1, x.dtype)
        return x + (1 - kept) * tf.constant(-np.inf, x.dtype)


@pytest.mark.parametrize(
    "pooling", [keras.layers.GlobalMaxPooling1D(), keras.layers.GlobalAveragePooling1D()]
)
def test_an_operation_that_makes_nan_of_infinity_is_found_behind_a_maximum(pooling):
    """The gradient of a maximum compares with it: among NaN nothing is equal, and that is 0/0."""
    spoils = TimesInfinity()
    layers = [keras.layers.Dense(3), spoils, pooling, keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((5, 3)), *layers])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(8, 5, 3)).astype("float32")
    seen = observe(model, (tf.constant(x), tf.constant(x[:, 0, :1])))
    assert (seen.operation, seen.layer, seen.phase) == (BY_INFINITY, spoils, Phase.FORWARD)
    assert seen.place.given == (("tf.constant(-np.inf, x.dtype)", "infinite"),)


def test_the_exponent_of_a_slope_without_end_is_told_by_what_it_was():
    def root(y, p):
        return tf.reduce_mean(tf.pow(tf.nn.relu(p) * 0.0, 1.0 / tf.constant([3.0])))

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", root)
    seen = observe(model, (tf.ones((4, 3)), tf.ones((4, 1))))
    assert (seen.operation, seen.phase) == ("Pow", Phase.GRADIENT)
    assert seen.place.given == (("1.0 / tf.constant([3.0])", "a fraction"),)


def test_microscope_holds_no_tensor_but_the_culprits():
    """What a step lets go of, the look at it lets go of too."""
    model, x, y, _ = explosions.healthy()
    alive = []

    class Watched(keras.layers.Layer):
        def call(self, x):
            product = x * 2.0
            alive.append(weakref.ref(product))
            return product + 1.0

    model = keras.Sequential([Watched(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    observe(model, (tf.constant(x[:8]), tf.constant(y[:8])))
    microscope = _Microscope((tf.constant(x[:8]), tf.constant(y[:8])))
    with traced(microscope.visit):
        model(tf.constant(x[:8]))
        assert alive[-1]() is None


def of_what_was_measured(y, p):
    """The mean over the labels that are there, of each of two kinds."""
    parts = []
    for kind in (0, 1):
        known = tf.logical_not(tf.math.is_nan(y[:, kind]))
        errors = tf.boolean_mask(y[:, kind], known) - tf.boolean_mask(p[:, kind], known)
        parts.append(tf.reduce_mean(tf.square(errors)))
    return tf.add_n(parts)


def partly_labeled():
    """Every row lacks one of two labels, and the second is so rare that batches are without."""
    x, y = explosions.table()
    labels = np.concatenate([y, y], axis=1)
    rare = np.arange(len(x)) % 37 == 3
    labels[rare, 0], labels[~rare, 1] = np.nan, np.nan
    return x, labels


@pytest.mark.parametrize(("loss", "tainted"), [(of_what_was_measured, False), ("mse", True)])
def test_holes_that_the_loss_leaves_out_do_not_count(loss, tainted):
    x, y = partly_labeled()
    seen = observe(explosions.mlp("sgd", loss, outputs=2), (tf.constant(x[8:24]), y[8:24]))
    assert seen.tainted_input is tainted and np.isnan(seen.loss)
    assert seen.over_nothing is not tainted


@pytest.mark.parametrize(("mask", "formula"), [(None, SHARES_OF_EXPONENTIALS), (0.0, None)])
def test_exponentials_that_come_to_0_are_told_from_what_a_mask_has_emptied(mask, formula):
    def shares(y, p):
        weights = keras.ops.exp(p - 1000.0)
        weights = weights if mask is None else weights * mask
        total = keras.ops.sum(weights, axis=-1)
        return keras.ops.mean(weights / total[:, None] - y)

    x, y = explosions.table(rows=8)
    seen = observe(explosions.mlp("sgd", shares), (tf.constant(x), tf.constant(y)))
    assert (seen.operation, seen.phase) == ("RealDiv", Phase.LOSS)
    assert seen.place.formula == formula


def of_softmax(y, p):
    shares = keras.ops.exp(1000.0 + p) * keras.ops.cast(p < 1e9, p.dtype)
    return shares / keras.ops.sum(shares, axis=-1, keepdims=True) - y


def of_softmax_kept_from_0(y, p):
    shares = keras.ops.exp(1000.0 + p)
    return shares / (keras.ops.sum(shares, axis=-1, keepdims=True) + 1e-7) - y


def of_sigmoid(y, p):
    return 1.0 / (1.0 + keras.ops.exp(1000.0 - p)) - y


def of_tanh(y, p):
    e = tf.exp(1000.0 + p)
    return (e - 1.0) / (e + 1.0) - y


def of_log_softmax(y, p):
    shares = keras.ops.exp(1000.0 + p)
    return y - keras.ops.log(y * (shares / keras.ops.sum(shares, axis=-1, keepdims=True)))


def of_deviation(y, p):
    p = keras.ops.concatenate([1e4 + p, 1e4 + 2.0 * p, 1e4 - p], axis=-1)
    variance = keras.ops.mean(p**2, axis=-1) - keras.ops.square(keras.ops.mean(p, axis=-1))
    return keras.ops.sqrt(variance) - y


def of_rest(y, p):
    return y / (1.0 - keras.ops.exp(-1e-9 * p))


def of_targets(y, p):
    return keras.ops.sqrt(keras.ops.exp(0.0 * p) - 2.0 - y * 0.0)


def of_norm(y, p):
    return keras.ops.sqrt(keras.ops.mean(p**2) - 1e9) - y


@pytest.mark.parametrize(
    ("loss", "operation", "formula"),
    [
        (of_softmax, "Exp", SHARES_OF_EXPONENTIALS),
        (of_softmax_kept_from_0, "Exp", SHARES_OF_EXPONENTIALS),
        (of_sigmoid, "Exp", SHARES_OF_EXPONENTIALS),
        (of_tanh, "Exp", SHARES_OF_EXPONENTIALS),
        (of_log_softmax, "Exp", None),
        (of_deviation, "Sqrt", DIFFERENCES),
        (of_rest, "RealDiv", DIFFERENCES),
        (of_norm, "Sqrt", None),
        (of_targets, "Sqrt", None),
    ],
)
def test_the_formula_that_failed_is_known_by_what_it_is_made_of(loss, operation, formula):
    x, y = explosions.table(rows=64)
    seen = observe(explosions.mlp("sgd", loss), (tf.constant(x), tf.constant(y)))
    assert (seen.operation, seen.place.formula) == (operation, formula)


@pytest.mark.parametrize(
    ("taken", "operation"),
    [
        (lambda quotient: keras.ops.log(1.0 + 2.0 * quotient), SQUEEZED),
        (lambda quotient: keras.ops.arctan(quotient), SQUEEZED),
        (lambda quotient: keras.ops.square(quotient), "RealDiv"),
        (lambda quotient: quotient + keras.ops.tanh(1.0 / (quotient + 3.0)), "RealDiv"),
    ],
)
def test_a_quotient_that_something_takes_which_bears_great_numbers_is_told_apart(taken, operation):
    x, y = explosions.table(rows=8)
    y[3] = 0.0
    model = explosions.mlp("sgd", lambda y, p: taken(keras.ops.abs(p) / keras.ops.abs(y)))
    assert observe(model, (tf.constant(x), tf.constant(y))).operation == operation


def test_the_edge_is_that_of_what_a_layer_was_given():
    x, y = explosions.table(rows=8)
    x = np.abs(x) + 0.05
    x[3] = 0.0
    taken = keras.layers.Lambda(keras.ops.log)
    model = keras.Sequential([keras.Input((x.shape[1],)), taken, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert observe(model, (tf.constant(x), tf.constant(y))).place.edge == 0.05


def test_a_training_on_rows_that_all_lack_a_label_is_not_given_up():
    x, y = partly_labeled()
    model = explosions.mlp("sgd", of_what_was_measured, outputs=2)
    found = nanfix.diagnose(model, x, y, epochs=2, batch_size=16, verbose=0)
    assert found.cause is Cause.EMPTY_REDUCTION and found.hopeless is None


def test_numbers_of_bfloat16_without_dimensions_are_seen():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, dtype="bfloat16")])
    model.compile("sgd", lambda y, p: tf.reduce_mean(tf.cast(p, tf.bfloat16) / 0.0))
    seen = observe(model, (tf.ones((4, 2)), tf.ones((4, 1))))
    assert seen.operation == "RealDiv" and seen.half


@pytest.mark.parametrize(
    ("loss", "made_of", "edge"),
    [
        (lambda y, p: (tf.math.log(y[:, 0] * 2) - p[:, 0]) ** 2, "targets", 1.0),
        (lambda y, p: tf.math.log(y - p), None, None),
    ],
)
def test_an_operand_that_comes_of_the_targets_alone_is_told(loss, made_of, edge):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", loss)
    seen = observe(model, (tf.ones((4, 2)), tf.constant([[0.0], [-9], [1], [2]])))
    assert (seen.operation, seen.place.made_of, seen.place.edge) == ("Log", made_of, edge)
