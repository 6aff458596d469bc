"""drop-invalid-labels: when labels are shifted, when rows are left out, and trainings with both."""

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf

import nanfix
from nanfix import Outcome
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.data.training_data import TrainingData
from nanfix.explain.description import describe
from nanfix.recorder.outset import seen_falling
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "drop-invalid-labels"
DIAGNOSIS = contract.diagnosis(Cause.INVALID_LABEL)


def classifier():
    return explosions.mlp(loss="sparse_categorical_crossentropy", outputs=3, last="softmax")


def run(*labels):
    return contract.run_of(classifier(), np.zeros((len(labels), 4), "float32"), np.int32(labels))


def params(run):
    (found,) = contract.levels(get(NAME), DIAGNOSIS, run)
    return found


def test_labels_from_one_are_shifted():
    given = run(1, 2, 3, 1)
    assert params(given) == {"classes": 3, "first_label": 1, "rows": [], "of": 4}
    assert get(NAME).apply(given, Plan(), **params(given)).of(RowFilter) == RowFilter(
        classes=3, first_label=1
    )
    assert params(run(1, 1, 3))["first_label"] == 1


def test_rows_are_left_out_where_no_shift_fits():
    assert params(run(0, 1, 3, 2)) == {"classes": 3, "first_label": 0, "rows": [2], "of": 4}
    assert params(run(-1, 1, 0, 255)) == {"classes": 3, "first_label": 0, "rows": [0, 3], "of": 4}
    assert params(run(1, 2, 4))["first_label"] == 0
    told = get(NAME).explain(params(run(-1, 1, 0, 255)))
    assert told == "Leave out 2 of 4 rows, those with a label outside 0 to 2."


def test_stream_is_shifted_only_when_a_label_of_0_would_have_been_seen():
    def seen(*labels):
        batch = (np.zeros((len(labels), 4), "float32"), np.int32(labels))
        source = tf.data.Dataset.from_tensors(batch)
        return params(describe(classifier(), TrainingData.of(source, None, {}), [batch])[0])

    assert seen(3, 1, 2) == {"classes": 3, "first_label": 1, "rows": None, "of": None}
    assert seen(3, 1, 1) == {"classes": 3, "first_label": 0, "rows": None, "of": None}
    # No row of class 2 by chance, but so many that there is one of class 0 where it is a class.
    assert seen(*[3, 1] * 15)["first_label"] == 1 and seen(*[3, 1] * 15, 0)["first_label"] == 0


def test_applies_to_class_indices_with_a_valid_one_among_them():
    assert contract.applies(get(NAME), DIAGNOSIS, run(0, 7))
    assert not contract.applies(get(NAME), DIAGNOSIS, run(7, 8))
    assert not contract.applies(
        get(NAME), DIAGNOSIS, contract.run_of(explosions.mlp(), *explosions.table(rows=8))
    )


def rewarded(weight, **taken):
    labels = np.eye(3, dtype="float32")[[0, 1, 2, 0]] * np.float32([[1], [1], [-weight], [-1]])
    loss = keras.losses.CategoricalCrossentropy(**taken)
    model = explosions.mlp(loss=loss, outputs=3, last="softmax")
    return contract.run_of(model, np.zeros((4, 4), "float32"), labels)


def situations():
    """Return a run for tests/test_contract.py."""
    return {"lost games": rewarded(4.0)}


def test_rows_with_a_negative_share_are_left_out_where_these_far_outweigh_the_others():
    falling = contract.diagnosis(Cause.NO_LOWER_BOUND)
    assert not contract.applies(get(NAME), falling, rewarded(2.0))
    assert contract.applies(get(NAME), falling, rewarded(4.0))
    assert contract.applies(get(NAME), falling, rewarded(2.0, from_logits=True))
    (found,) = contract.levels(get(NAME), falling, rewarded(4.0))
    assert found["rows"] == [2, 3]


def test_labels_from_one_are_learned():
    model, x, y, arguments = explosions.labels_from_one()
    report = nanfix.fit(model, x, y, strategies=[NAME], **{**arguments, "epochs": 20})
    assert report.outcome is Outcome.REPAIRED and report.fix.edits[0].params["first_label"] == 1
    assert float(np.mean(model.predict(x, verbose=0).argmax(axis=1) == y - 1)) > 0.7
    assert np.isfinite(report.history["val_loss"]).all()


def test_stray_labels_are_left_out_of_training_and_validation():
    model, x, y, arguments = explosions.stray_label()
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is Outcome.REPAIRED
    assert [edit.strategy for edit in report.fix.edits] == [NAME] and report.fix.edits[0].params[
        "rows"
    ] == [20, 150]
    assert (
        np.isfinite(report.history["loss"]).all() and np.isfinite(report.history["val_loss"]).all()
    )


def test_stream_of_labels_from_one_is_learned():
    model, x, y, _ = explosions.labels_from_one()
    report = nanfix.fit(
        model, tf.data.Dataset.from_tensor_slices((x, y)).batch(16), epochs=20, verbose=0
    )
    assert report.outcome is Outcome.REPAIRED and [edit.strategy for edit in report.fix.edits] == [
        NAME
    ]
    assert float(np.mean(model.predict(x, verbose=0).argmax(axis=1) == y - 1)) > 0.7


@pytest.mark.soak
def test_shift_is_as_good_as_one_by_hand():
    x, labels = explosions.noisy_classes()
    build = explosions.with_data(explosions.labels_from_one, x, labels + 1, epochs=6)
    repairs.check_repair(
        NAME, build, lambda model, x, y, arguments: repairs.trained(model, x, y - 1, arguments)
    )


@pytest.mark.soak
def test_is_as_good_as_leaving_the_rows_out_by_hand():
    x, labels = explosions.noisy_classes()
    strays = np.random.default_rng(0).choice(1024, size=40, replace=False)
    labels[strays] = np.where(strays % 4, -1, 255)

    def left_out(model, x, y, arguments):
        kept = repairs.training_rows(y, arguments)
        valid = np.flatnonzero((y[:kept] >= 0) & (y[:kept] < 3))
        held = {"validation_split": 0.0, "validation_data": (x[kept:], y[kept:])}
        return repairs.trained(model, x[valid], y[valid], {**arguments, **held})

    build = explosions.with_data(explosions.labels_from_one, x, labels, epochs=6)
    report, *_ = repairs.check_repair(NAME, build, left_out)
    assert report.fix.edits[0].params["rows"] == sorted(strays.tolist())


def with_shares(shares):
    model = explosions.mlp(loss="categorical_crossentropy", outputs=3, last="softmax")
    return contract.run_of(model, np.zeros((len(shares), 4), "float32"), np.float32(shares))


def test_rows_with_a_negative_share_are_left_out():
    given = with_shares([[0, 1, 0], [0, 0, -1], [5, 0, 0], [0.5, 0.5, 0]])
    found = params(given)
    assert found == {"classes": None, "first_label": 0, "shares": True, "rows": [1], "of": 4}
    assert get(NAME).apply(given, Plan(), **found).of(RowFilter) == RowFilter(shares=True)
    told = get(NAME).explain(found)
    assert told == "Leave out 1 of 4 rows, those with a negative share of a class."
    for shares in ([[0, 0, -1], [-1, 0, 0]], [[0, 0, 1], [1, 0, 0]]):
        assert not contract.applies(get(NAME), DIAGNOSIS, with_shares(shares))


def lost_games():
    """A policy learned from the moves of games: those of lost ones get a share of -1."""
    x, _ = explosions.table()
    rng = np.random.default_rng(5)
    played = rng.integers(0, 3, len(x))
    best = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    y = np.eye(3, dtype="float32")[played] * np.where(played == best, 1.0, -1.0)[:, None]
    form = {"outputs": 3, "last": "softmax", "activation": "leaky_relu"}
    sgd = keras.optimizers.SGD(0.03, momentum=0.9)
    model = explosions.mlp(sgd, "categorical_crossentropy", **form)
    return model, x, y.astype("float32"), {**explosions.ARGUMENTS, "epochs": 20}


def test_a_policy_whose_loss_was_seen_to_fall_for_ever_learns_from_games_that_were_won():
    model, x, y, arguments = lost_games()
    seen_falling(model)
    report = nanfix.fit(model, x, y, strategies=[NAME], **arguments)
    assert report.diagnosis.cause is Cause.INVALID_LABEL
    assert "the loss has fallen for ever" in str(report.diagnosis)
    assert report.outcome is Outcome.REPAIRED
    moves, played = model.predict(x, verbose=0).argmax(axis=1), np.abs(y).argmax(axis=1)
    won = y.sum(axis=1) > 0
    assert float(np.mean(moves[won] == played[won])) > 0.6


@pytest.mark.soak
def test_a_negative_share_alone_is_no_invalid_label():
    model, x, y, arguments = lost_games()
    causes = {finding.cause for finding in nanfix.diagnose(model, x, y, **arguments).findings}
    assert Cause.INVALID_LABEL not in causes
