"""The line of a script that made its data non-finite: found by following the script once more."""

import logging
import sys
from pathlib import Path

import pytest

from nanfix.report.fix_file import DiagnosisRecord, FindingRecord
from nanfix.scripts import _origins as module
from nanfix.scripts._follower import Follower
from nanfix.scripts._job import Job
from nanfix.scripts._origins import with_origins
from nanfix.scripts._process import events_of
from nanfix.scripts.results import CallResult, ScriptResult

PIPELINE = """
import sys
import numpy as np
import tensorflow as tf

print("words", file=sys.stderr)
images = np.arange(1, 49, dtype="float32").reshape(8, 6)
images[5] = 0

def normalise(image, label):
    total = tf.reduce_sum(image)
    if total > 100.0:
        image = image * 0.5
    return image / tf.reduce_sum(image), label

def train(data):
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(data, epochs=1, verbose=0)
    print("trained", file=open("trained", "w"))

data = tf.data.Dataset.from_tensor_slices((images, images.mean(1)))
train(data.map(normalise, num_parallel_calls=2).shuffle(8).batch(4).prefetch(1))
"""


SLICES = "tf.data.Dataset.from_tensor_slices((images, images.mean(1)))"
GENERATED = """tf.data.Dataset.from_generator(
    lambda: zip(images, images.mean(1)),
    output_signature=(tf.TensorSpec((6,), "float32"), tf.TensorSpec((), "float32")),
)"""


@pytest.mark.parametrize("made", [SLICES, GENERATED])
def test_a_function_in_a_pipeline_is_followed_and_the_training_is_not_run_again(made, capfd):
    Path("pipeline.py").write_text(PIPELINE.replace(SLICES, made))
    job = Job(mode="trace", traced=0)
    code, events = events_of(Path("pipeline.py"), [], job, silent=True)
    (origin,) = [
        each for event in events if event["kind"] == "origins" for each in event["origins"]
    ]
    assert code == 0 and not Path("trained").exists()
    assert (origin["argument"], origin["at"]["line"]) == ("inputs", 14)
    assert origin["at"]["text"] == "return image / tf.reduce_sum(image), label"
    assert "words" not in "".join(capfd.readouterr())


def test_a_script_is_followed_on_when_it_handles_what_its_fit_raises():
    before = sys.gettrace()
    try:
        with pytest.raises(KeyError), Follower().waiting(sys._getframe()):
            raise KeyError
        assert sys.gettrace() is not before
    finally:
        sys.settrace(before)


def test_a_script_that_takes_too_long_is_ended():
    Path("long.py").write_text("import time\nfor _ in range(600):\n    time.sleep(0.1)\n")
    code, events = events_of(Path("long.py"), [], Job(mode="trace", traced=0), seconds=1.0)
    assert code != 0 and events == []


ORIGIN = {
    "argument": "inputs",
    "at": {"file": "train.py", "line": 17, "text": "X = (X - X.mean()) / X.std()"},
    "name": "X",
    "holes": {"cells": 20, "nan": 10, "columns": ["a", "b"], "share": 1.0},
    "finite": ["X"],
}
FOUND = {"kind": "origins", "origins": [ORIGIN], "fault": None}


def failed(cause, phase="INPUT"):
    finding = FindingRecord(cause=cause, weight=0.9, evidence="")
    diagnosis = DiagnosisRecord(cause=cause, epoch=1, step=1, phase=phase, findings=[finding])
    return ScriptResult(0, (CallResult(0, "m", "told", diagnosis=diagnosis),))


def second_run(monkeypatch, code=0, events=()):
    """Let the second run come to this; return the jobs of those that there were."""
    jobs = []

    def ran(script, args, job, **_):
        jobs.append(job)
        return code, list(events)

    monkeypatch.setattr(module, "events_of", ran)
    return jobs


def test_the_line_is_told_with_what_it_made(monkeypatch, caplog):
    jobs = second_run(monkeypatch, events=[FOUND])
    with caplog.at_level(logging.INFO, logger="nanfix"):
        (call,) = with_origins(failed("NONFINITE_INPUT"), Path("s.py"), [], {}, 1.0).calls
    assert call.text.splitlines() == [
        "told",
        "NaN or inf in the inputs: `X` has 10 NaN in columns a, b since train.py:17, "
        "`X = (X - X.mean()) / X.std()`; before it `X` was finite.",
    ]
    assert [origin.at.line for origin in call.diagnosis.origins] == [17]
    assert [job.traced for job in jobs] == [0] and "--no-trace" in caplog.text


def test_a_script_is_run_again_only_where_its_data_were_not_finite(monkeypatch):
    jobs = second_run(monkeypatch)
    for first in (ScriptResult(0, ()), failed("LEARNING_RATE", "LOSS")):
        assert with_origins(first, Path("s.py"), [], {}, 1.0) is first
    assert jobs == []


@pytest.mark.parametrize(
    ("code", "events", "reason"),
    [
        (1, [], "ended with exit code 1 before its fit call"),
        (0, [{**FOUND, "origins": []}], "no line of the script itself"),
        (0, [{**FOUND, "origins": [], "fault": "KeyError: 1"}], "failed while it followed"),
    ],
)
def test_what_was_not_found_is_said(monkeypatch, code, events, reason):
    second_run(monkeypatch, code, events)
    (note,) = with_origins(failed("NONFINITE_TARGET"), Path("s.py"), [], {}, 1.0).notes
    assert reason in note
