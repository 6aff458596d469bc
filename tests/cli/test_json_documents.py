"""Results as one JSON document."""

import json
from pathlib import Path

import pytest

from nanfix.report.fix_file import RunRecord
from nanfix.report.report import Outcome
from nanfix.scripts.results import CallResult, ScriptResult


def test_json_is_one_document_on_standard_output(nanfix, repaired, model_repaired):
    record = RunRecord.model_validate(
        {"outcome": "REPAIRED", "proof": "works", "edits": [{"strategy": "halve"}], "seed": 4}
    )
    history = {"loss": "0.25", "val_loss": "nan", "matrix": "array([1])"}
    call = CallResult(
        1, "net", "REPAIRED: words", Outcome.REPAIRED, True, history, record, proof="works"
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
        "notebook": None,
        "patch": None,
    }
    assert told.pop("run")["edits"] == [{"strategy": "halve"}]
    assert told == {
        "call": 1,
        "model": "net",
        "outcome": "REPAIRED",
        "proof": "works",
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
