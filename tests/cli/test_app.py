"""The command line: usage errors cost nothing and write nothing; results become text
and exit codes.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from nanfix.cli import _words as telling
from nanfix.cli import app
from nanfix.records.cause import Cause
from nanfix.records.errors import PatchError
from nanfix.remedies.registry import catalogue
from nanfix.remedies.strategy import Strategy, Tier
from nanfix.report.fix_file import FixFile, RunRecord
from nanfix.report.report import Outcome
from nanfix.scripts import parent
from nanfix.scripts.results import CallResult, ScriptResult
from nanfix.scripts.script import Module
from nanfix.search.workers.pool import ALONE


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


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nanfix.remedies.registry.catalogue", lambda: {"halve": Halve()})
    Path("train.py").write_text("raise SystemExit('started')")
    return tmp_path


@pytest.fixture
def nanfix(monkeypatch, capfd):
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
            0, (CallResult(0, "net", "REPAIRED: fine", Outcome.REPAIRED, True, proof="held"),)
        )
    }

    def repair_saved(subject, **options):
        print("Epoch 1/2")
        seen.update(subject=subject, options=options)
        return seen["result"]

    monkeypatch.setattr(saved_models, "repair_saved", repair_saved)
    return seen


def fix_file(edits, **changes):
    run = RunRecord.model_validate({"outcome": "REPAIRED", "edits": edits, **changes})
    Path("fix.json").write_text(str(FixFile(runs=[run])))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["repair", "absent.py"], "Cannot run 'absent.py'"),
        (["repair", "."], "Received: a folder"),
        (
            ["repair", "--strategies", "pray", "train.py"],
            "Unknown strategy 'pray'. Expected: one of halve",
        ),
        (["repair", "--strategies", ",", "train.py"], "--strategies names no strategy"),
        (["repair", "--budget-trials", "0", "train.py"], "--budget-trials"),
        (["repair", "--sed", "1", "train.py"], "No such option: --sed"),
        (["repair", "--seed", "-1", "train.py"], "Invalid value for '--seed'"),
        (["repair", "--budget-seconds", "0", "train.py"], "Invalid value for '--budget-seconds'"),
        (["repair", "--budget-seconds", "nan", "train.py"], "Invalid value for '--budget-seconds'"),
        (["repair", "--budget-seconds", "inf", "train.py"], "Leave the option out for no limit."),
        (["repair", "--workers", "0", "train.py"], "Invalid value for '--workers'"),
        (
            ["repair", "--model", "m.keras", "--data", "d.npz", "--no-prove"],
            "Received: --no-prove and --model",
        ),
        (["repair", "--out", "train.py", "absent.py"], "Cannot run 'absent.py'"),
        (["repair", "--out", "absent/fix.json", "train.py"], "Cannot write to 'absent/fix.json'"),
        (
            ["repair", "--run-dir", "train.py/x", "train.py"],
            "Cannot write to 'train.py/x/fix.json'",
        ),
        (["repair"], "Missing argument"),
        (["repair", "-m"], "Missing argument"),
        (["run", "--fix", "train.py"], "Missing argument"),
        (["repair", "--forbid", " ,", "train.py"], "--forbid names no strategy"),
        (["repair", "--forbid", "pray", "train.py"], "Unknown strategy 'pray'"),
        (["repair", "--forbid", "halve", "train.py"], "No strategy is left to search among"),
        (
            ["repair", "--dry-run", "--forbid", "halve", "train.py"],
            "No strategy is left to search among",
        ),
        (["repair", "--dry-run", "absent.py"], "Cannot run 'absent.py'"),
        (["repair", "-m", "absent.train"], "There is no module 'absent.train'"),
        (["diagnose", "-m", "absent.train"], "There is no module 'absent.train'"),
        (["repair", "--model", "m.keras"], "Received: --model without --data"),
        (["repair", "--data", "d.npz", "train.py"], "Received: --data without --model"),
        (["diagnose"], "Missing argument"),
        (["diagnose", "--target", "y", "train.py"], "Received: --target without --model"),
        (
            ["diagnose", "--model", "absent.keras", "--data", "absent.npz"],
            "Cannot train on 'absent.npz'",
        ),
        (["repair", "--trust-model", "train.py"], "Received: --trust-model without --model"),
        (
            ["repair", "--model", "m.keras", "--data", "d.npz", "train.py"],
            "Received: --model and a script",
        ),
        (
            ["repair", "--model", "absent.keras", "--data", "absent.npz"],
            "Cannot train on 'absent.npz'. Expected: a file",
        ),
        (
            ["repair", "--model", "train.py", "--data", "train.py"],
            "Cannot read data from 'train.py'",
        ),
        (
            ["repair", "--model", "m.keras", "--data", "d.npz", "--save", "m.h5"],
            "Expected: a path that ends in .keras",
        ),
        (["repair", "--model", "m.keras", "--data", "d.npz", "--epochs", "0"], "--epochs"),
        (["run", "train.py"], "Missing option '--fix'"),
        (["run", "--fix", "absent.json", "train.py"], "Cannot read 'absent.json'"),
        (["run", "--fix", "train.py", "train.py"], "not JSON"),
        (["export", "absent"], "Cannot read 'absent'"),
        (["export", "."], "Cannot read 'fix.json'"),
        (["export", ".", "--format", "xml"], "'xml' is not one of"),
        (["export", ".", "--format", "keras"], "A model is no text. Expected: --out FILE"),
        (["export", ".", "--format", "keras", "-o", "m.keras"], "Cannot read 'fix.json'"),
        (["export", ".", "-o", "absent/fix.py"], "Cannot write to 'absent/fix.py'"),
        (["export", ".", "-o", "train.py"], "'train.py' exists already"),
        (["cure"], "No such command 'cure'"),
    ],
)
def test_wrong_usage_is_one_message_and_writes_nothing(nanfix, folder, words, message):
    code, output, errors = nanfix(*words)
    assert code == 2
    assert message in " ".join(errors.replace("│", " ").split())
    assert "Traceback" not in errors and output == ""
    assert [path.name for path in folder.iterdir()] == ["train.py"]


@pytest.mark.parametrize(
    "words", [["repair"], ["repair", "--dry-run"], ["diagnose"], ["run", "--fix", "fix.json"]]
)
def test_a_notebook_is_told_what_to_do(nanfix, words):
    Path("my work.ipynb").write_text('{"cells": [], "metadata": null}')
    fix_file([{"strategy": "halve"}])
    code, output, errors = nanfix(
        *words, *(["--force"] if words == ["repair"] else []), "my work.ipynb"
    )
    assert (code, output) == (2, "")
    assert "Received: a notebook. In the notebook itself, call nanfix.fit(model, ...)" in errors
    assert "jupyter nbconvert --to script 'my work.ipynb'\n" in errors


def test_the_version_tells_what_is_installed(nanfix):
    code, output, errors = nanfix("--version")
    names = ("nanfix", "keras", "tensorflow", "keras-tuner")
    assert (code, errors) == (0, "") and output == ", ".join(
        f"{name} {version(name)}" for name in names
    ) + "\n"


def test_an_existing_fix_is_never_overwritten_silently(nanfix, repaired):
    Path("fix.json").write_text("mine")
    code, _, errors = nanfix("repair", "train.py")
    assert (code, "script" in repaired, Path("fix.json").read_text()) == (2, False, "mine")
    assert "'fix.json' exists already" in errors and "--force" in errors
    assert nanfix("repair", "--force", "train.py")[0] == 0


def test_a_foreign_fix_is_refused_before_the_script_starts(nanfix):
    fix_file([{"strategy": "halve"}])
    data = json.loads(Path("fix.json").read_text())
    Path("fix.json").write_text(json.dumps({**data, "schema_version": 9}))
    code, _, errors = nanfix("run", "--fix", "fix.json", "train.py")
    assert code == 2 and "schema version 9" in errors and "started" not in errors
    fix_file([{"strategy": "pray"}])
    code, _, errors = nanfix("run", "--fix", "fix.json", "train.py")
    assert code == 2 and "Unknown strategy 'pray'" in errors and "started" not in errors


def test_what_stands_after_the_script_is_the_scripts(nanfix, repaired):
    nanfix(
        "repair",
        "--seed",
        "3",
        "--budget-trials",
        "5",
        "--strategies",
        "halve",
        "--repair-divergence",
        "train.py",
        "--help",
        "--seed",
        "9",
        "-q",
        "--",
    )
    assert repaired["script"] == Path("train.py")
    assert repaired["args"] == ["--help", "--seed", "9", "-q", "--"]
    assert repaired["options"] == {
        "out": Path("fix.json"),
        "budget": {"trials": 5},
        "strategies": ["halve"],
        "forbid": [],
        "repair_divergence": True,
        "seed": 3,
        "run_dir": None,
        "workers": ALONE,
        "prove": True,
        "trace": True,
    }
    assert nanfix("repair", "--no-prove", "train.py")[0] == 0
    assert repaired["options"]["prove"] is False


@pytest.mark.parametrize(
    ("outcome", "proof", "exit_code", "code"),
    [
        (Outcome.HEALTHY, None, 0, 0),
        (Outcome.REPAIRED, "held", 0, 0),
        (Outcome.REPAIRED, "did not hold", 0, 4),
        (Outcome.UNREPAIRABLE, None, 0, 3),
        (Outcome.EXHAUSTED, None, 0, 4),
        (Outcome.EXHAUSTED, None, 1, 1),
        (Outcome.INTERRUPTED, None, 130, 130),
    ],
)
def test_exit_codes(nanfix, repaired, outcome, proof, exit_code, code):
    call = CallResult(
        0,
        "net",
        f"{outcome.name}: words",
        outcome,
        proof=proof,
        history={"loss": "0.8446287512779236", "odd": "array([1])"},
    )
    repaired["result"] = ScriptResult(exit_code, (call,))
    found, output, errors = nanfix("repair", "train.py")
    assert found == code and output == ""
    assert f"nanfix: fit call 1, model net: {outcome.name}\n  words\n" in errors
    assert (
        f"Proof: {proof} when all of it ran again with the fix and no search (loss 0.8446)."
        in errors
    ) == (proof is not None)
    assert "\x1b" not in errors


def test_calls_of_which_the_same_is_said_are_told_as_one(nanfix, repaired):
    """A loop that fits batch by batch has as many calls as batches."""
    failed = CallResult(3, "net", "EXHAUSTED: words", Outcome.EXHAUSTED)
    healthy = [CallResult(n, "net", "HEALTHY: fine", Outcome.HEALTHY) for n in (0, 1, 2, 4)]
    repaired["result"] = ScriptResult(0, (*healthy[:3], failed, healthy[3]))
    _, _, errors = nanfix("repair", "train.py")
    told = [
        "nanfix: fit calls 1 to 3, model net: HEALTHY",
        "  fine",
        "nanfix: fit call 4, model net: EXHAUSTED",
        "  words",
        "nanfix: fit call 5, model net: HEALTHY",
        "  fine",
    ]
    assert errors.splitlines()[: len(told)] == told


def test_a_diagnosis_that_was_shown_is_not_repeated(nanfix, repaired):
    call = CallResult(
        0,
        "net",
        "REPAIRED: words\nCause: ...\nFix:",
        Outcome.REPAIRED,
        summary="REPAIRED: words\nFix:",
    )
    repaired["result"] = ScriptResult(0, (call,))
    assert (
        nanfix("repair", "train.py")[2]
        == "nanfix: fit call 1, model net: REPAIRED\n  words\n  Fix:\n"
    )
    assert json.loads(nanfix("repair", "--json", "train.py")[1])["calls"][0]["text"] == call.text


def test_a_module_is_named_as_python_takes_it(nanfix, repaired, monkeypatch):
    def changed(path):
        raise PatchError("train.py has changed since.")

    monkeypatch.setattr(telling, "patch_of_file", changed)
    repaired["result"] = replace(repaired["result"], written=Path("made.json"))
    code, _, errors = nanfix("repair", "-m", "pack.train", "-m", "--epochs", "3")
    assert code == 0
    assert (repaired["script"], repaired["args"]) == (Module("pack.train"), ["-m", "--epochs", "3"])
    assert (
        "Use it: nanfix run --fix made.json -m pack.train -m --epochs 3\n"
        "nanfix: train.py has changed since.\n"
    ) in errors


def test_a_saved_model_is_repaired_with_its_options(nanfix, model_repaired):
    model_repaired["result"] = replace(
        model_repaired["result"], written=Path("f.json"), model=Path("r.keras")
    )
    words = [
        "--model",
        "m.keras",
        "--data",
        "d.csv",
        "--target",
        "y",
        "--epochs",
        "3",
        "--batch-size",
        "8",
        "--seed",
        "5",
    ]
    code, output, errors = nanfix(
        "repair", *words, "--trust-model", "--save", "r.keras", "-o", "f.json", "--forbid", "halve"
    )
    assert (code, output) == (0, "")
    seen = model_repaired["subject"]
    assert (seen.model, seen.data, seen.target, seen.epochs, seen.batch_size) == (
        Path("m.keras"),
        Path("d.csv"),
        "y",
        3,
        8,
    )
    assert (seen.trusted, seen.seed) == (True, 5)
    assert model_repaired["options"] == {
        "out": Path("f.json"),
        "model_out": Path("r.keras"),
        "budget": {},
        "strategies": None,
        "forbid": ["halve"],
        "repair_divergence": False,
        "run_dir": None,
        "workers": ALONE,
    }
    assert "Epoch 1/2" in errors and errors.endswith(
        "Repaired model written to r.keras, the fix to f.json.\n"
    )


def test_an_existing_model_is_never_overwritten_silently(nanfix, model_repaired):
    Path("repaired.keras").write_text("mine")
    code, _, errors = nanfix("repair", "--model", "m.keras", "--data", "d.npz")
    assert (code, "subject" in model_repaired) == (
        2,
        False,
    ) and "'repaired.keras' exists already" in errors
    assert nanfix("repair", "--force", "--model", "m.keras", "--data", "d.npz")[0] == 0


def test_json_is_one_document_on_standard_output(nanfix, repaired, model_repaired):
    record = RunRecord.model_validate(
        {"outcome": "REPAIRED", "proof": "held", "edits": [{"strategy": "halve"}], "seed": 4}
    )
    history = {"loss": "0.25", "val_loss": "nan", "matrix": "array([1])"}
    call = CallResult(
        1, "net", "REPAIRED: words", Outcome.REPAIRED, True, history, record, proof="held"
    )
    repaired["result"] = ScriptResult(0, (call,), ("a note",), Path("fix.json"))
    code, output, errors = nanfix("repair", "--json", "train.py")
    assert (code, errors) == (0, "")
    document = json.loads(output)
    (told,) = document.pop("calls")
    assert document == {
        "command": "repair",
        "exit_code": 0,
        "error": None,
        "script_exit_code": 0,
        "notes": ["a note"],
        "fix": "fix.json",
        "model": None,
    }
    assert told.pop("run")["edits"] == [{"strategy": "halve"}]
    assert told == {
        "call": 1,
        "model": "net",
        "outcome": "REPAIRED",
        "proof": "held",
        "finite": True,
        "history": {"loss": 0.25, "val_loss": None, "matrix": None},
        "text": "REPAIRED: words",
        "diagnosis": None,
        "candidates": [],
    }
    code, output, errors = nanfix(
        "repair", "--json", "--quiet", "--model", "m.keras", "--data", "d.npz"
    )
    assert json.loads(output)["calls"][0]["outcome"] == "REPAIRED" and errors == "Epoch 1/2\n"


def test_json_of_a_real_script_keeps_standard_output_to_itself(nanfix):
    Path("train.py").write_text(
        "import os\nprint('by print')\nos.system('echo by a child')\nraise SystemExit(7)"
    )
    for command in (["repair"], ["repair", "--dry-run"], ["diagnose"]):
        code, output, errors = nanfix(*command, "--json", "train.py")
        document = json.loads(output)
        assert (code, document["exit_code"], document["script_exit_code"], document["calls"]) == (
            7,
            7,
            7,
            [],
        )
        assert document["command"] == command[0]
        assert "by print" in errors and "by a child" in errors
    code, output, errors = nanfix("diagnose", "train.py")
    assert output.startswith("by ") and "by " not in errors


@pytest.mark.parametrize(
    "words",
    [
        ["repair", "--json", "absent.py"],
        ["diagnose", "--json", "absent.py"],
        ["run", "--json", "--fix", "absent.json", "train.py"],
        ["export", "--json", "absent"],
    ],
)
def test_json_of_what_is_refused_says_why(nanfix, words):
    code, output, errors = nanfix(*words)
    document = json.loads(output)
    assert (code, document["command"], document["exit_code"]) == (2, words[0], 2)
    assert errors == f"nanfix: {document['error']['message']}\n"
    assert document["error"]["type"] in ("ScriptError", "FixFormatError")


def test_a_dry_run_is_explained_on_standard_output(nanfix, monkeypatch):
    seen = {}

    def plan_script(path, args, **options):
        seen.update(options)
        return ScriptResult(
            0,
            (
                CallResult(
                    0, "net", "Cause: ...\nWould be tried", candidates=[[{"strategy": "halve"}]]
                ),
            ),
        )

    monkeypatch.setattr(parent, "plan_script", plan_script)
    Path("fix.json").write_text("an earlier one, which a dry run does not touch")
    code, output, errors = nanfix("repair", "--dry-run", "--budget-trials", "4", "train.py")
    search = {"strategies": None, "forbid": [], "repair_divergence": False}
    assert (code, seen) == (0, {"budget": {"trials": 4}, **search})
    assert output == "nanfix: fit call 1, model net\n  Cause: ...\n  Would be tried\n"
    assert errors == "nanfix: Dry run: nothing was repaired or written.\n"
    code, output, _ = nanfix("repair", "--dry-run", "--json", "train.py")
    assert json.loads(output)["calls"][0]["candidates"] == [[{"strategy": "halve"}]]


def test_quiet_prints_nothing(nanfix, repaired):
    assert nanfix("repair", "--quiet", "train.py") == (0, "", "")


def test_strategies_pipe_as_tab_separated_lines(nanfix):
    code, output, _ = nanfix("strategies")
    assert code == 0
    assert output.splitlines()[1].split("\t") == [
        "halve",
        "2 optimizer",
        "exploding gradient, learning rate",
        "",
        "",
        "Halve the [learning] rate.",
        "arXiv:0000.00000",
    ]


def test_export_writes_json_and_python_to_standard_output(nanfix):
    fix_file([{"strategy": "halve"}])
    code, output, _ = nanfix("export", ".")
    assert code == 0 and output == Path("fix.json").read_text()
    code, output, _ = nanfix("export", "fix.json", "--format", "python")
    assert code == 0 and "# Halve it." in output
    compile(output, "snippet.py", "exec")
    assert nanfix("export", ".", "--format", "python", "--call", "2")[0] == 2


def test_strategies_as_json_and_by_name(nanfix):
    (told,) = json.loads(nanfix("strategies", "--json")[1])["strategies"]
    assert told == {
        "name": "halve",
        "tier": 2,
        "treats": ["EXPLODING_GRADIENT", "LEARNING_RATE"],
        "eases": [],
        "parameters": [],
        "keeps_weights": True,
        "discards_data": False,
        "reference": "arXiv:0000.00000",
    }
    assert nanfix("strategies", "--quiet")[1] == "halve\n"


def test_export_writes_files_and_documents(nanfix):
    fix_file([{"strategy": "halve"}])
    Path("model.keras").write_text("a model")
    for format, name in (("json", "a.json"), ("python", "a.py"), ("keras", "a.keras")):
        assert nanfix("export", ".", "--format", format, "-o", name) == (
            0,
            "",
            f"Written to {name}.\n",
        )
        assert nanfix("export", ".", "--format", format, "-o", name)[0] == 2
        assert nanfix("export", ".", "--format", format, "-o", name, "--force", "--quiet") == (
            0,
            "",
            "",
        )
    assert Path("a.json").read_text() == Path("fix.json").read_text()
    assert Path("a.keras").read_text() == "a model"
    compile(Path("a.py").read_text(), "a.py", "exec")
    document = json.loads(nanfix("export", ".", "--json")[1])
    assert (document["format"], document["file"], document["content"]["runs"][0]["outcome"]) == (
        "json",
        None,
        "REPAIRED",
    )
    document = json.loads(nanfix("export", ".", "--json", "--format", "python")[1])
    assert "# Halve it." in document["content"]
    document = json.loads(
        nanfix("export", ".", "--json", "--format", "keras", "-o", "a.keras", "--force")[1]
    )
    assert (document["file"], document["content"]) == ("a.keras", None)


def test_help_pipes_as_plain_lines(nanfix):
    for words in (["--help"], ["repair", "--help"], ["export", "--help"]):
        code, output, _ = nanfix(*words)
        assert code == 0 and "Usage: nanfix" in output
        assert output.isascii()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_for_the_common_shells(shell):
    code = "from nanfix.cli.app import main; main()"
    environment = {**os.environ, "_NANFIX_COMPLETE": f"source_{shell}"}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "_NANFIX_COMPLETE=complete_" in shown.stdout
    words = {"_NANFIX_COMPLETE": f"complete_{shell}", "COMP_WORDS": "nanfix di", "COMP_CWORD": "1"}
    words |= {"_TYPER_COMPLETE_ARGS": "nanfix di", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **words},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "diagnose" in found.stdout


def test_the_command_line_starts_without_the_heavy_packages():
    heavy = "{'tensorflow', 'keras', 'keras_tuner', 'numpy', 'pydantic', 'sklearn'}"
    code = (
        f"import sys, nanfix.cli.app; found = {heavy} & set(sys.modules); sys.exit(repr(found) if "
        "found else 0)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        ).stderr
        == ""
    )


def test_the_installed_strategies_can_all_be_shown():
    for strategy in catalogue().values():
        assert (
            strategy.summary
            and strategy.treats | strategy.eases
            and isinstance(strategy.parameters, tuple)
        )


def test_diagnosis_is_printed_to_standard_output(nanfix, monkeypatch):
    told = ScriptResult(
        0, (CallResult(0, "net", "Training became non-finite at epoch 1 step 3.\nCause: ..."),)
    )
    monkeypatch.setattr(parent, "diagnose_script", lambda path, args, trace: told)
    code, out, _ = nanfix("diagnose", "train.py", "--epochs", "3")
    assert code == 0
    assert out.splitlines() == [
        "nanfix: fit call 1, model net",
        "  Training became non-finite at epoch 1 step 3.",
        "  Cause: ...",
    ]


@pytest.fixture
def patchable():
    """A script, and a fix.json that lowers its rate and has a part without a place."""
    import hashlib

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


def test_patch_shows_the_diff_and_writes_only_when_it_is_told_to(nanfix, folder, patchable):
    code, diff, errors = nanfix("patch", "fix.json")
    assert code == 0 and diff.startswith("--- a/train.py\n+++ b/train.py\n")
    assert (
        "-model.compile(keras.optimizers.SGD(0.5), 'mse')\n"
        "+model.compile(keras.optimizers.SGD(0.1), 'mse')\n"
    ) in diff
    assert errors == "nanfix: not in the patch: fit call 1, halve: it is Keras' own.\n"
    assert Path("train.py").read_text() == patchable
    assert nanfix("export", ".", "--format", "patch")[:2] == (0, diff)
    code, output, _ = nanfix("patch", ".", "--write")
    assert (code, output) == (0, "train.py changed; the old file is kept as train.py.orig.\n")
    assert (
        Path("train.py.orig").read_text() == patchable
        and "SGD(0.1)" in Path("train.py").read_text()
    )
    for words in (["--write"], []):
        code, output, errors = nanfix("patch", ".", *words)
        assert (code, output) == (0, "")
        assert (
            "nanfix: train.py has this fix already; the old file is kept as train.py.orig.\n"
            in errors
        )
    assert json.loads(nanfix("patch", ".", "--json")[1])["done"] == {"train.py": "train.py.orig"}
    Path("train.py").write_text(patchable + "# mine\n")
    code, output, errors = nanfix("patch", ".", "--write")
    assert code == 2 and output == "" and "has changed since the fix was found" in errors
    assert sorted(path.name for path in folder.iterdir()) == [
        "fix.json",
        "train.py",
        "train.py.orig",
    ]


def test_a_fix_without_places_is_no_patch(nanfix, folder):
    fix_file([{"strategy": "halve"}])
    code, output, errors = nanfix("patch", "fix.json", "--write")
    assert (code, output) == (2, "") and "nothing of the fix has a place" in errors
    assert sorted(path.name for path in folder.iterdir()) == ["fix.json", "train.py"]


def test_a_repair_names_the_lines_and_offers_the_patch(nanfix, repaired, patchable):
    record = FixFile.model_validate_json(Path("fix.json").read_text()).runs[0]
    call = CallResult(0, "net", "REPAIRED: words", Outcome.REPAIRED, record=record, proof="held")
    repaired["result"] = ScriptResult(0, (call,), written=Path("fix.json"))
    code, _, errors = nanfix("repair", "--force", "train.py")
    assert code == 0 and "  Place in the source: train.py:2, learning_rate=0.1 in SGD.\n" in errors
    assert (
        "nanfix patch fix.json --write\n" in errors
        and "not in the patch: fit call 1, halve" in errors
    )
