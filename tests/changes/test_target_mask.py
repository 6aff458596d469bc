"""Unknown targets: the loss is the mean over the known ones, whatever shape targets have."""

from contextlib import ExitStack

import keras
import numpy as np
import pytest
import tensorflow as tf

from nanfix.changes.target_mask import TargetMask
from nanfix.changes.target_mask_installer import install

RNG = np.random.default_rng(0)


def masked_loss(mask, y, prediction, loss, *, weight=None):
    """Return the loss that a model with these predictions has under a mask, and its gradient."""
    model = keras.Model()
    model.compile("sgd", loss)
    output = tf.constant(prediction, "float32")
    undo = ExitStack()
    install(model, mask, undo)
    with undo, tf.GradientTape() as tape:
        tape.watch(output)
        value = model.compute_loss(y=tf.constant(y), y_pred=output, sample_weight=weight)
    return float(value), tape.gradient(value, output).numpy()


@pytest.mark.parametrize("shape", [(8, 1), (8, 3), (4, 5, 1), (4, 5, 2)])
@pytest.mark.parametrize(("hole", "mask"), [
    (np.nan, TargetMask(nonfinite=True)), (np.inf, TargetMask(nonfinite=True)),
    (1e20, TargetMask(codes=(1e20,))), (-999.0, TargetMask(codes=(-999.0, 1e9))),
])  # fmt: skip
def test_the_loss_is_the_mean_over_the_known_targets(shape, hole, mask):
    y, prediction = RNG.normal(size=(2, *shape)).astype("float32")
    known = RNG.random(shape) < 0.6
    given = np.where(known, y, np.float32(hole)).astype("float32")
    loss, gradient = masked_loss(mask, given, prediction, "mse")
    np.testing.assert_allclose(loss, np.mean((y - prediction)[known] ** 2), rtol=1e-5)
    expected = np.where(known, 2 * (prediction - y) / known.sum(), 0.0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("shape", [(12,), (4, 5), (4, 5, 1)])
def test_labels_without_a_class_count_as_unknown(shape):
    labels = RNG.integers(0, 3, shape)
    flat = shape[:-1] if shape[-1] == 1 else shape
    prediction = tf.nn.softmax(RNG.normal(size=(*flat, 3)).astype("float32")).numpy()
    known = RNG.random(shape) < 0.6
    given = np.where(known, labels, -100).astype("int32")
    loss, gradient = masked_loss(
        TargetMask(classes=3), given, prediction, "sparse_categorical_crossentropy"
    )
    right = np.take_along_axis(prediction, labels.reshape(*flat, 1), axis=-1)[..., 0]
    expected = -np.log(right)[known.reshape(flat)].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("weights", [(8,), (8, 1)])
def test_sample_weights_still_count(weights):
    y, prediction = RNG.normal(size=(2, 8, 1)).astype("float32")
    weight = RNG.random(weights).astype("float32")
    given = y.copy()
    given[::2] = np.nan
    loss, _ = masked_loss(TargetMask(nonfinite=True), given, prediction, "mse", weight=weight)
    squares = (weight.reshape(8) * (y - prediction)[:, 0] ** 2)[1::2]
    np.testing.assert_allclose(loss, squares.mean(), rtol=1e-5)


def test_a_step_that_keras_masks_is_not_made_up_for():
    y = RNG.normal(size=(4, 5, 1)).astype("float32")
    known = np.arange(5)[None, :, None] < np.array([2, 3, 4, 5])[:, None, None]
    given = np.where(known, y, 1e20).astype("float32")
    inputs = keras.Input((5, 1))
    outputs = keras.layers.Dense(1)(keras.layers.Masking(1e20)(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    with ExitStack() as undo:
        install(model, TargetMask(codes=(1e20,)), undo)
        loss = model.evaluate(given, given, batch_size=4, verbose=0)
    prediction = model(np.where(known, y, 0)).numpy()
    np.testing.assert_allclose(loss, np.mean((y - prediction)[known] ** 2), rtol=1e-5)


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_each_output_meets_its_own_targets(names):
    inputs = keras.Input((2,))
    outputs = [keras.layers.Dense(1, name=name)(inputs) for name in names]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"a": "mse", "b": "mae"}, metrics={"a": ["mae"]})
    x = RNG.normal(size=(16, 2)).astype("float32")
    a, b = RNG.normal(size=(2, 16, 1)).astype("float32")
    unknown = a.copy()
    unknown[:10] = np.nan
    with ExitStack() as undo:
        install(model, TargetMask(nonfinite=True), undo)
        figures = model.evaluate(x, {"a": unknown, "b": b}, batch_size=16, verbose=0, return_dict=1)
    predicted = dict(zip(names, model.predict(x, verbose=0), strict=True))
    np.testing.assert_allclose(
        figures["a_loss"], np.mean((a - predicted["a"])[10:] ** 2), rtol=1e-5
    )
    np.testing.assert_allclose(figures["b_loss"], np.mean(np.abs(b - predicted["b"])), rtol=1e-5)
    known = np.abs(a - predicted["a"])[10:]
    np.testing.assert_allclose(figures["a_mae"], known.mean(), rtol=1e-5)


def test_metrics_of_the_users_own_see_the_targets_as_they_are():
    def share_known(y, prediction):
        return tf.reduce_mean(tf.cast(tf.math.is_finite(y), "float32"))

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[share_known])
    y = np.where(np.arange(16)[:, None] % 4, 1.0, np.nan).astype("float32")
    with ExitStack() as undo:
        install(model, TargetMask(nonfinite=True), undo)
        figures = model.evaluate(np.ones((16, 1)), y, batch_size=16, verbose=0, return_dict=1)
    assert figures["share_known"] == 0.75 and np.isfinite(figures["loss"])


def test_taken_back_the_model_is_as_it_was():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    before = set(vars(model))
    with ExitStack() as undo:
        install(model, TargetMask(nonfinite=True), undo)
        assert {"compute_loss", "compute_metrics"} <= set(vars(model))
    assert set(vars(model)) == before
