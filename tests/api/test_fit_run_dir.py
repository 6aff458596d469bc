"""nanfix.fit with a run_dir: what it keeps there, and how a later call goes on."""

import csv

import explosions
import keras
import numpy as np
import pytest

import nanfix
from nanfix import Outcome
from nanfix.records.errors import RunDirError


def test_run_dir_keeps_the_repaired_model_where_it_can_be_saved(tmp_path):
    model, x, y, arguments = explosions.learning_rate()
    quick = {"strategies": ["lower-learning-rate"], **arguments}
    report = nanfix.fit(model, x, y, run_dir=tmp_path / "run", **quick)
    kept = keras.saving.load_model(tmp_path / "run" / "model.keras")
    np.testing.assert_array_equal(kept.predict(x, verbose=0), model.predict(x, verbose=0))
    assert not any("model.keras" in note for note in report.notes)

    def save(path, **_):
        raise NotImplementedError("no get_config")

    model, x, y, _ = explosions.learning_rate()
    model.save = save
    report = nanfix.fit(model, x, y, run_dir=tmp_path / "other", **quick)
    assert report.outcome is Outcome.REPAIRED
    assert any(
        "model.keras was not written" in note and "no get_config" in note for note in report.notes
    )
    assert (tmp_path / "other" / "fix.json").exists() and not (
        tmp_path / "other" / "model.keras"
    ).exists()


def test_search_goes_on_in_its_run_dir(tmp_path):
    model, x, y, arguments = explosions.unscaled_targets()
    first = nanfix.fit(
        model,
        x,
        y,
        run_dir=tmp_path / "run",
        budget=nanfix.Budget(trials=2),
        throw=False,
        **arguments,
    )
    assert len(first.trials) == 2
    (tmp_path / "run" / "fix.json").unlink(missing_ok=True)
    model, x, y, arguments = explosions.unscaled_targets()
    second = nanfix.fit(model, x, y, run_dir=tmp_path / "run", **arguments)
    assert second.outcome is Outcome.REPAIRED
    # Read from the folder, not run again: their seconds are the same.
    assert second.trials[:2] == first.trials
    assert len({str(trial.edits) for trial in second.trials}) == len(second.trials)
    model, x, y, arguments = explosions.unscaled_targets()
    third = nanfix.fit(model, x, y, run_dir=tmp_path / "run", **arguments)
    assert third.fix == second.fix and third.trials == ()


def test_repaired_training_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    # So that every snapshot of so short a run is written.
    monkeypatch.setattr("nanfix.recorder._retention.WRITING", 1e9)
    # and there is one at each epoch.
    monkeypatch.setattr("nanfix.recorder._timing.ALWAYS_UNDER_SECONDS", 1e9)

    def called(logger, seen, stop=None):
        class Epochs(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == stop:
                    raise KeyboardInterrupt
                seen.append(epoch)

        model, x, y, arguments = explosions.unscaled_inputs()
        told = {"run_dir": tmp_path / "run", "callbacks": [logger, Epochs()]}
        return nanfix.fit(model, x, y, **{**arguments, "epochs": 6, **told})

    logger = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    with pytest.raises(KeyboardInterrupt):
        called(logger, [], stop=4)
    logger.csv_file.close()
    report = called(keras.callbacks.CSVLogger(logger.filename), begun := [])
    assert report.outcome is Outcome.REPAIRED and any(
        "Went on at epoch" in note for note in report.notes
    )
    # Of the failing training it sees the beginning once more.
    assert begun[-1] == 5 and 2 not in begun
    assert report.epoch == list(range(6)) and all(np.isfinite(report.history["loss"]))
    with open(logger.filename) as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == report.epoch
    assert not list((tmp_path / "run").glob("**/*.safetensors"))


def test_run_dir_of_another_run_is_refused(tmp_path):
    model, x, y, arguments = explosions.healthy()
    nanfix.fit(model, x, y, run_dir=tmp_path / "run", **arguments)
    other = explosions.mlp(outputs=2, loss="mae")
    with pytest.raises(RunDirError, match="another run"):
        nanfix.fit(other, x, np.concatenate([y, y], axis=1), run_dir=tmp_path / "run", **arguments)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    with pytest.raises(RunDirError, match="not a run_dir"):
        nanfix.fit(model, x, y, run_dir=tmp_path / "full", **arguments)
