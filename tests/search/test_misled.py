"""Callbacks that watched a validation loss which was not finite: told, and what they did mended."""

import explosions
import keras
import numpy as np
import pytest
from keras import callbacks

import nanfix
from nanfix.report.report import Outcome

ARGUMENTS = {"epochs": 12, "batch_size": 16, "verbose": 0}


def trained(callback, holes=True, **arguments):
    """Train with a validation that has a hole, which one of the callbacks watches."""
    x, y = explosions.table(rows=200)
    held_x, held_y = x[160:].copy(), y[160:]
    held_x[3, 1] = np.nan if holes else 0.0
    model = explosions.mlp(keras.optimizers.Adam(0.01), activation="tanh")
    given = {**ARGUMENTS, "validation_data": (held_x, held_y), "callbacks": [callback]}
    report = nanfix.fit(model, x[:160], y[:160], seed=0, **{**given, **arguments})
    return report, model.evaluate(x[160:], held_y, verbose=0)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: callbacks.ReduceLROnPlateau(patience=2, min_lr=1e-6),
            "ReduceLROnPlateau watched val_loss, which was not finite in every epoch, and cut the "
            "learning rate from 0.01 to 1e-06",
        ),
        (
            lambda: callbacks.EarlyStopping(patience=3, restore_best_weights=True),
            "stopped the training after 4 of 12 epochs and put the weights of epoch 1 back",
        ),
    ],
)
def test_what_a_misled_callback_did_is_told_and_the_training_run_as_it_would_have_been(make, told):
    report, reached = trained(make())
    assert report.outcome is Outcome.REPAIRED and not report.trials
    assert told in str(report)
    assert len(report.history["loss"]) == len(report.epoch) == 12
    assert np.isfinite(report.history["val_loss"]).all()
    _, sound = trained(make(), holes=False)
    assert reached == pytest.approx(sound, rel=0.1)


def test_a_callback_that_only_chose_is_told_and_nothing_is_trained_again(tmp_path):
    checkpoint = callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True)
    report, _ = trained(checkpoint, epochs=3)
    assert report.outcome is Outcome.REPAIRED
    assert "and kept the model of epoch 1 as the best" in str(report)
    assert np.isnan(report.history["val_loss"][0])


def test_it_is_told_where_nothing_can_be_repaired():
    report, _ = trained(callbacks.EarlyStopping(patience=3), strategies=[])
    assert report.outcome is Outcome.HEALTHY and not report.fix
    assert "stopped the training after 4 of 12 epochs" in str(report)


def test_a_callback_whose_figures_are_finite_is_not_named():
    report, _ = trained(callbacks.EarlyStopping(monitor="loss", patience=3), epochs=3)
    assert "EarlyStopping" not in str(report)
