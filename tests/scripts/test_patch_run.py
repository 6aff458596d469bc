"""A patched script is run where nanfix is not there, and what it reaches is set beside the
repair.
"""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from starting import write

from nanfix.report.fix_file import RunRecord
from nanfix.report.report import Outcome
from nanfix.scripts._patch_run import judged, with_patch, with_patch_run, without_patch_run
from nanfix.scripts.results import CallResult, Figure, ScriptResult, Use
from nanfix.scripts.script import Module

# As much of Keras as is needed to see what is called.
KERAS = """
import math
from . import callbacks, tree

class History:
    def __init__(self, losses):
        self.history = {"loss": losses}

class Model:
    name = "net"

    def __init__(self, rate):
        self.rate = rate

    def fit(self, x, callbacks=None):
        for logger in callbacks or []:
            open(logger.filename, "w").write("logged")
        return History([4.0, 4.0 * self.rate])

    def evaluate(self, x): ...

    def predict(self, x):
        return [each * self.rate for each in x]

    def get_weights(self):
        return []
"""
CALLBACKS = """
class Callback: ...

class CSVLogger:
    def __init__(self, filename):
        self.filename = filename

class TensorBoard: ...
"""
TREE = "def flatten(given):\n    return list(given)\n"
SCRIPT = """
import sys
from pathlib import Path
import keras

try:
    import nanfix
except ModuleNotFoundError:
    found = "no nanfix"
Path("seen.txt").open("a").write(f"{sys.argv[1:]} {Path(__file__).name} {found}\\n")
model = keras.Model(2.0)
model.fit([1.0], callbacks=[keras.callbacks.CSVLogger("log.csv")])
print("never shown")
"""


@pytest.fixture
def repaired(folder):
    """Return what a repair of SCRIPT comes to, which makes the 2.0 in it another number, with the
    text after its patch and the figures of the proof.
    """
    for name, text in {"__init__": KERAS, "callbacks": CALLBACKS, "tree": TREE}.items():
        write(f"job/keras/{name}.py", text)

    def made(rate="0.5", text=SCRIPT, loss="2.0", **more):
        content = write("job/train.py", text).read_bytes()
        line = 1 + next(n for n, each in enumerate(text.splitlines()) if "keras.Model(" in each)
        place = {"file": "job/train.py", "line": line, "column": 8}
        place |= {"end_line": line, "end_column": 24}
        change = {"kind": "argument", "edits": [0], "name": "rate", "value": rate, "position": 0}
        change["target"] = {"place": place, "callee": "Model"}
        run = {"outcome": "REPAIRED", "edits": [{"strategy": "halve"}], "source": [change]}
        record = RunRecord.model_validate(run)
        files = {"job/train.py": hashlib.sha256(content).hexdigest()}
        history = {"loss": loss}
        call = CallResult(0, "net", "", Outcome.REPAIRED, True, history, record, files, "works")
        return with_patch(ScriptResult(0, (call,), **more))

    return made


def patch_run(result, script=Path("job/train.py"), args=(), **more):
    given = {"first": result, "seconds": 1.0, **more}
    return with_patch_run(result, script, args, **given).patch_run


def test_a_patched_script_is_run_as_it_is_where_nanfix_is_not_there(repaired, capfd):
    Path("log.csv").write_text("logged before")
    Path("seen.txt").write_text("once\n")
    Path("kept.txt").write_text("as it was")
    copied = "import shutil; shutil.copy('seen.txt', 'copy.txt'); Path('kept.txt').unlink()\n"
    result = repaired(text=SCRIPT + copied + "assert not open('seen.txt').read()[5:]\n")
    before = Path("job/train.py").read_bytes()
    run = patch_run(result, args=["--a", "b c"])
    # What the script says of itself comes back with what it fails of.
    assert run.verdict == "fails" and run.figures == (Figure(0, "loss", "2.0", "2.0"),)
    assert run.text == (
        "The patched script was run without nanfix, and it ends with AssertionError at train.py:15 "
        "(assert not open('seen.txt').read()[5:])."
    )
    assert Path("job/train.py").read_bytes() == before and capfd.readouterr().out == ""
    assert Path("log.csv").read_text() == "logged before" and not Path("copy.txt").exists()
    assert Path("seen.txt").read_text() == "once\n" and Path("kept.txt").read_text() == "as it was"
    seen = "assert open('seen.txt').read()[5:] == \"['--a', 'b c'] train.py no nanfix\\n\"\n"
    run = patch_run(repaired(text=SCRIPT + seen), args=["--a", "b c"])
    assert (run.verdict, run.text) == (
        "works",
        "The patched script was run without nanfix: loss 2, the repair reached 2.",
    )


def test_a_module_reads_its_patched_files_and_none_that_was_compiled_before(repaired):
    result = repaired(rate="float('nan')")
    write("job/__init__.py", "import sys; sys.path.insert(0, 'job')")
    write("start.py", "import job.train")
    import py_compile

    py_compile.compile("job/train.py")
    run = patch_run(result, script=Module("start"))
    assert run.verdict == "goes NaN", run.text
    assert run.text == (
        "The patched script was run without nanfix, and it still goes NaN in fit call 1, so it is "
        "not the whole fix."
    )
    assert run.is_bad and replace(result, patch_run=run).code == 6


def test_what_a_script_gets_from_its_model_counts(repaired):
    text = SCRIPT + "model.predict([float('inf')])\n"
    run = patch_run(repaired(text=text, used=(Use("predict", "train.py:14", True),)))
    assert run.verdict == "goes NaN" and "its predict at train.py:14 gives NaN or inf" in run.text
    assert patch_run(repaired(text=text, used=(Use("predict", None, False),))).verdict == "works"


def test_a_script_that_draws_anew_gets_a_second_run_where_the_first_falls_behind(repaired):
    """It counts its runs by the time of a file, which is not put back."""
    Path("runs").touch()
    os.utime("runs", (0, 0))
    count = "import os\nrun = os.stat('runs').st_mtime + 1\nos.utime('runs', (run, run))\n"
    drawn = "model.rate *= {1: 10.0, 2: 1.0}[run]\nmodel.fit("
    run = patch_run(repaired(text=count + SCRIPT.replace("model.fit(", drawn)))
    assert run.verdict == "works" and "loss 2, the repair reached 2." in run.text


def test_it_is_said_that_a_patched_script_was_not_run_to_its_end(repaired, monkeypatch):
    result = repaired()
    run = patch_run(result, seconds=30.0, left=12.0)
    assert run.verdict == "not run" and not run.is_bad
    assert run.text.startswith("The patched script was not run, ")
    assert run.text.endswith(": the rest of the budget, 12 s, is less than it takes.")
    assert "--no-check-patch" in without_patch_run(result).patch_run.text
    run = patch_run(repaired(text=SCRIPT + "import time; time.sleep(60)\n"), left=2.0)
    assert run.text.startswith("The patched script was not run to its end, ")
    assert "it was ended after 2 s" in run.text


def ended(*losses, finite=True):
    history = {"loss": list(map(str, losses))}
    return [{"kind": "fit", "call": 0, "model": "net", "finite": finite, "history": history}]


FIGURES = [
    ((9.0, 1.04), 1.0, 1.0, "works"),  # within 5 % of it,
    ((9.0, 1.15), 1.0, 1.0, "works"),  # or 2 % of what it has gained,
    ((9.0, 1.7), 1.0, 1.7, "works"),  # or what two runs of the repair differ by,
    ((9.0, 5.0), 1.0, 5.0, "falls behind"),  # unless that is all that it has learned
    ((9.0, 1.7), 1.0, 1.0, "falls behind"),
    ((9.0, 0.2), 1.0, 1.0, "works"),
    ((9.0, float("nan")), 1.0, 1.0, "goes NaN"),
    ((9.0, "[1. 2.]"), 1.0, 1.0, "works"),  # no figure at all
]


def test_what_begins_at_another_scale_has_not_learned_the_more():
    record = RunRecord.model_validate({"outcome": "REPAIRED"})
    call = CallResult(0, "net", "", Outcome.REPAIRED, True, {"loss": "0.04"}, record=record)
    first = ScriptResult(0, (replace(call, highest={"loss": 2.9}),))
    run = judged(ScriptResult(0, (call,)), first, 0, ended(7e5, 60.0, 29.0))
    assert run.verdict == "falls behind" and "loss 29, the repair reached 0.04" in run.text


@pytest.mark.parametrize(
    ("reached", "repaired", "before", "verdict"),
    FIGURES,
)
def test_figures_are_compared_as_those_of_candidates(reached, repaired, before, verdict):
    record = RunRecord.model_validate({"outcome": "REPAIRED"})
    call = CallResult(0, "net", "", Outcome.REPAIRED, True, {"loss": str(repaired)}, record)
    result = ScriptResult(0, (call,))
    first = ScriptResult(0, (replace(call, history={"loss": str(before)}),))
    run = judged(result, first, 0, ended(*reached))
    assert run.verdict == verdict, run.text
    if verdict == "falls behind":
        words = f"it falls behind the repair: loss {reached[-1]:.4g}, the repair reached 1."
        assert run.text == f"The patched script was run without nanfix, and {words}"
    assert replace(result, patch_run=run).code == (0 if verdict == "works" else 6)


@pytest.mark.parametrize(("earlier", "verdict"), [(1.2, "works"), (1.68, "falls behind")])
def test_what_two_runs_of_the_patched_script_differ_by_is_noise(earlier, verdict):
    record = RunRecord.model_validate({"outcome": "REPAIRED"})
    call = CallResult(0, "net", "", Outcome.REPAIRED, True, {"loss": "1.0"}, record)
    result, before = ScriptResult(0, (call,)), [Figure(0, "loss", str(earlier), "1.0")]
    assert judged(result, result, 0, ended(9.0, 1.7), before).verdict == verdict


def test_what_the_seeds_of_the_proof_differ_by_is_noise():
    record = RunRecord.model_validate({"outcome": "REPAIRED"})
    call = CallResult(0, "net", "", Outcome.REPAIRED, True, {"loss": "1.0"}, record)
    result = ScriptResult(0, (call,))
    spread = ScriptResult(0, (replace(call, spread=0.7),))
    assert judged(result, result, 0, ended(9.0, 1.7)).verdict == "falls behind"
    assert judged(result, spread, 0, ended(9.0, 1.7)).verdict == "works"


WEIGHTS = [
    (["1 / 20.0**2"], 400.0),
    (["1 / 20.0"], 20.0),
    (["0.5", "1 / 20.0**2"], 800.0),
    ([], 1.0),
]


@pytest.mark.parametrize(("weights", "divided"), WEIGHTS)
def test_a_loss_that_the_patch_weighs_is_compared_in_the_units_of_the_repair(weights, divided):
    place = {"file": "job/train.py", "line": 1, "column": 0, "end_line": 1, "end_column": 9}
    compiled = {"place": place, "callee": "compile"}
    source = [{"kind": "loss", "edits": [0], "compiled": compiled, "weight": w} for w in weights]
    record = RunRecord.model_validate({"outcome": "REPAIRED", "source": source})
    call = CallResult(0, "net", "", Outcome.REPAIRED, True, {"loss": "4.0"}, record)
    result = ScriptResult(0, (call,))
    holds = judged(result, result, 0, ended(9.0 / divided, 4.0 / divided))
    assert holds.verdict == "works" and "loss 4, the repair reached 4." in holds.text
    assert ("weighs the loss by a constant" in holds.text) == bool(weights)
    behind = judged(result, result, 0, ended(90.0 / divided, 40.0 / divided))
    assert behind.verdict == "falls behind" and "loss 40, the repair reached 4." in behind.text


def test_where_single_outputs_are_weighed_otherwise_the_loss_of_each_is_compared():
    place = {"file": "job/train.py", "line": 1, "column": 0, "end_line": 1, "end_column": 9}
    compiled = {"place": place, "callee": "compile"}
    factors = {"price": "1 / 20.0**2"}
    change = {"kind": "loss", "edits": [0], "compiled": compiled, "outputs": ["price", "sold"]}
    record = {"outcome": "REPAIRED", "source": [change | {"of_outputs": factors}]}
    reached = {"loss": "400.5", "price_loss": "400.0", "sold_loss": "0.5"}
    call = CallResult(
        0, "net", "", Outcome.REPAIRED, True, reached, RunRecord.model_validate(record)
    )
    result = ScriptResult(0, (call,))

    def run(price, sold):
        history = {"loss": ["9.0", "1.5"], "price_loss": ["900.0", price]}
        event = {"kind": "fit", "call": 0, "finite": True, "history": history}
        event["history"]["sold_loss"] = ["0.9", sold]
        return judged(result, result, 0, [event])

    holds = run("401.0", "0.49")
    assert holds.verdict == "works"
    assert "price_loss 401, the repair reached 400; sold_loss 0.49" in holds.text
    assert run("401.0", "0.8").verdict == run("800.0", "0.5").verdict == "falls behind"
    assert run("401.0", "nan").verdict == "goes NaN"


def test_weights_that_are_not_finite_and_a_fit_that_is_not_made_are_told():
    call = CallResult(0, "net", "", Outcome.REPAIRED, True, {"loss": "1.0"})
    result = ScriptResult(0, (call,))
    assert judged(result, result, 0, ended(1.0, finite=False)).verdict == "goes NaN"
    missing = judged(result, result, 0, [])
    assert missing.verdict == "fails" and "it makes no fit call 1, which" in missing.text
    assert "it ends with exit code 3" in judged(result, result, 3, ended(1.0)).text


def test_a_script_that_changes_itself_has_no_patch_but_a_note(repaired):
    result = repaired()
    Path("job/train.py").write_text("another")
    again = with_patch(replace(result, patch=None))
    assert again.patch is None and "has changed since the fix was found" in again.notes[0]
    assert json.dumps(again.notes)
