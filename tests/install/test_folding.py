"""Folding: the scaled model and the folded one predict the same, for every kind of first layer."""

from contextlib import ExitStack

import keras
import numpy as np
import pytest
from keras import layers

from nanfix.changes.insertion import can_rebuild, insert_at_ends, normalization
from nanfix.changes.maps import Affine, TargetScaling
from nanfix.changes.scaling_call import Gate
from nanfix.install.folding import fold_inputs, fold_output, foldable_with
from nanfix.install.sites import find_sites
from nanfix.model.addresses import SINGLE, declared_inputs
from nanfix.model.run import Sample

# Largest difference between folded and unfolded predictions, as a share of the largest prediction.
SIZE = 5e-6


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.last = layers.Dense(8, activation="relu"), layers.Dense(1)

    def call(self, inputs):
        return self.last(self.first(inputs))


def sequential(*first):
    return keras.Sequential([*first, layers.Dense(1)])


FOLDABLE = {
    "dense": (lambda: sequential(layers.Dense(8, activation="relu")), (6,)),
    "subclass": (Subclass, (6,)),
    "nested": (lambda: sequential(keras.Sequential([keras.Input((6,)), layers.Dense(5)])), (6,)),
    "flatten": (lambda: sequential(layers.Flatten(), layers.Dense(4)), (5, 5, 3)),
    "conv2d": (
        lambda: sequential(layers.Conv2D(4, 3, activation="relu"), layers.Flatten()),
        (8, 8, 3),
    ),
    "conv1d": (lambda: sequential(layers.Conv1D(4, 3), layers.Flatten()), (8, 3)),
    "dense on a sequence": (lambda: sequential(layers.Dense(4), layers.Flatten()), (7, 3)),
    "lstm": (lambda: sequential(layers.LSTM(4)), (7, 3)),
    "gru": (lambda: sequential(layers.GRU(4)), (7, 3)),
    "simple rnn": (lambda: sequential(layers.SimpleRNN(4)), (7, 3)),
    "bidirectional": (lambda: sequential(layers.Bidirectional(layers.LSTM(3))), (7, 3)),
    "batch normalization": (lambda: sequential(layers.BatchNormalization()), (6,)),
    "time distributed": (
        lambda: keras.Sequential(
            [layers.LSTM(4, return_sequences=True), layers.TimeDistributed(layers.Dense(1))]
        ),
        (7, 3),
    ),
    "reshaped last": (
        lambda: keras.Sequential([layers.LSTM(4), layers.Dense(6), layers.Reshape((6, 1))]),
        (7, 3),
    ),
    "dropout first": (lambda: sequential(layers.Dropout(0.2), layers.Dense(3)), (6,)),
}
TARGETS = TargetScaling((100.0,), (20.0,), 2)


def raw(shape, rows=24):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(rows, *shape)) * np.arange(1, shape[-1] + 1) * 10.0 + 50.0).astype(
        "float32"
    )


def scaling_of(x):
    table = x.reshape(-1, x.shape[-1])
    return Affine(tuple(map(float, table.mean(0))), tuple(map(float, table.std(0))))


@pytest.mark.parametrize("kind", FOLDABLE)
def test_folded_model_predicts_what_the_scaled_one_did(kind):
    make, shape = FOLDABLE[kind]
    model, x = make(), raw(shape)
    affine = scaling_of(x)
    sites = find_sites(model, x[:2])
    assert foldable_with(sites.inputs[SINGLE], affine) and sites.outputs[0].foldable
    gate = Gate(model, Sample((x,), (), (True,), names=(SINGLE,)))
    gate.open()
    gate.set({SINGLE: affine}, {"output": TARGETS})

    scaled = np.asarray(model(x))
    gate.close()
    raw_outputs = np.asarray(model(x))
    with ExitStack() as undo:
        fold_inputs(sites.inputs, {SINGLE: affine}, undo)
        fold_output(sites.outputs[0], TARGETS, undo)
        assert np.abs(model(x) - scaled).max() < SIZE * np.abs(scaled).max()
    np.testing.assert_array_equal(model(x), raw_outputs)


@pytest.mark.parametrize(
    ("make", "shape", "why"),
    [
        (
            lambda: sequential(layers.Conv2D(4, 3, padding="same"), layers.Flatten()),
            (8, 8, 3),
            None,
        ),
        (lambda: sequential(layers.Dense(4, use_bias=False)), (6,), None),
        (lambda: sequential(layers.Lambda(lambda x: x * x), layers.Dense(2)), (6,), "Mul"),
    ],
    ids=["zero padding", "no bias", "other operation"],
)
def test_what_does_not_fold_exactly_is_not_folded(make, shape, why):
    model, x = make(), raw(shape)
    site = find_sites(model, x[:2]).inputs[SINGLE]
    assert not foldable_with(site, scaling_of(x))
    assert why is None or (site.blocked is not None and why in site.blocked)


def test_embedding_is_a_lookup():
    model = sequential(layers.Embedding(10, 4), layers.Flatten())
    site = find_sites(model, np.zeros((2, 6), "int32")).inputs[SINGLE]
    assert site.fixed and not site.foldable


class HeadFirst(keras.Model):
    """Its last layer is made before the others."""

    def __init__(self, after=None):
        super().__init__()
        self.head = layers.Dense(1, "sigmoid")
        self.body, self.after = layers.Dense(4, "relu"), after

    def call(self, inputs):
        outputs = self.head(self.body(inputs))
        return outputs if self.after is None else self.after(outputs)


def side_by_side():
    inputs = keras.Input((6,))
    head = layers.Dense(1, "sigmoid", name="head")
    return keras.Model(inputs, [head(inputs), layers.Dense(2, name="other")(inputs), head(inputs)])


@pytest.mark.parametrize(
    ("make", "outer"),
    [
        (HeadFirst, ["dense"]),
        (lambda: HeadFirst(lambda p: 2.0 * p), [None]),
        (lambda: HeadFirst(layers.Reshape((1, 1))), ["dense"]),
        (lambda: sequential(HeadFirst(), layers.ReLU()), ["dense"]),
        (lambda: keras.Sequential([HeadFirst(), layers.ReLU()]), ["re"]),
        (side_by_side, ["head", "other", "head"]),
        (lambda: keras.Sequential([layers.Reshape((2, 3)), layers.LSTM(2)]), [None]),
    ],
)
def test_the_layer_whose_activation_gives_an_output_is_seen(make, outer):
    keras.backend.clear_session()
    found = find_sites(make(), raw((6,))[:2]).outer
    assert [layer and layer.name.partition("_")[0] for layer in found] == outer


def test_gate_passes_the_gradient_of_scaled_targets():
    """d/dw of ((y - pred) / s)^2 is what the weights must see, though the loss is (y - pred)^2."""
    import tensorflow as tf

    model, x = keras.Sequential([keras.Input((2,)), layers.Dense(1)]), np.ones((4, 2), "float32")
    y = np.full((4, 1), 7.0, "float32")

    def gradient(loss):
        with tf.GradientTape() as tape:
            value = loss()
        return np.asarray(tape.gradient(value, model.layers[0].kernel))

    expected = gradient(lambda: tf.reduce_mean(((y - 3.0) / 5.0 - model(x)) ** 2))
    gate = Gate(model, Sample((x,), (), (True,), names=(SINGLE,)))
    gate.open()
    gate.set({}, {"output": TargetScaling((3.0,), (5.0,), 2)})
    np.testing.assert_allclose(
        gradient(lambda: tf.reduce_mean((y - model(x)) ** 2)), expected, rtol=1e-5
    )
    gate.close()
    assert "call" not in vars(model)


@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_inserted_layer_scales_in_the_users_own_object(kind, tmp_path):
    x = raw((8, 8, 3))
    if kind == "sequential":
        model = sequential(layers.Conv2D(4, 3, padding="same"), layers.Flatten())
    else:
        inputs = keras.Input((8, 8, 3), name="photo")
        hidden = layers.Concatenate()([layers.Conv2D(4, 3, padding="same")(inputs), inputs])
        model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(hidden)))
    model.compile("adam", "mse")
    affine = scaling_of(x)
    expected = model.predict(affine(x), verbose=0)
    assert can_rebuild(model)
    insert_at_ends(model, {declared_inputs(model)[0]: [normalization(affine)]}, {}, ExitStack())
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)
    model.fit(x, np.ones((24, 1), "float32"), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_subclass_cannot_be_rebuilt():
    assert not can_rebuild(Subclass())


def test_layers_that_compute_in_half_precision_take_no_scaling():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, dtype="mixed_float16")])
    sites = find_sites(model, np.ones((2, 4), "float32"))
    assert not sites.inputs[SINGLE].foldable and not sites.outputs[0].foldable
    assert "float16" in sites.inputs[SINGLE].blocked and "float16" in sites.outputs[0].blocked
