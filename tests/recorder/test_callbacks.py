"""The user's callbacks go on from a snapshot as if training had never stopped."""

import csv
import logging
import math
import re
import time
from contextlib import ExitStack
from types import SimpleNamespace

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf

import nanfix
from nanfix import Outcome
from nanfix.model.object_state import plain_state
from nanfix.recorder.callbacks import broken_off, logged, resumed


def told(callbacks, states, epoch, rolled_back=0.0, begun=(), during=None, **earlier):
    """Let callbacks begin a training again, as Keras tells them to."""
    during = during or ExitStack()
    going_on = resumed(
        callbacks, states, epoch, rolled_back=rolled_back, begun=begun, during=during, **earlier
    )
    listed = keras.callbacks.CallbackList(going_on)
    listed.set_model(explosions.healthy()[0])
    listed.on_train_begin()
    return listed


class Board(keras.callbacks.TensorBoard):
    """Keras' own, but for the encoding of a number, which is a function of the package
    tensorboard.
    """

    summary = SimpleNamespace(
        create_file_writer=tf.summary.create_file_writer,
        scalar=lambda name, value, step: tf.summary.write(name, tf.cast(value, "float32"), step),
        record_if=tf.summary.record_if,
    )


def events(folder, tag):
    """Return the steps of a tag, in the order in which TensorBoard reads them, and how
    many files there are.
    """
    paths = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    read = [
        tf.compat.v1.Event.FromString(r)
        for path in paths
        for r in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    ]
    return [
        event.step for event in read if any(value.tag == tag for value in event.summary.value)
    ], len(paths)


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_early_stopping_and_plateau_know_what_they_knew():
    stopping, plateau = keras.callbacks.EarlyStopping(), keras.callbacks.ReduceLROnPlateau()
    states = [
        (stopping, {"best": 0.25, "wait": 2}),
        (plateau, {"best": 0.25, "wait": 1, "cooldown_counter": 3}),
    ]
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


def test_callback_in_the_midst_of_a_training_is_not_told_that_one_begins():
    told_to, own = (
        [],
        keras.callbacks.LambdaCallback(on_train_begin=lambda logs=None: told_to.append("begin")),
    )
    own.on_train_begin()
    with ExitStack() as during:
        told([own], [(own, {})], 2, begun=[own], during=during)
        assert told_to == ["begin"]
    own.on_train_begin()
    assert told_to == ["begin", "begin"]


@pytest.mark.parametrize("ending", ["\n", "\n\n", "\r\n\r\n"], ids=repr)
def test_csv_log_that_is_open_goes_on_with_the_epochs_that_are_trained_again(tmp_path, ending):
    path = tmp_path / "log.csv"
    path.write_text(f"epoch,loss{ending}", newline="")
    logger = keras.callbacks.CSVLogger(str(path), append=True)
    logger.on_train_begin()
    for epoch in range(3):
        logger.on_epoch_end(epoch, {"loss": 3.0 - epoch})
    callbacks = told([logger], [], 1, begun=[logger])
    callbacks.on_epoch_end(1, {"loss": 1.5})
    callbacks.on_train_end()
    assert [row["epoch"] for row in rows(path) if row["epoch"]][-2:] == ["0", "1"]


def test_csv_log_has_every_epoch_once(tmp_path):
    path = tmp_path / "log.csv"
    # Two trainings: the first is not ours.
    path.write_text("epoch,loss\n0,9\n1,8\n2,7\n0,3.0\n1,2.0\n2,1.0\n")
    logger = keras.callbacks.CSVLogger(str(path))
    callbacks = told([logger], [], 1)
    callbacks.on_epoch_end(1, {"loss": 1.5})
    callbacks.on_train_end()
    logged = [(row["epoch"], row["loss"]) for row in rows(path)]
    assert logged == [("0", "9"), ("1", "8"), ("2", "7"), ("0", "3.0"), ("1", "1.5")]
    assert logger.append is False


def test_csv_log_may_end_in_empty_lines(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,3.0\n1,2.0\n\n\n")
    told([keras.callbacks.CSVLogger(str(path))], [], 1).on_train_end()
    assert rows(path) == [{"epoch": "0", "loss": "3.0"}]


def test_csv_log_keeps_the_rows_of_an_earlier_training(tmp_path):
    """The training failed in its first epoch, before it had logged one."""
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,3.0\n1,2.0\n")
    logger = keras.callbacks.CSVLogger(str(path), append=True)
    callbacks = told([logger], [], 0, earlier=logged([logger]))
    callbacks.on_epoch_end(0, {"loss": 1.5})
    callbacks.on_train_end()
    assert [(row["epoch"], row["loss"]) for row in rows(path)] == [
        ("0", "3.0"),
        ("1", "2.0"),
        ("0", "1.5"),
    ]


def test_tensorboard_holds_every_step_once(tmp_path):
    board = Board(str(tmp_path), update_freq=2)
    callbacks = keras.callbacks.CallbackList([board], model=explosions.healthy()[0])
    callbacks.on_train_begin()
    since = math.inf
    for epoch in range(3):
        for batch in range(4):
            callbacks.on_train_batch_begin(batch)
            callbacks.on_train_batch_end(batch, {"loss": 1.0})
        callbacks.on_test_begin()
        callbacks.on_test_end({"loss": 1.0})
        callbacks.on_epoch_end(epoch, {"loss": 1.0, "val_loss": 1.0})
        if epoch == 0:
            since, states = time.time(), [(board, plain_state(board))]
    (tmp_path / "train" / "events.out.tfevents.1.other.0.0.v2").write_bytes(b"of another process")
    broken_off([board])
    resumed_ = told([board], states, 1, rolled_back=since)
    for batch in range(4):
        resumed_.on_train_batch_begin(batch)
        resumed_.on_train_batch_end(batch, {"loss": 1.0})
    resumed_.on_epoch_end(1, {"loss": 1.0, "val_loss": 1.0})
    resumed_.on_train_end()
    (tmp_path / "train" / "events.out.tfevents.1.other.0.0.v2").unlink()
    assert events(tmp_path / "train", "epoch_loss") == ([0, 1], 2)
    assert events(tmp_path / "train", "batch_loss") == ([2, 4, 6, 8], 2)
    assert events(tmp_path / "validation", "epoch_loss") == ([0, 1], 2)


def test_a_callback_is_told_of_a_rollback_if_it_wants_to_know():
    class Remote(keras.callbacks.Callback):
        told = ()

        def on_rollback(self, epoch):
            self.told = (*self.told, epoch)

    remote = Remote()
    told([remote], [], 3)
    told([remote], [], 2, rolled_back=None)  # goes on where it was killed
    assert remote.told == (3,)


def test_backup_is_neither_loaded_nor_overwritten_after_a_rollback(tmp_path):
    folder = tmp_path / "backup"
    folder.mkdir()
    (folder / "latest.weights.h5").write_bytes(b"of the first training")
    callbacks = told([keras.callbacks.BackupAndRestore(str(folder))], [], 1)
    callbacks.on_epoch_end(1, {"loss": 1.0})
    assert (folder / "latest.weights.h5").read_bytes() == b"of the first training"
    callbacks.on_train_end()
    assert not folder.exists()  # as Keras does when a training has ended well


def test_repaired_run_is_one_training_to_its_callbacks(tmp_path, caplog):
    """The run explodes late, is rolled back and finished: each epoch is logged once, in
    order, and the best is finite.
    """

    class Jump(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 4:
                self.model.optimizer.learning_rate = 1e6

    x, y = explosions.table()
    model = explosions.mlp(keras.optimizers.SGD(0.05))
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=50)
    logger = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    arguments = {
        **explosions.ARGUMENTS,
        "epochs": 7,
        "callbacks": [Jump(), stopping, logger, Board(str(tmp_path / "board"))],
    }
    with caplog.at_level(logging.INFO, "nanfix"):
        report = nanfix.fit(model, x, y, strategies=["lower-learning-rate"], **arguments)
    assert report.outcome is Outcome.REPAIRED
    logged = rows(tmp_path / "log.csv")
    assert [int(row["epoch"]) for row in logged] == report.epoch == list(range(7))
    np.testing.assert_allclose(
        [float(row["loss"]) for row in logged], report.history["loss"], rtol=1e-6
    )
    assert stopping.best == min(report.history["val_loss"])
    assert events(tmp_path / "board" / "train", "epoch_loss")[0] == list(range(7))
    assert events(tmp_path / "board" / "validation", "epoch_loss")[0] == list(range(7))
    told = [record.message for record in caplog.records if "rolled back" in record.message]
    # To which, a slow machine decides otherwise.
    where = r"(from epoch 5 to|to the beginning of) epoch \d"
    assert re.fullmatch(rf"nanfix: rolled back {where}; training on with the fix\.", told[0])


class Told(keras.callbacks.Callback):
    """Notes what it is told of trainings."""

    def __init__(self):
        super().__init__()
        self.of = ()

    def on_train_begin(self, logs=None):
        self.of = (*self.of, "begin")

    def on_epoch_end(self, epoch, logs=None):
        self.last = logs["loss"]

    def on_train_end(self, logs=None):
        self.ended = getattr(self, "ended", 0) + 1


@pytest.mark.parametrize(
    "strategies", [["lower-learning-rate"], []], ids=["repaired", "not repaired"]
)
def test_a_training_begins_once_and_ends_once(strategies):
    model, x, y, arguments = explosions.learning_rate()
    told_of = Told()
    report = nanfix.fit(
        model, x, y, strategies=strategies, throw=False, callbacks=[told_of], **arguments
    )
    assert report.outcome is (Outcome.REPAIRED if strategies else Outcome.EXHAUSTED)
    assert told_of.of == ("begin",) and told_of.ended == 1
    assert np.isfinite(told_of.last) == bool(strategies)
    assert len(report.history["loss"]) == arguments["epochs"]
