"""Usage errors cost nothing and write nothing."""

import json
from pathlib import Path

import pytest
from notebooks import write_notebook


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
def test_a_notebook_without_code_is_refused(nanfix, words, fix_file):
    Path("my work.ipynb").write_text(
        '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}'
    )
    fix_file([{"strategy": "halve"}])
    code, output, errors = nanfix(
        *words, *(["--force"] if words == ["repair"] else []), "my work.ipynb"
    )
    assert (code, output) == (2, "")
    assert "Expected: a Jupyter notebook with code cells in Python. Received: one without" in errors


def test_a_patched_notebook_is_never_overwritten_silently(nanfix, repaired):
    write_notebook("work.ipynb", "x = 1")
    Path("work.patched.ipynb").write_text("mine")
    code, _, errors = nanfix("repair", "work.ipynb")
    assert (code, "script" in repaired) == (2, False)
    assert "'work.patched.ipynb' exists already" in errors and "--save" in errors
    assert nanfix("repair", "--save", "other.ipynb", "work.ipynb")[0] == 0
    assert repaired["options"]["save"] == Path("other.ipynb")
    assert nanfix("repair", "--force", "work.ipynb")[0] == 0
    assert repaired["options"]["save"] == Path("work.patched.ipynb")


def test_an_existing_fix_is_never_overwritten_silently(nanfix, repaired):
    Path("fix.json").write_text("mine")
    code, _, errors = nanfix("repair", "train.py")
    assert (code, "script" in repaired, Path("fix.json").read_text()) == (2, False, "mine")
    assert "'fix.json' exists already" in errors and "--force" in errors
    assert nanfix("repair", "--force", "train.py")[0] == 0


def test_a_foreign_fix_is_refused_before_the_script_starts(nanfix, fix_file):
    fix_file([{"strategy": "halve"}])
    data = json.loads(Path("fix.json").read_text())
    Path("fix.json").write_text(json.dumps({**data, "schema_version": 9}))
    code, _, errors = nanfix("run", "--fix", "fix.json", "train.py")
    assert code == 2 and "schema version 9" in errors and "started" not in errors
    fix_file([{"strategy": "pray"}])
    code, _, errors = nanfix("run", "--fix", "fix.json", "train.py")
    assert code == 2 and "Unknown strategy 'pray'" in errors and "started" not in errors


def test_an_existing_model_is_never_overwritten_silently(nanfix, model_repaired):
    Path("repaired.keras").write_text("mine")
    code, _, errors = nanfix("repair", "--model", "m.keras", "--data", "d.npz")
    assert (code, "subject" in model_repaired) == (
        2,
        False,
    ) and "'repaired.keras' exists already" in errors
    assert nanfix("repair", "--force", "--model", "m.keras", "--data", "d.npz")[0] == 0
