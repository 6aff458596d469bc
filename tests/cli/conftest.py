"""The command line in a folder of its own, with one strategy, and with repairs that only note how
they were called.
"""

import hashlib
import sys
from pathlib import Path

import pytest

from nanfix.cli import app
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier
from nanfix.report.fix_file import FixFile, RunRecord
from nanfix.report.report import Outcome
from nanfix.scripts import parent
from nanfix.scripts.results import CallResult, ScriptResult


class Halve(Strategy):
    """Halve the [learning] rate."""

    name = "halve"
    tier = Tier.OPTIMIZER
    treats = frozenset({Cause.LEARNING_RATE, Cause.EXPLODING_GRADIENT})
    reference = "arXiv:0000.00000"

    def space(self, hp, diagnosis, run, plan):
        return {}

    def apply(self, run, plan):
        return plan

    def explain(self, params):
        return "Halve it."


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nanfix.remedies.registry.catalogue", lambda: {"halve": Halve()})
    Path("train.py").write_text("raise SystemExit('started')")
    return tmp_path


@pytest.fixture
def nanfix(folder, monkeypatch, capfd):
    """Run the command line; return exit code, standard output and standard error."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["nanfix", *map(str, words)])
        with pytest.raises(SystemExit) as ending:
            app.main()
        return ending.value.code, *capfd.readouterr()

    return call


@pytest.fixture
def repaired(monkeypatch):
    """Replace the repair itself; what it was called with is collected, what it returns
    can be set.
    """
    seen = {
        "result": ScriptResult(0, (CallResult(0, "net", "HEALTHY: fine", Outcome.HEALTHY, True),))
    }

    def repair_script(path, args, **options):
        seen.update(script=path, args=args, options=options)
        return seen["result"]

    monkeypatch.setattr(parent, "repair_script", repair_script)
    return seen


@pytest.fixture
def model_repaired(monkeypatch):
    """Replace the repair of a saved model, as `repaired` does that of a script."""
    from nanfix.cli import _saved_models as saved_models

    seen = {
        "result": ScriptResult(
            0, (CallResult(0, "net", "REPAIRED: fine", Outcome.REPAIRED, True, proof="works"),)
        )
    }

    def repair_saved(subject, **options):
        print("Epoch 1/2")
        seen.update(subject=subject, options=options)
        return seen["result"]

    monkeypatch.setattr(saved_models, "repair_saved", repair_saved)
    return seen


@pytest.fixture
def fix_file(folder):
    """Write a fix.json with these edits."""

    def write(edits, **changes):
        run = RunRecord.model_validate({"outcome": "REPAIRED", "edits": edits, **changes})
        Path("fix.json").write_text(str(FixFile(runs=[run])))

    return write


@pytest.fixture
def patchable(folder):
    """A script, and a fix.json that lowers its rate and has a part without a place."""
    text = "import keras\nmodel.compile(keras.optimizers.SGD(0.5), 'mse')\n"
    Path("train.py").write_text(text)
    place = {"file": "train.py", "line": 2, "column": 14, "end_line": 2, "end_column": 39}
    target = {"place": place, "callee": "SGD"}
    rate = {
        "kind": "argument",
        "edits": [0],
        "target": target,
        "name": "learning_rate",
        "value": "0.1",
        "position": 0,
    }
    none = {"kind": "none", "edits": [0], "reason": "it is Keras' own"}
    run = RunRecord.model_validate(
        {"outcome": "REPAIRED", "edits": [{"strategy": "halve"}], "source": [rate, none]}
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    Path("fix.json").write_text(
        str(FixFile(script="train.py", files={"train.py": digest}, runs=[run]))
    )
    return text
