"""A training that no fix holds for ends as Keras would have ended it."""

import explosions
import keras
import numpy as np
import pytest
from parameters import shortened
from test_callbacks import Board, events

import nanfix
from nanfix import Outcome

UNREPAIRED = {"strategies": (), "throw": False}
SELDOM = {"validation_freq": 2}


class Epochs(keras.callbacks.Callback):
    """Notes the epochs and the end that a callback is told of."""

    def __init__(self):
        super().__init__()
        self.begun, self.ended, self.ends = (), {}, ()

    def on_epoch_begin(self, epoch, logs=None):
        self.begun = (*self.begun, epoch)

    def on_epoch_end(self, epoch, logs=None):
        self.ended = {**self.ended, epoch: dict(logs)}

    def on_train_end(self, logs=None):
        self.ends = (*self.ends, len(self.ended))


class Jump(keras.callbacks.Callback):
    """Lets a training explode in an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            self.model.optimizer.learning_rate = 1e12


def trained(fit, *callbacks, jump=2, **more):
    keras.utils.set_random_seed(0)
    x, y = explosions.table()
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.01), "mse", metrics=["mae"])
    arguments = {"epochs": 5, "batch_size": 16, "verbose": 0, "validation_split": 0.2, **more}
    return model, fit(model, x, y, callbacks=[Jump(jump), *callbacks], **arguments)


class Ruin(keras.callbacks.Callback):
    """Sets the weights to NaN, as an average over no epoch at all does."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch:
            self.model.set_weights([np.full_like(w, np.nan) for w in self.model.get_weights()])


def test_weights_that_a_callback_ruins_at_the_end_are_put_back():
    model, report = trained(nanfix.fit, Ruin(), jump=9, **UNREPAIRED)
    assert report.outcome is Outcome.UNREPAIRABLE
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def by_keras(model, *data, **arguments):
    return model.fit(*data, **arguments)


def unrepaired(model, *data, **arguments):
    return nanfix.fit(model, *data, **UNREPAIRED, **arguments)


@pytest.mark.parametrize(
    ("jump", "more"),
    shortened(
        [(jump, more) for jump in (0, 2, 4) for more in ({}, SELDOM)],
        [(0, {}), (2, SELDOM), (4, SELDOM)],
    ),
    ids=str,
)
def test_history_and_callbacks_have_every_epoch_that_keras_gives(jump, more):
    plain, told = Epochs(), Epochs()
    _, history = trained(by_keras, plain, jump=jump, **more)
    model, report = trained(unrepaired, told, jump=jump, **more)
    assert report.outcome is Outcome.EXHAUSTED
    assert report.epoch == history.epoch and report.history.keys() == history.history.keys()
    assert {name: len(values) for name, values in report.history.items()} == {
        n: len(v) for n, v in history.history.items()
    }
    np.testing.assert_array_equal(report.history["loss"], history.history["loss"])
    assert (
        told.begun == plain.begun
        and told.ended.keys() == plain.ended.keys()
        and told.ends == plain.ends == (5,)
    )
    assert {epoch: set(logs) for epoch, logs in told.ended.items()} == {
        epoch: set(logs) for epoch, logs in plain.ended.items()
    }
    assert model.history.history == report.history or np.isnan(model.history.history["loss"][-1])
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_callback_that_stops_at_nan_stops_there_too():
    _, history = trained(by_keras, keras.callbacks.TerminateOnNaN())
    told = Epochs()
    _, report = trained(unrepaired, keras.callbacks.TerminateOnNaN(), told)
    assert report.epoch == history.epoch == [0, 1, 2] and told.ends == (3,)


def test_early_stopping_ends_the_epochs_as_in_keras():
    def stopping():
        return keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=1, restore_best_weights=True
        )

    plain, history = trained(by_keras, stopping())
    model, report = trained(unrepaired, stopping())
    assert report.epoch == history.epoch
    for left, right in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)  # those of the best epoch, which was finite


def test_tensorboard_has_the_epochs_that_keras_gives(tmp_path):
    found = {}
    for fit in (by_keras, unrepaired):
        log_dir = tmp_path / fit.__name__
        trained(fit, Board(str(log_dir), update_freq=2))
        found[fit] = [
            events(log_dir / part, tag)[0]
            for part in ("train", "validation")
            for tag in ("epoch_loss", "epoch_mae")
        ]
        batches = events(log_dir / "train", "batch_loss")[0]
        assert batches == sorted(set(batches))
    assert found[unrepaired] == found[by_keras] == [[0, 1, 2, 3, 4]] * 4


def test_backup_is_kept_when_no_fix_holds(tmp_path):
    """Keras deletes it at the end of a training, also of one that ended in NaN; it
    holds the last finite epoch.
    """
    trained(unrepaired, keras.callbacks.BackupAndRestore(str(tmp_path / "backup")))
    assert any((tmp_path / "backup").iterdir())


def test_model_goes_back_to_a_state_that_is_of_use_and_not_merely_finite(monkeypatch):
    """The loss rises by many orders of magnitude before it overflows, and snapshots are
    taken all the way.
    """
    monkeypatch.setattr("nanfix.recorder._timing.SNAPSHOT_TIME_SHARE", 1e9)
    keras.utils.set_random_seed(0)
    x, y = explosions.table()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.5), "mse")
    report = nanfix.fit(model, x, y, epochs=100, batch_size=128, verbose=0, **UNREPAIRED)
    assert report.outcome is Outcome.EXHAUSTED and report.recorder.snapshots > 5
    assert np.abs(model.predict(x, verbose=0)).max() < 100


class SwallowsAll(keras.Sequential):
    """Its own fit catches whatever happens."""

    def fit(self, *args, **kwargs):
        try:
            return super().fit(*args, **kwargs)
        except Exception:
            return self.history


def test_a_failure_that_the_users_own_fit_swallows_is_seen():
    x, y = explosions.table()
    model = SwallowsAll([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e20), "mse")
    report = nanfix.fit(model, x, y, epochs=2, verbose=0, **UNREPAIRED)
    assert report.outcome is Outcome.EXHAUSTED and report.diagnosis is not None
