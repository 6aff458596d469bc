"""Every legal training goes through nanfix: healthy as Keras makes it, explosive to a finite model
and an honest report.

`make test` searches among a few cheap strategies. `make soak`, which sets NANFIX_SOAK, takes every
explosive form, searches among all strategies, repairs each repaired model a second time, and loads
it in a fresh process.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from legal import TABLE, harness

from nanfix import Budget

SOAK = bool(os.environ.get("NANFIX_SOAK"))
CHEAP = {
    "budget": Budget(trials=4),
    "strategies": ["lower-learning-rate", "scale-inputs", "drop-nonfinite-rows"],
}
SEARCH = {"budget": Budget(trials=30)} if SOAK else CHEAP


def cases(*, devices=1, quick=False):
    """Return the trainings of the table as parameters; with `quick`, those that are not
    are long tests.
    """
    return [
        pytest.param(training, id=training.name, marks=marks(training, quick))
        for training in TABLE.values()
        if training.devices == devices
    ]


def marks(training, quick):
    if training.needs is not None and importlib.util.find_spec(training.needs) is None:
        return [pytest.mark.skip(reason=f"{training.needs} is not installed")]
    return [pytest.mark.soak] if quick and not training.quick else []


@pytest.fixture(autouse=True)
def usual_numbers():
    """Take back the number formats that a training sets for all of Keras."""
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")


@pytest.mark.parametrize("training", cases())
def test_a_healthy_training_is_that_of_keras(training):
    harness.check_healthy(training)


@pytest.mark.parametrize("training", cases(quick=True))
def test_an_explosive_training_ends_well(training, tmp_path):
    broken = harness.check_broken(training, tmp_path, **SEARCH)
    if training.ends is not None:
        assert broken.result.outcome.name == training.ends, str(broken.result)
    if SOAK and broken.result is not None and broken.result.outcome.has_fix:
        if training.saves and training.predicts and training.loads_alone:
            harness.check_loaded_elsewhere(training, broken.model, tmp_path)
        harness.check_repaired_again(training, broken.model, **SEARCH)


@pytest.fixture(scope="module")
def on_two_devices(tmp_path_factory):
    """Return by training what came of it in a process that has two devices: nothing, or
    the traceback.
    """
    names = [training.name for training in TABLE.values() if training.devices == 2]
    command = [sys.executable, "-m", "legal.alone", str(tmp_path_factory.mktemp("devices")), *names]
    ended = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.soak
@pytest.mark.parametrize("training", cases(devices=2))
def test_two_devices(training, on_two_devices):
    assert on_two_devices[training.name] is None, on_two_devices[training.name]
