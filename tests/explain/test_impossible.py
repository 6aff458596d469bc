"""Losses that are finite for no prediction, and such that are for some."""

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from guarding import line_of
from keras import layers, ops

import nanfix
from nanfix.api.diagnose import diagnose
from nanfix.explain.impossible import hopeless_training
from nanfix.explain.microscope import Observation
from nanfix.records.diagnosis import Phase, Place
from nanfix.report.report import Outcome
from nanfix.testing import contract

FAILING = Observation(Place(Phase.LOSS, operation="Log", source="train.py:7"), Phase.LOSS, "Log")

IMPOSSIBLE = {
    "log of what is negative": lambda y, p: ops.log(-1.0 - ops.square(p - y)),
    "log of minus a square": lambda y, p: ops.mean(ops.log(-ops.square(y - p)), axis=-1),
    "root of what is negative": lambda y, p: ops.sqrt(-1.0 - ops.abs(p)) * p,
    "log of negative targets": lambda y, p: ops.square(ops.log(y - 100.0) - p),
    "division by zero": lambda y, p: ops.square(p - y) / ops.sum(y * 0.0),
    "zero over zero": lambda y, p: ops.square(p - y) * (y - y) / (y - y),
    "density that underflows": lambda y, p: -ops.log(ops.exp(-1e4 - ops.square(y - p))),
    "NaN that is added": lambda y, p: ops.square(p - y) + np.nan,
    "acosh below 1": lambda y, p: ops.mean(tf.acosh(ops.tanh(p) * 0.5), axis=-1),
    "root as a power": lambda y, p: ops.power(-1.0 - ops.square(p), 0.5),
    "log of a sine less 2": lambda y, p: ops.mean(ops.log(ops.sin(p) - 2.0), axis=-1),
    "one number for all rows": lambda y, p: ops.mean(ops.log(-1.0 - ops.square(p - y))),
}
POSSIBLE = {
    "log": lambda y, p: -ops.mean(ops.log(p), axis=-1),
    "log far away": lambda y, p: ops.square(ops.log(p - 50.0) - y),
    "log in an interval": lambda y, p: -ops.log(p - 2.0) - ops.log(3.0 - p),
    "log of minus": lambda y, p: ops.square(ops.log(-p) - y),
    "roots": lambda y, p: ops.square(ops.sqrt(p) - ops.sqrt(ops.abs(y))),
    "narrow density": lambda y, p: -ops.log(ops.exp(-ops.square(100.0 * (10.0 * y + 30.0 - p)))),
    "near the target": lambda y, p: -ops.log(1e-4 - ops.square(y - p)),
    "power": lambda y, p: ops.power(p, 1.5),
    "acos": lambda y, p: tf.acos(3.0 * p),
    "one number for all rows": lambda y, p: ops.mean(ops.log(p)),
    "of some targets": lambda y, p: ops.square(ops.log(y) - p),
    "of few targets": lambda y, p: ops.square(ops.log(y - 1.5) - p),
    "of few targets, masked": lambda y, p: (
        ops.sum(ops.where(y > 1.5, ops.square(y - p), 0.0)) / ops.sum(ops.cast(y > 1.5, "float32"))
    ),
    "spread over rows": lambda y, p: ops.log(ops.var(p)) + ops.square(p - y),
    "always": "mse",
}
SEVERAL = {
    "deviation": lambda y, p: ops.log(p[:, 1:2]) + ops.square((y - p[:, :1]) / p[:, 1:2]),
    "in order": lambda y, p: -ops.mean(ops.log(p[:, 1:] - p[:, :-1]), axis=-1),
    "determinant": lambda y, p: -tf.linalg.logdet(ops.reshape(p, (-1, 3, 3))),
    "signs": lambda y, p: ops.log(p[:, 0]) + ops.log(-p[:, 1]) + ops.log(p[:, 2] - 100 * p[:, 0]),
    "shares": lambda y, p: ops.log(1.001 - ops.sum(p, axis=-1)) + ops.sum(ops.log(p), axis=-1),
}


def run_of(loss, last=None, outputs=1):
    model = explosions.mlp(loss=loss, last=last, outputs=outputs)
    return contract.run_of(model, *explosions.table(rows=256))


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_loss_without_a_finite_prediction_is_impossible(name):
    reason = hopeless_training(run_of(IMPOSSIBLE[name]), FAILING)
    assert reason is not None and "for Log at train.py:7" in reason and "author" in reason


def divergence(y, p):
    return ops.sum(y * ops.log(y / ops.softmax(p)), axis=-1)


def far_density(y, p):
    return -ops.log(ops.exp(-1e4 - ops.mean(ops.square(y - p), axis=-1)))


@pytest.mark.parametrize("loss", [divergence, far_density])
def test_loss_that_is_finite_in_its_stable_form_is_not_impossible(loss):
    y = np.eye(3, dtype="float32")[np.arange(64) % 3]
    model = explosions.mlp(loss=loss, outputs=3)
    run = contract.run_of(model, explosions.table(rows=64)[0], y)
    place = Place(Phase.LOSS, operation="Log", source=line_of(loss, 1))
    assert hopeless_training(run, Observation(place, Phase.LOSS, "Log")) is None
    elsewhere = Observation(Place(Phase.LOSS, None, "Log", "train.py:7"), Phase.LOSS, "Log")
    assert hopeless_training(run, elsewhere) is not None


@pytest.mark.parametrize("name", POSSIBLE)
def test_loss_with_a_finite_prediction_is_not(name):
    assert hopeless_training(run_of(POSSIBLE[name]), FAILING) is None


@pytest.mark.parametrize("name", SEVERAL)
def test_loss_of_several_outputs_is_not_impossible_where_some_are_finite(name):
    assert hopeless_training(run_of(SEVERAL[name], outputs=9), FAILING) is None


@pytest.mark.parametrize(
    ("shift", "last", "impossible"),
    [
        (-1.5, "tanh", True),
        (-0.5, "tanh", False),
        (-1.5, None, False),
        (-1.5, "softplus", False),
        (0.0, "relu", False),
        (-1.5, "sigmoid", True),
    ],
)
def test_predictions_are_those_in_reach_of_the_last_layer(shift, last, impossible):
    run = run_of(lambda y, p: ops.square(ops.log(p + shift) - y), last)
    assert (hopeless_training(run, FAILING) is not None) is impossible


def test_failure_elsewhere_is_not_judged():
    run = run_of(IMPOSSIBLE["log of what is negative"])
    for failing in (
        Observation(Place(Phase.FORWARD), Phase.FORWARD, "Log"),
        Observation(Place(Phase.GRADIENT), Phase.GRADIENT, "Log"),
        Observation(Place(Phase.LOSS), Phase.LOSS, "Log", layer=layers.Dense(1)),
        Observation(error="refused"),
    ):
        assert hopeless_training(run, failing) is None


def test_loss_that_depends_on_the_weights_is_not_judged():
    model = explosions.mlp()
    kernel = model.layers[0].kernel
    model.compile("sgd", lambda y, p: ops.log(-ops.square(kernel[0, 0])) + 0.0 * p)
    run = contract.run_of(model, *explosions.table(rows=64))
    assert hopeless_training(run, FAILING) is None


def test_model_without_a_weight_to_train_cannot_be_repaired():
    model = explosions.mlp(loss=POSSIBLE["log"])
    model.trainable = False
    model.compile("sgd", POSSIBLE["log"])
    reason = hopeless_training(contract.run_of(model, *explosions.table(rows=64)), FAILING)
    assert reason is not None and "no weight that is trained" in reason


def log_of_nothing(y, p):
    return ops.mean(ops.log(-1.0 - ops.square(p - y)), axis=-1)


def test_run_with_such_a_loss_ends_unrepairable_with_operation_and_line():
    x, y = explosions.table()
    model = explosions.mlp("adam", log_of_nothing)
    report = nanfix.fit(model, x, y, throw=False, seed=0, epochs=2, verbose=0)
    assert report.outcome is Outcome.UNREPAIRABLE and report.trials == ()
    line = log_of_nothing.__code__.co_firstlineno + 1
    assert f"no prediction makes the loss finite for Log at test_impossible.py:{line}" in str(
        report
    )
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize("what", ["target", "weight", "neither"])
def test_rows_of_which_none_is_left_cannot_be_learned_from(what):
    x, y = explosions.table()
    inputs = keras.Input((4,))
    outputs = [layers.Dense(1, name=name)(inputs) for name in "ab"]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", ["mse", "mse"])
    other, weight = y.copy(), np.ones(160, "float32")
    if what == "weight":
        weight[:] = np.nan
    else:
        other[: None if what == "target" else 159] = np.nan
    diagnosis = diagnose(model, x, [y, other], sample_weight=[weight, weight], verbose=0)
    told = {"target": "no row has a finite target", "weight": "no row has a finite sample weight"}
    assert (diagnosis.hopeless or "").startswith(told.get(what, "")) and (
        bool(diagnosis.hopeless) is (what != "neither")
    )


BAD = {"inputs": 0, "targets": 1, "weights": 2}


def stream(bad, which):
    """Batches of 16 rows; in those that `which` tells everything `bad` is NaN."""
    x, y = explosions.table(rows=320)
    parts = [x, y, np.ones(320, "float32")]
    spoiled = np.isin(np.arange(320) // 16, which)
    parts[BAD[bad]] = parts[BAD[bad]].copy()
    parts[BAD[bad]][spoiled] = np.nan
    return tf.data.Dataset.from_tensor_slices(tuple(parts)).batch(16)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("which", [[0], [7]], ids=["first", "later"])
def test_a_single_batch_of_a_stream_that_is_all_bad_leaves_the_others(bad, which):
    model = explosions.mlp(keras.optimizers.Adam(0.01))
    found = diagnose(model, stream(bad, which), verbose=0)
    assert found.hopeless is None and found.is_of_data


@pytest.mark.parametrize("bad", BAD)
def test_a_stream_that_is_all_bad_is_hopeless(bad):
    model = explosions.mlp(keras.optimizers.Adam(0.01))
    assert diagnose(model, stream(bad, range(20)), verbose=0).hopeless


def test_weights_that_are_nan_in_one_batch_of_a_stream_are_left_out():
    model = explosions.mlp(keras.optimizers.Adam(0.01))
    report = nanfix.fit(model, stream("weights", [7]), epochs=3, verbose=0, seed=0)
    assert report.outcome is Outcome.REPAIRED
    assert [edit.strategy for edit in report.fix.edits] == ["drop-nonfinite-rows"]
