"""Trainings that stay finite and leave a model, or a validation, that is not."""

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from parameters import shortened

import nanfix
from nanfix.api.diagnose import diagnose
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase
from nanfix.report.report import Outcome

PLAIN = {"epochs": 3, "batch_size": 16, "verbose": 0}
HELD = {**PLAIN, "validation_split": 0.2}


def stacked(between, optimizer=None):
    """Return a model with the layers that `between` makes, all drawn with one seed."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), *between(), layers.Dense(1)])
    model.compile(optimizer or keras.optimizers.Adam(0.01), "mse")
    return model


def normalized(momentum, activation="tanh", scale=3.0):
    """A variance above 1 is where a momentum above 1 turns the moving one negative."""
    wide = keras.initializers.RandomNormal(stddev=scale, seed=0)
    return stacked(
        lambda: [
            layers.Dense(8, kernel_initializer=wide),
            layers.BatchNormalization(momentum=momentum, name="norm"),
            layers.Activation(activation),
        ]
    )


def swallow(x):
    """Return 0 for NaN, as the relu kernels of some CPUs do."""
    return explosions.rectified(x)


class Signed(layers.Layer):
    """Takes the logarithm of what it makes positive while it trains."""

    def call(self, x, training=False):
        return ops.log(ops.abs(x) + 0.1 if training else x)


class Summed(layers.Layer):
    """Adds up numbers that half precision has no room for, in inference."""

    def call(self, x, training=False):
        if training:
            return ops.sum(x, axis=-1, keepdims=True)
        return ops.sum(x * 3e4, axis=-1, keepdims=True) * ops.cast(1 / 3e4, x.dtype)


def signed():
    return layers.Dense(4), Signed(name="signed")


def states(model):
    return [np.array(variable) for variable in (*model.variables, *model.optimizer.variables)]


def is_finite(model, x):
    return bool(np.isfinite(model.predict(x, verbose=0)).all())


@pytest.mark.parametrize(
    ("momentum", "activation", "arguments"),
    shortened(
        [
            (momentum, activation, arguments)
            for momentum, activation in (
                (1.1, "tanh"),
                (1.1, swallow),
                (1.5, "relu"),
                (-2.0, "tanh"),
            )
            for arguments in (HELD, PLAIN)
        ],
        [(1.1, "tanh", HELD), (1.1, swallow, PLAIN), (1.5, "relu", HELD), (-2.0, "tanh", PLAIN)],
    ),
)
def test_statistics_at_fault_are_measured_anew_and_the_training_stays(
    momentum, activation, arguments
):
    x, y = explosions.table()
    plain = normalized(momentum, activation)
    history = plain.fit(x, y, **arguments).history
    model = normalized(momentum, activation)
    report = nanfix.fit(model, x, y, seed=0, **arguments)
    assert report.outcome is Outcome.REPAIRED and not report.trials
    assert report.diagnosis.cause is Cause.INFERENCE_STATISTICS
    assert report.diagnosis.place.layer == "norm"
    assert "negative" in str(report.diagnosis) and f"momentum of {momentum:g}" in str(report)
    assert [edit.strategy for edit in report.fix.edits] == ["sane-constants"]
    assert any("measured anew" in note for note in report.notes)
    assert report.history["loss"] == history["loss"]
    for before, after in zip(plain.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(before, after)
    norm = model.get_layer("norm")
    assert norm.momentum == 0.99 and (np.asarray(norm.moving_variance) > 0).all()
    assert is_finite(model, x)
    now, constant = model.evaluate(x, y, verbose=0), float(np.var(y))
    assert now < constant
    if "validation_split" in arguments:
        held = model.evaluate(x[128:], y[128:], verbose=0)
        assert report.history["val_loss"][-1] == pytest.approx(held, rel=1e-3)
    assert np.isfinite(model.fit(x, y, epochs=1, verbose=0).history["loss"]).all()


def test_fix_of_statistics_can_be_applied_from_the_start():
    x, y = explosions.table()
    report = nanfix.fit(normalized(1.1), x, y, seed=0, **HELD)
    again = nanfix.fit(normalized(1.1), x, y, fix=report.fix, **HELD)
    assert again.outcome is Outcome.REPAIRED
    assert np.isfinite(again.history["val_loss"]).all()


def test_statistics_that_overflow_in_training_are_named_and_repaired():
    x, y = explosions.table()
    model = normalized(8.0, scale=1.0)
    report = nanfix.fit(model, x, y, seed=0, **{**PLAIN, "epochs": 8})
    assert report.diagnosis.cause is Cause.INFERENCE_STATISTICS
    assert report.diagnosis.place.layer == "norm"
    assert report.outcome is Outcome.REPAIRED and is_finite(model, x)
    assert [edit.strategy for edit in report.fix.edits] == ["sane-constants"]


@pytest.mark.parametrize("arguments", [HELD, PLAIN], ids=["validated", "not validated"])
def test_half_precision_that_overflows_in_inference_alone_is_raised(arguments):
    x, y = explosions.table()
    model = stacked(lambda: [layers.Dense(4), Summed(dtype="mixed_float16", name="sum")])
    report = nanfix.fit(model, x, y, seed=0, **arguments)
    assert report.diagnosis.cause is Cause.REDUCED_PRECISION and not report.trials
    assert report.diagnosis.place.layer == "sum" and report.diagnosis.rows
    assert report.outcome is Outcome.REPAIRED and is_finite(model, x)
    assert [edit.strategy for edit in report.fix.edits] == ["raise-precision"]


@pytest.mark.parametrize(
    ("arguments", "phase"),
    [(HELD, Phase.VALIDATION), (PLAIN, Phase.INFERENCE)],
    ids=["validated", "not validated"],
)
def test_layer_that_fails_in_inference_alone_is_named_and_the_run_not_called_healthy(
    arguments, phase
):
    x, y = explosions.table()
    plain = stacked(signed)
    history = plain.fit(x, y, **arguments).history
    model = stacked(signed)
    report = nanfix.fit(model, x, y, throw=False, seed=0, **arguments)
    diagnosis = report.diagnosis
    assert report.outcome is Outcome.EXHAUSTED and not report.fix
    assert diagnosis.cause is Cause.INFERENCE_ONLY
    assert (diagnosis.place.phase, diagnosis.place.layer) == (phase, "signed")
    assert diagnosis.place.operation == "Log"
    assert "test_validation_repair.py" in diagnosis.place.source
    assert "Clean the validation data" not in str(report)
    part = x[128:] if arguments is HELD else x
    bad = np.isnan(plain.predict(part, verbose=0)).any(axis=1)
    assert diagnosis.rows == tuple(np.flatnonzero(bad))
    np.testing.assert_equal(report.history, history)
    for before, after in zip(states(plain), states(model), strict=True):
        np.testing.assert_array_equal(before, after)


def test_last_step_that_throws_the_weights_away_is_not_called_healthy():
    x, y = explosions.table(rows=16)
    model = stacked(
        lambda: [layers.Dense(8, activation="relu") for _ in range(3)],
        optimizer=keras.optimizers.SGD(1e14),
    )
    report = nanfix.fit(model, x, y, throw=False, seed=0, **{**PLAIN, "epochs": 1})
    assert report.outcome is Outcome.EXHAUSTED
    assert report.diagnosis.cause is Cause.LEARNING_RATE


def log_of_target(y, p):
    return ops.square(ops.log(y) - p)


@pytest.mark.parametrize("what", ["targets", "inputs"])
def test_validation_data_of_a_kind_that_training_never_saw_are_shown_by_row(what):
    x, y = explosions.table()
    y = np.abs(y) + 0.1
    held_x, held_y = x[:40].copy(), y[:40].copy()
    if what == "targets":
        held_y[[3, 37]] = -1.0
    else:
        held_x[[3, 37]] = 3e38
    model = stacked(lambda: [layers.Dense(8, activation="relu")])
    model.compile("adam", log_of_target)
    report = nanfix.fit(model, x, y, seed=0, validation_data=(held_x, held_y), **PLAIN)
    diagnosis = report.diagnosis
    assert report.outcome is Outcome.HEALTHY and diagnosis.cause is Cause.VALIDATION_ONLY
    assert diagnosis.rows == (3, 37) and diagnosis.rows_of == "the validation data"
    assert diagnosis.place.operation == ("Log" if what == "targets" else "MatMul")


def test_diagnose_names_the_same_and_changes_nothing():
    x, y = explosions.table()
    model = normalized(1.1)
    before = states(model)
    diagnosis = diagnose(model, x, y, **PLAIN)
    assert diagnosis.cause is Cause.INFERENCE_STATISTICS and "prediction" in str(diagnosis)
    for left, right in zip(before, states(model)[: len(before)], strict=True):
        np.testing.assert_array_equal(left, right)


class Counting(layers.Layer):
    """Counts how often its code is run eagerly, that is outside of training."""

    runs = 0

    def call(self, x):
        if tf.executing_eagerly():
            Counting.runs += 1
        return x


class CountingTraining(Counting):
    """The same, for a layer that is told whether it trains."""

    def call(self, x, training=False):
        return super().call(x)


def residual():
    norm = layers.BatchNormalization(momentum=0.999)
    return (layers.Dense(8, activation="relu"), norm, layers.Dropout(0.5), Counting())


@pytest.mark.parametrize("arguments", [HELD, PLAIN], ids=["validated", "not validated"])
@pytest.mark.parametrize(
    ("between", "looked"),
    [
        (residual, False),
        (lambda: (layers.BatchNormalization(momentum=0.0), Counting()), False),
        (lambda: (layers.Dense(8, activation="tanh"), Counting()), False),
        (lambda: (layers.Dense(8, dtype="mixed_float16"), Counting()), True),
        (lambda: (layers.BatchNormalization(), CountingTraining()), True),
    ],
)
def test_healthy_models_come_out_as_keras_makes_them(between, looked, arguments):
    x, y = explosions.table()
    plain = stacked(between)
    history = plain.fit(x, y, **arguments).history
    model = stacked(between)
    Counting.runs = 0
    report = nanfix.fit(model, x, y, seed=0, **arguments)
    assert Counting.runs == (looked and arguments is PLAIN)
    assert report.outcome is Outcome.HEALTHY and report.diagnosis is None and not report.notes
    assert report.history == history
    for before, after in zip(states(plain), states(model), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("momentum", "told"), [(1.0, "never move"), (1.05, "run away")])
def test_statistics_that_are_finite_but_not_those_of_the_data_are_told(momentum, told):
    x, y = explosions.table()
    plain, model = normalized(momentum, scale=0.3), normalized(momentum, scale=0.3)
    plain.fit(x, y, **HELD)
    report = nanfix.fit(model, x, y, seed=0, **HELD)
    assert report.outcome is Outcome.HEALTHY and not report.fix
    assert any(told in note and "norm" in note for note in report.notes)
    for before, after in zip(states(plain), states(model), strict=True):
        np.testing.assert_array_equal(before, after)


def test_stream_without_validation_is_looked_at_without_being_drawn_from():
    x, y = explosions.table()
    drawn = []

    def batches():
        for start in range(0, 160, 16):
            drawn.append(start)
            yield x[start : start + 16], y[start : start + 16]

    model = stacked(signed)
    report = nanfix.fit(
        model, batches(), throw=False, seed=0, epochs=1, steps_per_epoch=8, verbose=0
    )
    assert report.diagnosis.cause is Cause.INFERENCE_ONLY and len(drawn) <= 10
    assert report.diagnosis.place.layer == "signed"
