"""scale-data: a training step of the user's own sees scaled rows, in every form of data."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import nanfix
from nanfix.changes.maps import Affine
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.report.report import Outcome
from nanfix.testing import contract

NAME = "scale-data"
DIAGNOSIS = contract.diagnosis(Cause.UNSCALED_INPUT)


class Coder(keras.Model):
    """An autoencoder in two parts, trained by a step that calls these alone."""

    def __init__(self):
        super().__init__()
        self.encoder = keras.Sequential([keras.Input((6,)), layers.Dense(4)])
        self.decoder = keras.Sequential([keras.Input((4,)), layers.Dense(6, "sigmoid")])

    def train_step(self, x):
        with tf.GradientTape() as tape:
            code = self.encoder(x)
            bits = keras.losses.binary_crossentropy(x, self.decoder(code))
            loss = ops.mean(bits) + 0.01 * ops.mean(ops.exp(code) - code)
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


class WideAndDeep(keras.Model):
    """Two parts with an optimizer each, of which a step sees the outputs alone."""

    def __init__(self):
        super().__init__()
        self.wide = layers.Dense(1)
        self.deep = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(1)])

    def compile(self, wide, deep):
        super().compile()
        self.wide_optimizer, self.deep_optimizer = wide, deep

    def call(self, x):
        return ops.sigmoid(self.logit(x))

    def logit(self, x):
        return self.wide(x["columns"]) + self.deep(x["more"])

    def train_step(self, data):
        x, y = data
        with tf.GradientTape(persistent=True) as tape:
            logit = self.logit(x)
            loss = ops.mean(ops.log1p(ops.exp(logit)) - y * logit)
        for part, optimizer in (
            (self.wide, self.wide_optimizer),
            (self.deep, self.deep_optimizer),
        ):
            weights = part.trainable_variables
            optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def coder():
    keras.utils.set_random_seed(0)
    model = Coder()
    model.compile(keras.optimizers.Adam(0.01))
    x = np.random.default_rng(0).beta(0.5, 0.5, (256, 2)) @ np.full((2, 6), 500.0)
    return model, x.astype("float32")


def wide_and_deep():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(320, 4)).astype("float32")
    y = (x[:, :1] + x[:, 2:3] > 0).astype("float32")
    model = WideAndDeep()
    model.compile(keras.optimizers.SGD(0.1), keras.optimizers.Adam(0.01))
    return model, {"columns": 9000 + 2500 * x[:, :2], "more": 300 + 80 * x[:, 2:]}, y


def situations():
    return {
        "autoencoder": contract.run_of(*coder(), None),
        "wide and deep": contract.run_of(*wide_and_deep()),
    }


def test_what_the_loss_compares_with_is_brought_to_0_to_1():
    model, x = coder()
    run = contract.run_of(model, x, None)
    (params,) = contract.levels(get(NAME), DIAGNOSIS, run)
    assert params["scaler"] == "range" and not params["folds"]
    rows = get(NAME).apply(run, Plan(), **params).of(RowFilter)
    ((index, affine),) = rows.scaled
    assert index == 0 and affine.center == pytest.approx(x.min(axis=0))
    assert affine.scale == pytest.approx(np.ptp(x, axis=0))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 6), "uint8")
    levels = contract.levels(get(NAME), DIAGNOSIS, contract.run_of(model, pixels, None))
    assert [each["scaler"] for each in levels] == ["bytes", "range"]


def test_what_layers_alone_take_is_scaled_as_inside_a_model():
    run = contract.run_of(*wide_and_deep())
    params = contract.levels(get(NAME), DIAGNOSIS, run)
    assert [each["scaler"] for each in params] == ["robust", "standard"]
    assert all(each["folds"] and len(each["inputs"]) == 2 for each in params)


def test_a_model_that_takes_up_a_scaling_needs_none_before():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    run = contract.run_of(model, np.full((4, 2), 1e5, "float32"), np.ones((4, 1)))
    assert not contract.applies(get(NAME), DIAGNOSIS, run)


@pytest.mark.parametrize("streamed", [False, True])
def test_an_autoencoder_learns_as_on_scaled_data(streamed):
    model, x = coder()
    scaled = (x - x.min(axis=0)) / np.ptp(x, axis=0)
    by_hand = model.fit(scaled, shuffle=False, epochs=8, verbose=0).history["loss"][-1]
    model, x = coder()
    given = tf.data.Dataset.from_tensor_slices(x).batch(32) if streamed else x
    report = nanfix.fit(model, given, shuffle=False, epochs=8, verbose=0)
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert report.diagnosis.cause is Cause.UNSCALED_INPUT
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert report.history["loss"][-1] == pytest.approx(by_hand, rel=0.02)
    assert "the loss is that of scaled inputs" in str(report)
    assert "The model takes rows that are scaled" in str(report)


def test_a_wide_and_a_deep_part_take_raw_rows_afterwards():
    model, x, y = wide_and_deep()
    report = nanfix.fit(model, x, y, epochs=20, verbose=0)
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert np.mean((model.predict(x, verbose=0) > 0.5) == (y > 0.5)) > 0.9
    assert "the model takes raw rows" in str(report)


def test_a_known_fix_scales_and_folds_alike():
    model, x, y = wide_and_deep()
    trained = nanfix.fit(model, x, y, epochs=2, verbose=0)
    fresh, _, _ = wide_and_deep()
    applied = nanfix.apply(fresh, trained.fix, x, y, epochs=2, verbose=0)
    assert applied.history["loss"] == trained.history["loss"]
    np.testing.assert_array_equal(fresh.predict(x, verbose=0), model.predict(x, verbose=0))


def test_the_scaling_stays_with_a_model_that_it_is_folded_into():
    scaled = ((0, Affine((1.0,), (2.0,))),)
    stays, goes = RowFilter(scaled=scaled, folds=True), RowFilter(scaled=scaled)
    assert stays.lasts > goes.lasts
