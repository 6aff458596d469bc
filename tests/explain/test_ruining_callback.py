"""Callbacks that set weights to NaN: which one, where, and that nobody is told twice."""

import explosions
import keras
import numpy as np
import pytest
from explosions.parts import ARGUMENTS, mlp, table

import nanfix
from nanfix.records.cause import Cause


def fit(*callbacks, **arguments):
    x, y = table()
    model = mlp(keras.optimizers.SGD(0.01), "mse")
    arguments = {**ARGUMENTS, "callbacks": list(callbacks), **arguments}
    return nanfix.fit(model, x, y, throw=False, **arguments)


class NormOfWeights(keras.callbacks.Callback):
    """Divides the weights of units by their norm; one is 0."""

    heard = 0

    def on_train_begin(self, logs=None):
        self.heard += 1

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            kernel = np.array(self.model.layers[0].kernel)
            kernel[:, 0] = 0.0
            with np.errstate(invalid="ignore"):
                self.model.layers[0].kernel.assign(kernel / np.linalg.norm(kernel, axis=0))


@pytest.mark.parametrize("calls", [1, 2])
def test_a_callback_between_steps_is_named_with_its_hook_and_line(calls):
    callback = NormOfWeights()
    report = fit(*[keras.callbacks.TerminateOnNaN()] * (calls - 1), callback)
    assert report.outcome is nanfix.Outcome.UNREPAIRABLE
    found = report.diagnosis.findings[0]
    assert found.cause is Cause.RUINING_CALLBACK
    line = NormOfWeights.on_train_batch_end.__code__.co_firstlineno
    assert f"NormOfWeights.on_train_batch_end at test_ruining_callback.py:{line}" in found.evidence
    assert callback.heard == 1
    assert all(np.isfinite(weights).all() for weights in report.model.get_weights())


def test_what_it_counts_goes_on_from_where_it_was():
    callback = explosions.AverageOfWeights()
    report = fit(callback)
    assert report.diagnosis.cause is Cause.RUINING_CALLBACK
    assert "AverageOfWeights.on_epoch_end" in report.diagnosis.findings[0].evidence
    assert str(report.diagnosis).count("only its author can say") == 1


def test_a_lambda_is_named_too():
    def ruin(epoch, logs):
        model.set_weights([weights * np.nan for weights in model.get_weights()])

    x, y = table()
    model = mlp(keras.optimizers.SGD(0.01), "mse")
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=ruin)]
    diagnosis = nanfix.diagnose(model, x, y, **{**ARGUMENTS, "callbacks": callbacks})
    assert "LambdaCallback.on_epoch_end at test_ruining_callback.py" in str(diagnosis)


def test_callbacks_of_keras_are_not_looked_at():
    """A failure that does not repeat stays one."""
    callbacks = [keras.callbacks.EarlyStopping("loss"), keras.callbacks.ReduceLROnPlateau("loss")]
    model, x, y, arguments = explosions.glitch()
    diagnosis = nanfix.diagnose(model, x, y, **{**arguments, "callbacks": callbacks})
    assert diagnosis.cause is Cause.TRANSIENT


class AtTheEnd(keras.callbacks.Callback):
    """Takes the average of no weights."""

    def __init__(self):
        super().__init__()
        self.ended = 0

    def on_train_end(self, logs=None):
        self.ended += 1
        with np.errstate(invalid="ignore"):
            nothing = np.float64(0.0) / np.float64(0.0)
        self.model.set_weights([weights * nothing for weights in self.model.get_weights()])


def test_weights_that_are_ruined_after_the_last_step_are_those_of_the_last_step():
    x, y = table()
    plain = mlp(keras.optimizers.SGD(0.01), "mse")
    history = plain.fit(x, y, **ARGUMENTS).history
    callback = AtTheEnd()
    report = fit(callback)
    assert report.outcome is nanfix.Outcome.UNREPAIRABLE
    assert "AtTheEnd.on_train_end" in report.diagnosis.findings[0].evidence
    assert callback.ended == 1
    assert report.history == history
    for weights, expected in zip(report.model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)


def test_a_repaired_model_that_is_ruined_at_the_end_has_the_weights_from_before():
    callback = AtTheEnd()
    model, x, y, arguments = explosions.learning_rate()
    report = nanfix.fit(model, x, y, throw=False, **{**arguments, "callbacks": [callback]})
    assert report.outcome is nanfix.Outcome.REPAIRED
    assert "on_train_end of AtTheEnd set weights" in str(report)
    assert callback.ended == 1
    assert all(np.isfinite(weights).all() for weights in model.get_weights())
