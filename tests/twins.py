"""Two models trained alike, one by Keras and one watched, and what of them is compared."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np

import nanfix
from nanfix import Outcome
from nanfix.records.diagnosis import Onset


def optimizers(model):
    return [value for value in vars(model).values() if isinstance(value, keras.Optimizer)]


def state(model):
    """Return all that a training changes, metrics apart: weights, statistics, seeds, and every
    optimizer's variables.
    """
    metrics = {id(variable) for variable in model.metrics_variables}
    own = [variable for variable in model.variables if id(variable) not in metrics]
    return [
        np.asarray(v).copy()
        for v in (*own, *(v for optimizer in optimizers(model) for v in optimizer.variables))
    ]


def finite(model):
    return all(np.isfinite(value).all() for value in state(model))


class Oracle(keras.callbacks.Callback):
    """Finds the onset by looking at the loss and at the whole state after every single
    step; keeps that step's loss.
    """

    def __init__(self):
        super().__init__()
        self.onset, self.loss = None, None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()  # so that the loss is this step's alone

    def on_train_batch_end(self, batch, logs=None):
        loss = float(logs.get("loss", 0.0))
        if self.onset is None and not (np.isfinite(loss) and finite(self.model)):
            self.onset, self.loss = Onset(self._epoch + 1, batch + 1), loss


def by_keras(model, *data, **arguments):
    """Call the model's own fit, one that a subclass overrides included."""
    return model.fit(*data, **arguments)


def step_by_step(model, x, y, **arguments):
    """Train one step an execution under the eyes of an oracle, which is returned."""
    if model.steps_per_execution > 1:
        model.steps_per_execution, model.train_function = 1, None
    oracle = Oracle()
    model.fit(x, y, **{**arguments, "callbacks": [oracle]})
    return oracle


diagnosed = partial(nanfix.fit, strategies=(), throw=False)


def trained(fit, build, model=None):
    """Train a new model, or go on with `model`, on the data of `build`; return it with what `fit`
    gave. Always seeded alike.
    """
    keras.utils.set_random_seed(0)
    new, x, y, arguments = build()
    keras.utils.set_random_seed(1)
    model = model or new
    return model, fit(model, x, y, **arguments)


@dataclass(frozen=True)
class Twins:
    """Two models trained alike, one by Keras and one watched, and what each had come to by then."""

    build: Any
    plain: Any
    watched: Any
    history: Any
    report: Any
    states: tuple[list[Any], list[Any]]


def twins_of(build, fit=nanfix.fit):
    plain, history = trained(by_keras, build)
    watched, report = trained(fit, build)
    return Twins(build, plain, watched, history, report, (state(plain), state(watched)))


def assert_same_state(left, right):
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_untouched(twins):
    """Check that a healthy watched run came out bit for bit as Keras made the other."""
    report = twins.report
    assert report.outcome is Outcome.HEALTHY and report.diagnosis is None and not report.fix
    assert report.history == twins.history.history and report.epoch == twins.history.epoch
    assert_same_state(*twins.states)


def assert_onset_is_exact(build, plain=None, watched=None):
    """Check the reported onset against the oracle, which is returned, and that the
    watched model comes back finite.
    """
    _, oracle = trained(step_by_step, build, plain)
    model, report = trained(diagnosed, build, watched)
    assert oracle.onset is not None
    assert report.outcome in (Outcome.EXHAUSTED, Outcome.UNREPAIRABLE)
    assert report.diagnosis.onset == oracle.onset
    assert finite(model)
    return oracle
