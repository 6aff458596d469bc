"""The user's callbacks go on from a snapshot as if training had never stopped."""

import csv

import explosions
import keras
import numpy as np

import nanfix
from nanfix import Outcome
from nanfix.resumption import resumed


def told(callbacks, states, epoch, **rolled_back):
    """Let callbacks begin a training again, as Keras tells them to."""
    listed = keras.callbacks.CallbackList(resumed(callbacks, states, epoch, **{"rolled_back": True, **rolled_back}))
    listed.set_model(explosions.healthy()[0])
    listed.on_train_begin()
    return listed


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_early_stopping_and_plateau_know_what_they_knew():
    stopping, plateau = keras.callbacks.EarlyStopping(), keras.callbacks.ReduceLROnPlateau()
    states = [(stopping, {"best": 0.25, "wait": 2}), (plateau, {"best": 0.25, "wait": 1, "cooldown_counter": 3})]
    told([stopping, plateau], states, 4)
    assert (stopping.best, stopping.wait) == (0.25, 2)
    assert (plateau.best, plateau.wait, plateau.cooldown_counter) == (0.25, 1, 3)


def test_own_callback_that_clears_its_list_keeps_the_epochs_before():
    class Losses(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.seen = []

    own = Losses()
    told([own], [(own, {"seen": [3.0, 2.0]})], 2)
    assert own.seen == [3.0, 2.0]


def test_csv_log_has_every_epoch_once(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,9\n1,8\n2,7\n0,3.0\n1,2.0\n2,1.0\n")  # two trainings: the first is not ours
    logger = keras.callbacks.CSVLogger(str(path))
    callbacks = told([logger], [], 1)
    callbacks.on_epoch_end(1, {"loss": 1.5})
    callbacks.on_train_end()
    logged = [(row["epoch"], row["loss"]) for row in rows(path)]
    assert logged == [("0", "9"), ("1", "8"), ("2", "7"), ("0", "3.0"), ("1", "1.5")]
    assert logger.append is False


def test_backup_is_neither_loaded_nor_overwritten_after_a_rollback(tmp_path):
    folder = tmp_path / "backup"
    folder.mkdir()
    (folder / "latest.weights.h5").write_bytes(b"of the first training")
    callbacks = told([keras.callbacks.BackupAndRestore(str(folder))], [], 1)
    callbacks.on_epoch_end(1, {"loss": 1.0})
    assert (folder / "latest.weights.h5").read_bytes() == b"of the first training"
    callbacks.on_train_end()
    assert not folder.exists()  # as Keras does when a training has ended well


def test_repaired_run_is_one_training_to_its_callbacks(tmp_path):
    """The run explodes late, is rolled back and finished: each epoch is logged once, in order, and the best is finite."""

    class Jump(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 4:
                self.model.optimizer.learning_rate = 1e6

    x, y = explosions.table()
    model = explosions.mlp(keras.optimizers.SGD(0.05))
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=50)
    logger = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    arguments = {**explosions.ARGUMENTS, "epochs": 7, "callbacks": [Jump(), stopping, logger]}
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is Outcome.REPAIRED
    logged = rows(tmp_path / "log.csv")
    assert [int(row["epoch"]) for row in logged] == report.epoch == list(range(7))
    np.testing.assert_allclose([float(row["loss"]) for row in logged], report.history["loss"], rtol=1e-6)
    assert stopping.best == min(report.history["val_loss"])
