"""rescale-labels: a binary crossentropy gets the labels 0 and 1, in every form of data."""

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf

import nanfix
from nanfix.changes.maps import Affine
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.report.report import Outcome
from nanfix.testing import contract, repairs

NAME = "rescale-labels"
DIAGNOSIS = contract.diagnosis(Cause.INVALID_LABEL)


def situations():
    return {"labels of bytes": contract.run_of(*explosions.masks_of_bytes()[:3])}


def run_of(*labels, loss="binary_crossentropy"):
    x, _ = explosions.table(rows=len(labels))
    return contract.run_of(
        explosions.mlp(loss=loss, last="sigmoid"), x, np.float32(labels)[:, None]
    )


@pytest.mark.parametrize(
    ("labels", "low", "high"), [((-1, 1, 1), -1, 1), ((0, 255, 0), 0, 255), ((0, 50, 100), 0, 100)]
)
def test_lowest_and_highest_label_become_0_and_1(labels, low, high):
    run = run_of(*labels)
    (params,) = contract.levels(get(NAME), DIAGNOSIS, run)
    assert params == {"low": low, "high": high}
    assert get(NAME).apply(run, Plan(), **params).of(RowFilter).labels == Affine(
        (low,), (high - low,)
    )


def test_shares_and_other_losses_are_left_alone():
    assert not contract.applies(get(NAME), DIAGNOSIS, run_of(0, 1, 0.5))
    assert not contract.applies(get(NAME), DIAGNOSIS, run_of(-1, 1, 1, loss="hinge"))


@pytest.mark.soak
def test_repairs_masks_of_bytes_as_well_as_an_expert():
    def expert(model, x, y, arguments):
        return repairs.trained(model, x, y / 255.0, arguments)

    model, x, y, arguments = explosions.masks_of_bytes()
    by_hand = expert(model, x, y, arguments)
    model, x, y, arguments = explosions.masks_of_bytes()
    losses = model.fit(x, y, **arguments).history["loss"]
    assert not np.isfinite(losses).all(), "training stays finite without nanfix: nothing to repair"
    model, x, y, arguments = explosions.masks_of_bytes()
    report = nanfix.fit(model, x, y, strategies=[NAME], **arguments)
    assert report.outcome is Outcome.REPAIRED and report.history["val_loss"][-1] <= 1.05 * by_hand
    assert np.mean((model.predict(x, verbose=0) > 0.5) == (y > 0)) > 0.95


def test_stream_gets_the_same_labels():
    model, x, y, _ = explosions.masks_of_bytes()
    report = nanfix.fit(
        model, tf.data.Dataset.from_tensor_slices((x, y)).batch(16), epochs=40, verbose=0
    )
    assert report.outcome is Outcome.REPAIRED and [edit.strategy for edit in report.fix.edits] == [
        NAME
    ]
    assert np.mean((model.predict(x, verbose=0) > 0.5) == (y > 0)) > 0.9
    assert isinstance(model.optimizer, keras.optimizers.SGD)
