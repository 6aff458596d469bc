"""A training that dies, repaired by one strategy alone: as finite, as whole and as good as an
expert would have it.
"""

from typing import Any

import keras
import numpy as np

from nanfix.api.fit import fit
from nanfix.model.crossentropies import Targets, crossentropy_of
from nanfix.report.report import Outcome

AS_GOOD = 1.05  # times an expert's loss, a repair is as good as theirs


def check_repair(name, build, expert=None, **changed):
    """Repair a training that goes non-finite with one strategy alone; return the report
    and the rows held back.

    Args:
        name: of the strategy.
        build: returns a fresh model, x, y and the arguments of fit, `validation_split` among them,
            for targets of the output's shape or class indices; y and losses of several outputs in
            dicts.
        expert: takes what a fresh `build` returns, makes the change by hand that a person with
            experience would make, and returns the held-out loss, in the user's units, that the
            training ends at; the repair has to be as good.
        changed: arguments of fit to put in the place of build's.
    """
    model, x, y, arguments = build()
    plain = {"callbacks": [keras.callbacks.TerminateOnNaN()], **arguments, **changed}
    losses = model.fit(x, y, **plain).history["loss"]
    assert not (_finite(model) and np.isfinite(losses).all()), (
        "training stays finite without nanfix: nothing to repair"
    )
    model, x, y, arguments = build()
    arguments = {**arguments, **changed}
    report = fit(model, x, y, strategies=[name], throw=False, **arguments)
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert [edit.strategy for edit in report.fix.edits] == [name] and report.model is model
    assert _finite(model), "the repaired model has non-finite weights"
    for predicted in keras.tree.flatten(model.predict(x, verbose=0)):
        assert _finite_rows(predicted)[_finite_rows(x)].all(), (
            "the repaired model predicts non-finite values from finite raw inputs"
        )
    kept = training_rows(x, arguments)
    held_x, held_y = x[kept:], keras.tree.map_structure(lambda each: each[kept:], y)
    nothing = _nothing_learned(model, held_y)
    reached = report.history["val_loss"][-1]
    assert reached < nothing, (
        f"the repaired run ends at a loss of {reached:.3g}; predicting the mean gives {nothing:.3g}"
    )
    if expert is not None:
        fresh, x, y, arguments = build()
        by_hand = expert(fresh, x, y, {**arguments, **changed})
        assert reached <= by_hand + (AS_GOOD - 1) * abs(by_hand), (
            f"the repaired run ends at a loss of {reached:.4g}, the expert's at {by_hand:.4g}"
        )
    return report, held_x, held_y


def trained(model, x, y, arguments):
    """Train as a user does; return the held-out loss at the end."""
    return model.fit(x, y, **arguments).history["val_loss"][-1]


def training_rows(rows, arguments):
    """Return how many rows, the first ones, Keras trains on; it holds the others back."""
    return int(len(rows) * (1.0 - arguments["validation_split"]))


def _finite(model):
    return all(np.isfinite(weight).all() for weight in model.get_weights())


def _finite_rows(array):
    return np.isfinite(array).reshape(len(array), -1).all(axis=1)


def _nothing_learned(model, y):
    """Return the loss of a model that predicts the same for every row: the mean, or the
    shares of the classes.
    """
    if isinstance(y, dict):
        return sum(_loss_of_the_same(model.loss[name], each) for name, each in y.items())
    return _loss_of_the_same(model.loss, y)


def _loss_of_the_same(given, y):
    crossentropy = crossentropy_of(given)
    if crossentropy is not None and crossentropy.targets is Targets.CLASS:
        _, counts = np.unique(y, return_counts=True)
        shares = counts / len(y)
        return float(-np.sum(shares * np.log(shares)))
    loss: Any = keras.losses.get(given)
    mean = np.broadcast_to(y.mean(axis=0), y.shape)
    return float(np.mean(np.asarray(loss(y, mean))))
