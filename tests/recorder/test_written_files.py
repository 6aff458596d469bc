"""Fixes that fail leave no trace in the files of the user's callbacks."""

import math
from pathlib import Path

import explosions
import keras
import pytest
from test_callbacks import Board, events, rows

import nanfix
from nanfix.recorder.written_files import Written
from nanfix.search import search_round


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_files_that_were_written_over_come_back():
    names = ("log.csv", "at-01-0.5.keras", "at-02-0.4.keras", "best[1].keras")
    for name in names:
        Path(name).write_text(f"first {name}")
    checkpoints = [
        keras.callbacks.ModelCheckpoint(path)
        for path in ("at-{epoch:02d}-{loss:.1f}.keras", "best[1].keras", "none.keras")
    ]
    written = Written([keras.callbacks.CSVLogger("log.csv"), *checkpoints])
    written.put_back()  # nothing was kept
    for content in ("second", "third"):
        written.keep()
        for name in (*names, "at-03-0.3.keras"):
            Path(name).write_text(content)
    with Path("log.csv").open("a") as log:
        written.put_back()
        log.write(", and more")
    assert [Path(name).read_text() for name in names[1:]] == [f"first {name}" for name in names[1:]]
    assert Path("log.csv").read_text() == "first log.csv, and more"
    assert Path("at-03-0.3.keras").read_text() == "third"


def test_a_run_that_no_fix_saves_has_the_logs_and_checkpoints_of_its_own(monkeypatch):
    class Jump(keras.callbacks.Callback):
        best, rate = b"", 30.0

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                self.best = self.best or Path("best.keras").read_bytes()
                # The candidates are tried with the first, and trained with the second.
                self.model.optimizer.learning_rate = self.rate
                self.rate = 1e6

    monkeypatch.setattr(search_round, "ADOPTIONS", 1)
    x, y = explosions.table()
    jump, logger = Jump(), keras.callbacks.CSVLogger("log.csv")
    callbacks = [
        jump,
        logger,
        Board("board"),
        keras.callbacks.ModelCheckpoint("best.keras", save_best_only=True),
    ]
    arguments = {**explosions.ARGUMENTS, "epochs": 5, "callbacks": callbacks}
    tries = {"strategies": ["clip-gradients"], "throw": False}
    report = nanfix.fit(explosions.mlp(keras.optimizers.SGD(0.05)), x, y, **tries, **arguments)
    assert report.outcome is nanfix.Outcome.EXHAUSTED and any(
        trial.verdict == "works" for trial in report.trials
    )
    assert [int(row["epoch"]) for row in rows(Path("log.csv"))] == report.epoch == [0, 1, 2, 3, 4]
    # As Keras itself would have gone on.
    assert [row["loss"] for row in rows(Path("log.csv"))[3:]] == ["nan", "nan"]
    assert (
        events(Path("board/train"), "epoch_loss")[0]
        == events(Path("board/validation"), "epoch_loss")[0]
        == [0, 1, 2, 3, 4]
    )
    assert Path("best.keras").read_bytes() == jump.best and math.isfinite(report.history["loss"][2])
