"""Losses that take the user's own batches alone: whatever they raise, they are not judged."""

import explosions
import numpy as np
import pytest
from guarding import line_of
from keras import ops

from nanfix.changes.guards import Guard
from nanfix.data.constant_prediction import constant_losses
from nanfix.data.training_data import TrainingData
from nanfix.explain.impossible import hopeless_training
from nanfix.explain.loss_probe import OF_ROWS, falls_without_end, what_to_look_for
from nanfix.explain.microscope import Observation
from nanfix.explain.output_columns import needed_activations
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase, Place
from nanfix.remedies.registry import get
from nanfix.testing import contract

FAILING = Observation(Place(Phase.LOSS, operation="Log", source="train.py:7"), Phase.LOSS, "Log")
ROWS = 20


@pytest.mark.parametrize(
    "error",
    [AssertionError, AttributeError, KeyError, IndexError, NotImplementedError, TypeError],
)
def test_a_loss_that_refuses_other_batches_is_not_judged(error):
    def loss(y, p):
        if y.shape[0] != ROWS + 1:  # as its author's batches have
            raise error("not a batch of mine")
        return -ops.sum(y * ops.log(p), axis=-1)

    x, _ = explosions.table(rows=ROWS)
    y = np.eye(3, dtype="float32")[np.arange(ROWS) % 3]
    run = contract.run_of(explosions.mlp(loss=loss, outputs=3), x, y)
    assert hopeless_training(run, FAILING) is None
    assert not falls_without_end(Guard("Log", line_of(loss, 3), None, 1e-7), run)
    assert what_to_look_for(run) == OF_ROWS
    assert not needed_activations(run, ["softplus", "sigmoid", "softmax"]).layers
    diagnosis = contract.diagnosis(Cause.LOGITS_BY_HAND)
    assert not contract.applies(get("logits-loss"), diagnosis, run)
    assert not np.isfinite(list(constant_losses(run, TrainingData.of(x, y, {})).values())).any()
