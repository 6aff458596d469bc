"""`repair`, `diagnose`, `run`: their options go on, results become exit codes."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from nanfix.patch.patch import patch_of
from nanfix.report.fix_file import FixFile
from nanfix.report.report import Outcome
from nanfix.scripts import parent
from nanfix.scripts.results import CallResult, Figure, PatchRun, ScriptResult
from nanfix.scripts.script import Module
from nanfix.search.workers.pool import ALONE


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
        "check_patch": True,
        "save": None,
    }
    assert nanfix("repair", "--no-prove", "train.py")[0] == 0
    assert repaired["options"]["prove"] is False
    assert nanfix("repair", "--no-check-patch", "train.py")[0] == 0
    assert repaired["options"]["check_patch"] is False


@pytest.mark.parametrize(
    ("outcome", "proof", "exit_code", "code"),
    [
        (Outcome.HEALTHY, None, 0, 0),
        (Outcome.REPAIRED, "works", 0, 0),
        (Outcome.REPAIRED, "fails", 0, 4),
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
        f"Proof: it {proof} when all of it runs again with the fix and no search (loss 0.8446)."
        in errors
    ) == (proof is not None)
    assert "\x1b" not in errors


def test_a_module_is_named_as_python_takes_it(nanfix, repaired):
    repaired["result"] = replace(repaired["result"], written=Path("made.json"))
    code, _, errors = nanfix("repair", "-m", "pack.train", "-m", "--epochs", "3")
    assert code == 0
    assert (repaired["script"], repaired["args"]) == (Module("pack.train"), ["-m", "--epochs", "3"])
    assert errors.endswith("Use it: nanfix run --fix made.json -m pack.train -m --epochs 3\n")


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


def test_a_repair_names_the_lines_and_offers_the_patch(nanfix, repaired, patchable):
    record = FixFile.model_validate_json(Path("fix.json").read_text()).runs[0]
    files = {"train.py": hashlib.sha256(patchable.encode()).hexdigest()}
    rate = record.source[0]

    def told(*source, run=None):
        """What is said at the end of a repair with these changes of the source."""
        kept = record.model_copy(update={"source": list(source)})
        patch = patch_of(FixFile(files=files, runs=[kept]), Path())
        call = CallResult(
            0, "net", "words", Outcome.REPAIRED, record=kept, proof="works", files=files
        )
        result = ScriptResult(0, (call,), written=Path("fix.json"), patch=patch, patch_run=run)
        repaired["result"] = result
        code, _, errors = nanfix("repair", "--force", "train.py")
        assert code == (6 if run is not None and run.is_bad else 0)
        return errors

    place, whole = "Place in the source: train.py:2, learning_rate=0.1 in SGD.\n", "Or change the"
    errors = told(rate)
    assert place in errors and f"{whole} script itself: nanfix patch fix.json --write\n" in errors
    nothing_there = rate.target.place.model_copy(update={"line": 1, "end_line": 1})
    lost = rate.target.model_copy(update={"place": nothing_there})
    for errors in (told(*record.source), told(rate, rate.model_copy(update={"target": lost}))):
        assert place in errors and whole not in errors
        assert "in the script (nanfix patch fix.json --write): use nanfix run --fix.\n" in errors
        assert errors.count("Place in the source") == 1
        assert "not in the patch: fit call 1, halve" in errors
    holds = PatchRun("works", "The patched script was run: loss 1, the repair reached 1.")
    assert f"nanfix: {holds.text}\n{whole} script" in told(rate, run=holds)
    enough = "in the script, which is enough here: nanfix patch fix.json --write\n"
    assert enough in told(*record.source, run=holds)
    for source in ([rate], record.source):
        errors = told(*source, run=PatchRun("goes NaN", "It was run, and it still goes NaN."))
        assert "nanfix: It was run, and it still goes NaN.\n" in errors and whole not in errors
        assert "nanfix patch fix.json --write): use nanfix run --fix.\n" in errors


def test_the_document_of_a_repair_tells_what_the_patch_lacks_and_comes_to(
    nanfix, repaired, patchable
):
    content = FixFile.model_validate_json(Path("fix.json").read_text())
    figures = (Figure(0, "loss", "nan", "0.5"),)
    run = PatchRun("goes NaN", "It still goes NaN.", figures)
    call = CallResult(0, "net", "words", Outcome.REPAIRED, proof="works")
    patch = patch_of(content, Path())
    repaired["result"] = ScriptResult(0, (call,), patch=patch, patch_run=run)
    code, output, _ = nanfix("repair", "--json", "--force", "train.py")
    told = json.loads(output)
    assert (code, told["exit_code"]) == (6, 6)
    assert told["patch"]["left_over"] == ["fit call 1, halve: it is Keras' own"]
    assert "+model.compile(keras.optimizers.SGD(0.1), 'mse')" in told["patch"]["diff"]
    figure = {"call": 0, "name": "loss", "patched": None, "repaired": 0.5}
    assert told["patch"]["run"] == {
        "verdict": "goes NaN",
        "text": "It still goes NaN.",
        "figures": [figure],
    }
    repaired["result"] = ScriptResult(0, (call,))
    assert json.loads(nanfix("repair", "--json", "--force", "train.py")[1])["patch"] is None


@pytest.mark.parametrize("partial", [True, False])
def test_a_run_with_a_known_fix_says_what_the_script_itself_cannot_hold(
    nanfix, monkeypatch, patchable, partial
):
    record = FixFile.model_validate_json(Path("fix.json").read_text()).runs[0]
    source = record.source if partial else record.source[:1]
    record = record.model_copy(update={"source": source})
    files = {"train.py": hashlib.sha256(patchable.encode()).hexdigest()}
    call = CallResult(0, "net", "words", Outcome.REPAIRED, record=record, files=files)
    patch = patch_of(FixFile(files=files, runs=[record]), Path())
    told = ScriptResult(0, (call,), patch=patch)
    monkeypatch.setattr(parent, "run_script_with_fix", lambda script, args, fix: told)
    code, _, errors = nanfix("run", "--fix", "fix.json", "train.py")
    assert code == 0 and "Place in the source: train.py:2, learning_rate=0.1 in SGD.\n" in errors
    only_in_part = (
        "in the script: use nanfix run --fix fix.json.\nnanfix: not in the patch: fit call"
    )
    assert (only_in_part in errors) is partial
