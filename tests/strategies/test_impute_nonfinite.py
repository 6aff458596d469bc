"""impute-nonfinite: the medians, what passes through untouched, and holes filled inside
the model at the end.
"""

import json
import subprocess
import sys
from functools import cache

import explosions
import keras
import numpy as np
import pytest
import structures
import tensorflow as tf
from keras import layers
from sklearn.impute import SimpleImputer

import nanfix
from nanfix import Outcome
from nanfix.changes.scaling_call import Gate
from nanfix.model.addresses import SINGLE
from nanfix.model.run import Sample
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.strategies import impute_nonfinite
from nanfix.testing import contract, repairs

NAME = "impute-nonfinite"
DIAGNOSIS = contract.diagnosis(Cause.NONFINITE_INPUT)
NAN, INF = np.nan, np.inf


def fills(model, x):
    model.compile("sgd", "mse")
    run = contract.run_of(model, x, np.zeros((len(keras.tree.flatten(x)[0]), 1), "float32"))
    (params,) = contract.levels(get(NAME), DIAGNOSIS, run)
    return params["fills"]


def dense(*shape):
    return keras.Sequential([keras.Input(shape), layers.Dense(1)])


def test_fills_are_the_medians_of_the_finite_values():
    x = np.float32([[1, NAN, -INF, 7], [2, NAN, 10, 7], [NAN, NAN, 20, 7], [9, INF, 40, 7]])
    assert fills(dense(4), x) == {"input[0]": [2.0, 0.0, 10.0, 7.0]}


@pytest.mark.parametrize(
    ("column", "fill"),
    [
        ([1, 2, 3, 4, -INF], 1.0),
        ([1, 2, 3, 4, INF], 4.0),
        ([1, 2, 3, 4, NAN], 2.5),
        ([1, 2, 3, 4, INF, -INF], 2.5),
        ([1, 2, 3, 4, NAN, -INF], 2.5),
        ([1, 2, 3, 4, 1e6, INF], 3.0),
        ([1, 2, 3, 4, 1e300], 4.0),
        ([INF, INF], 0.0),
    ],
    ids=str,
)
def test_what_is_infinite_to_one_side_gets_the_end_of_that_side(column, fill):
    """The logarithm of 0 is smaller than all others; an end that lies far out is none."""
    assert impute_nonfinite.fills_of(np.float64(column)[:, None]) == [fill]


def test_features_are_the_last_axis_whatever_the_rank():
    x = np.float32([[[1, NAN], [3, 5]], [[2, 6], [NAN, 10]]])
    assert fills(dense(2, 2), x) == {"input[0]": [2.0, 6.0]}
    assert fills(dense(1), np.float32([1, NAN, 4])) == {"input[0]": [2.5]}


def test_every_float_input_has_its_own_fills():
    first, second, ids = (
        keras.Input((2,), name="a"),
        keras.Input((1,), name="b"),
        keras.Input((1,), name="c", dtype="int32"),
    )
    looked_up = layers.Flatten()(layers.Embedding(4, 2)(ids))
    model = keras.Model(
        {"a": first, "b": second, "c": ids},
        layers.Dense(1)(layers.Concatenate()([first, second, looked_up])),
    )
    x = {
        "a": np.float32([[1, NAN], [3, 5]]),
        "b": np.float32([[4], [NAN]]),
        "c": np.int32([[1], [2]]),
    }
    assert fills(model, x) == {"a": [2.0, 5.0], "b": [4.0]}


@pytest.mark.parametrize("build", [structures.Subclass, explosions.mlp])
def test_applies_where_the_inputs_are_floats(build):
    model, (x, y) = build(), explosions.table(rows=8)
    model.compile("sgd", "mse")
    assert contract.applies(get(NAME), DIAGNOSIS, contract.run_of(model, x, y))
    assert not contract.applies(get(NAME), DIAGNOSIS, contract.run_of(model, x.astype(int), y))


def test_gate_passes_everything_unchanged_until_it_fills():
    x = np.float32([[0.1, NAN], [INF, -7.0]])
    model = keras.Sequential([keras.Input((2,)), layers.Identity()])
    gate = Gate(model, Sample((x,), (), (False,), x, (True,), names=(SINGLE,)))
    gate.open()
    step = tf.function(lambda values: model(values))
    assert step(x).numpy().tobytes() == x.tobytes()
    gate.fill({SINGLE: (5.0, 6.0)})
    assert step(x).numpy().tolist() == [[np.float32(0.1), 6.0], [5.0, -7.0]]
    gate.fill({})
    assert step(x).numpy().tobytes() == x.tobytes()
    assert step.experimental_get_tracing_count() == 1


def filled(report, x):
    (numbers,) = report.fix.edits[0].params["fills"].values()
    return np.where(np.isfinite(x), x, np.float32(numbers))


@cache
def repaired(build, strategies=(NAME,)):
    """Repair an explosion, once for all tests that look at it; return what the repaired model
    predicted, too.
    """
    model, x, y, arguments = build()
    report = nanfix.fit(model, x, y, strategies=strategies, **arguments)
    assert report.model is model
    return report, x, y, arguments, model.predict(x, verbose=0)


def test_repaired_model_takes_inputs_with_holes():
    report, x, y, _, predicted = repaired(explosions.missing_cells)
    model, weights = report.model, report.model.get_weights()
    assert report.outcome is Outcome.REPAIRED and len(report.trials) == 1
    assert report.diagnosis.rows == (70, 90)
    assert np.isfinite(predicted).all()
    np.testing.assert_array_equal(predicted, model.predict(filled(report, x), verbose=0))
    history = model.fit(x, y, epochs=1, verbose=0).history  # a plain fit goes on with it
    assert np.isfinite(history["loss"]).all()
    model.set_weights(weights)


def test_training_equals_one_on_filled_data():
    report, x, y, arguments, predicted = repaired(explosions.missing_cells)
    assert report.trials[0].started_from == "initial weights"
    plain, *_ = explosions.missing_cells()
    history = plain.fit(filled(report, x), y, **arguments).history
    np.testing.assert_allclose(report.history["loss"], history["loss"], rtol=1e-5)
    np.testing.assert_allclose(
        predicted,
        plain.predict(filled(report, x), verbose=0),
        rtol=1e-4,
        atol=1e-5,
    )


def test_holes_are_filled_before_the_inputs_are_scaled():
    model, x, y, arguments = explosions.unscaled_inputs()
    x[70, 2], x[90, 0] = NAN, INF
    report = nanfix.fit(
        model, x, y, strategies=[NAME, "scale-inputs"], **{**arguments, "shuffle": False}
    )
    assert [edit.strategy for edit in report.fix.edits] == [NAME, "scale-inputs"]
    assert "Imputation" in report.notes[0] and "as a Normalization layer" in report.notes[0]
    predicted = model.predict(x, verbose=0)
    np.testing.assert_allclose(predicted, model.predict(filled(report, x), verbose=0), rtol=1e-6)
    assert np.isfinite(predicted).all() and report.history["val_loss"][-1] < np.var(y[128:])


def test_functional_model_where_scaling_cannot_be_folded():
    _, x, y, arguments = explosions.missing_cells()
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    hidden = layers.Dense(8, activation="relu")(layers.Add()([first, second]))
    model = keras.Model({"first": first, "second": second}, layers.Dense(1)(hidden))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    named = {"first": x, "second": x * 3000.0 + 1000.0}
    report = nanfix.fit(
        model, named, y, strategies=[NAME, "scale-inputs"], **{**arguments, "validation_split": 0.0}
    )
    assert [edit.strategy for edit in report.fix.edits] == [NAME, "scale-inputs"]
    assert report.notes[0].startswith(
        "Imputation put into the model, in front of its first layer. Scaling put into the model as "
        "a Normalization layer; "
    )
    assert float(np.mean((model.predict(named, verbose=0) - y) ** 2)) < np.var(y)


LOAD = """
import json, sys
sys.modules["nanfix"] = None  # as where it is not installed
import keras, numpy as np, tensorflow as tf
tf.config.optimizer.set_experimental_options(json.loads(sys.argv[1]))  # graphs as in the tests
for folder in sys.argv[2:]:
    model = keras.models.load_model(folder + "/model.keras")
    np.save(folder + "/predicted.npy", model.predict(np.load(folder + "/x.npy"), verbose=0))
"""


def test_saved_models_predict_the_same_where_nanfix_is_not_installed(tmp_path):
    found = {
        "holes": repaired(explosions.missing_cells),
        "holes and targets": repaired(explosions.missing_cells_and_large_targets, None),
    }
    for name, (report, x, *_) in found.items():
        assert NAME in {edit.strategy for edit in report.fix.edits}
        (tmp_path / name).mkdir()
        report.model.save(tmp_path / name / "model.keras")
        np.save(tmp_path / name / "x.npy", x)
    folders = [str(tmp_path / name) for name in found]
    graphs = json.dumps(tf.config.optimizer.get_experimental_options())
    subprocess.run([sys.executable, "-c", LOAD, graphs, *folders], check=True, capture_output=True)
    for name, (*_, predicted) in found.items():
        np.testing.assert_allclose(np.load(tmp_path / name / "predicted.npy"), predicted, rtol=1e-6)


@pytest.mark.soak
def test_is_as_good_as_medians_filled_in_by_hand():
    x, y = explosions.noisy_table()
    rng = np.random.default_rng(0)
    x[rng.choice(1024, size=100, replace=False), rng.integers(0, 4, size=100)] = NAN

    def imputed(model, x, y, arguments):
        imputer = SimpleImputer(strategy="median").fit(x[: repairs.training_rows(y, arguments)])
        return repairs.trained(model, imputer.transform(x), y, arguments)

    report, *_ = repairs.check_repair(
        NAME, explosions.with_data(explosions.missing_cells, x, y, epochs=6), imputed
    )
    assert np.isfinite(report.model.predict(x, verbose=0)).all()
