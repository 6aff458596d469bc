"""finite-loss-weights: what `fit` and `compile` were given to weigh classes and outputs by."""

import explosions
import numpy as np
import pytest
import tensorflow as tf

import nanfix
from nanfix import Outcome
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract

NAME = "finite-loss-weights"


def situations():
    return {"outputs": contract.run_of(*explosions.weight_of_a_constant_target()[:3])}


def test_a_class_counts_as_much_as_the_others_and_its_rows_are_learned():
    model, x, y, arguments = explosions.weight_of_an_uncounted_class()
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is Outcome.REPAIRED and len(report.trials) == 1, str(report)
    counts = np.bincount(y[: int(0.8 * len(y))])
    ((label, weight),) = report.fix.edits[0].params["classes"]
    assert label == 2 and weight == pytest.approx(0.4 * (counts[0] + counts[1]) / counts[2], 0.01)
    assert np.mean(np.argmax(model.predict(x, verbose=0), axis=1)[y == 2] == 2) > 0.8
    assert "class_weight of class 2 is inf" in str(report.diagnosis)
    assert str(report.fix).strip() == f"Weigh the loss of class 2 by {weight:.4g}."
    assert get(NAME).snippet(report.fix.edits[0].params) == f"class_weight[2] = {weight:.4g}"
    assert arguments["class_weight"][2] == np.inf  # the user's own is left alone


def test_of_a_pipeline_no_row_is_left_out():
    model, x, y, arguments = explosions.weight_of_an_uncounted_class()
    del arguments["validation_split"], arguments["batch_size"]
    pipeline = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    report = nanfix.fit(model, pipeline, **arguments)
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert Cause.NONFINITE_WEIGHT not in report.diagnosis.causes


def test_an_output_is_named_and_gets_the_weight_of_another():
    model, x, y, arguments = explosions.weight_of_a_constant_target()
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is Outcome.REPAIRED and len(report.trials) == 1, str(report)
    assert "loss_weights of output snow is inf" in str(report.diagnosis)
    usual = 1.0 / np.var(y["wind"])
    assert str(report.fix).strip() == f"Weigh the loss of output snow by {usual:.4g}."
    wind, _ = model.predict(x, verbose=0)
    assert np.mean((wind - y["wind"]) ** 2) < 0.2 * np.var(y["wind"])
    assert np.isfinite(model.evaluate(x, y, verbose=0)).all()


def test_an_infinite_weight_of_a_class_that_does_not_occur_is_left_alone():
    model, x, y, arguments = explosions.weight_of_an_uncounted_class()
    arguments["epochs"] = 1
    report = nanfix.fit(model, x, np.minimum(y, 1), **arguments)
    assert report.outcome is Outcome.HEALTHY
