"""nanfix.diagnose explains and changes nothing."""

import random

import explosions
import keras
import numpy as np
import pytest

import nanfix
from nanfix import Cause
from nanfix.model.snapshot import state_variables
from nanfix.records.errors import InputError


def states(model):
    """Return every number that a training starts from: variables, and the random states."""
    variables = [np.asarray(variable).tolist() for variable in state_variables(model)]
    return variables, random.getstate(), np.random.get_state()[1].tolist()


BUILDS = (
    explosions.learning_rate,
    explosions.missing_cells,
    explosions.validation_hole,
    explosions.healthy,
    explosions.feedback,
)


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_nothing_is_changed(build):
    model, x, y, arguments = build()
    model.optimizer.build(model.trainable_variables)
    data = x.copy(), y.copy()
    before = states(model)
    nanfix.diagnose(model, x, y, **arguments)
    assert states(model) == before
    np.testing.assert_array_equal(x, data[0])
    np.testing.assert_array_equal(y, data[1])
    assert model.train_function is None and model.stop_training is False


def test_training_after_a_diagnosis_is_the_training_without():
    model, x, y, arguments = explosions.healthy()
    plain = model.fit(x, y, **arguments).history
    model, x, y, arguments = explosions.healthy()
    assert nanfix.diagnose(model, x, y, **arguments) is None
    assert model.fit(x, y, **arguments).history == plain


def test_callbacks_write_no_file_and_forget_what_they_saw(tmp_path):
    model, x, y, arguments = explosions.learning_rate()
    stopping = keras.callbacks.EarlyStopping()
    before = dict(vars(stopping))
    writers = [
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    assert (
        nanfix.diagnose(model, x, y, **{**arguments, "callbacks": [stopping, *writers]}) is not None
    )
    assert not any(tmp_path.iterdir())
    assert {name: vars(stopping)[name] for name in ("wait", "best", "stopped_epoch")} == {
        name: before[name] for name in ("wait", "best", "stopped_epoch")
    }


def test_validation_alone_is_explained():
    model, x, y, arguments = explosions.validation_hole()
    diagnosis = nanfix.diagnose(model, x, y, **arguments)
    assert (
        diagnosis is not None
        and diagnosis.cause is Cause.VALIDATION_ONLY
        and diagnosis.rows == (3,)
    )


def test_hopeless_data_are_said_to_be():
    model, x, y, arguments = explosions.every_target_nan()
    told = str(nanfix.diagnose(model, x, y, **arguments))
    assert "No change to model or training can help" in told


def test_generator_is_explained_too():
    model, x, y, _ = explosions.learning_rate()
    batches = ((x[i : i + 16], y[i : i + 16]) for i in [*range(0, 128, 16)] * 2)
    diagnosis = nanfix.diagnose(model, batches, steps_per_epoch=8, epochs=2, verbose=0)
    assert diagnosis is not None and diagnosis.cause is Cause.LEARNING_RATE


def test_model_that_is_not_compiled_is_refused():
    with pytest.raises(InputError, match=r"Expected: .* Received: "):
        nanfix.diagnose(keras.Sequential([keras.layers.Dense(1)]), np.zeros((4, 2)), np.zeros(4))


def test_the_line_that_made_the_data_non_finite_is_named_where_the_variables_show_it():
    model, table, y, arguments = explosions.healthy()
    with np.errstate(divide="ignore"):
        x = np.log(table * 0.0)
    found = nanfix.diagnose(model, x, y, **arguments)
    (origin,) = found.origins
    assert origin.at.text == "x = np.log(table * 0.0)" and origin.finite == ("table",)
    assert f"{origin}." in str(found).splitlines()
    report = nanfix.fit(model, x, y, throw=False, verbose=0)
    assert report.diagnosis.origins == (origin,)
