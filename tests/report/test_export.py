"""fix.json, model and snippet: what is written can be read back, whole or not at all;
what is foreign is refused.
"""

import json
import math
import runpy
import sys
from types import SimpleNamespace

import pytest

from nanfix.records.atomic import write_text
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis, Finding, Onset, Phase, Place
from nanfix.records.errors import FixFormatError, NanfixError, UnknownStrategyError
from nanfix.remedies import registry
from nanfix.remedies.fix import Edit, Fix
from nanfix.remedies.strategy import Strategy, Tier
from nanfix.report.export import copy_model, export, read_fix, snippet, to_json
from nanfix.report.fix_file import FixFile, RunRecord
from nanfix.report.report import Outcome, Report
from nanfix.report.trial import TrialRecord


class Halve(Strategy):
    """Halve something, so the test needs no real remedy."""

    name = "halve"
    tier = Tier.OPTIMIZER
    treats = frozenset({Cause.LEARNING_RATE})

    def space(self, hp, diagnosis, run, plan):
        return {"rate": 0.5}

    def apply(self, run, plan, *, rate):
        return plan

    def explain(self, params):
        return f"Multiply the rate by {params['rate']}."

    def snippet(self, params):
        return f"optimizer.learning_rate *= {params['rate']}"


FIX = Fix((Edit("halve", {"rate": 0.5}),))
DIAGNOSIS = Diagnosis(
    Onset(2, 3),
    (
        Finding(Cause.LEARNING_RATE, 0.9, "the loss grew 10 times a step"),
        Finding(Cause.UNKNOWN, 0.1, "nothing else"),
    ),
    place=Place(
        Phase.LOSS, layer="dense", operation="Log", source="train.py:7", values="-1 in, NaN out"
    ),
    rows=(4, 5),
    learning_rate=1.0,
    gradient_norm=math.inf,
)


@pytest.fixture(autouse=True)
def halve(monkeypatch):
    monkeypatch.setattr(registry, "catalogue", lambda: {"halve": Halve()})


@pytest.fixture
def report():
    trials = (
        TrialRecord(FIX.edits, "initial", 20, 0.25, "works", 1.5),
        TrialRecord((), "initial", 3, None, "non-finite", 0.5),
    )
    return Report(
        Outcome.REPAIRED,
        SimpleNamespace(name="net"),
        {"loss": [1.0]},
        [0],
        {},
        DIAGNOSIS,
        FIX,
        trials,
        seed=7,
    )


def broken(report, **changes):
    data = {**json.loads(to_json(report)), **changes}
    return json.dumps({key: value for key, value in data.items() if value is not None})


def test_json_holds_diagnosis_edits_trials_and_versions(report):
    data = json.loads(to_json(report))
    (run,) = data["runs"]
    assert data["schema_version"] == 1
    assert data["keras"][0] == "3" and data["tensorflow"][0] == "2"
    assert (run["call"], run["model"], run["outcome"], run["seed"]) == (0, "net", "REPAIRED", 7)
    assert run["edits"] == [{"strategy": "halve", "rate": 0.5}]
    assert [trial["verdict"] for trial in run["trials"]] == ["works", "non-finite"]
    assert run["trials"][1]["loss"] is None
    seen = run["diagnosis"]
    assert (seen["cause"], seen["epoch"], seen["step"], seen["phase"]) == (
        "LEARNING_RATE",
        2,
        3,
        "LOSS",
    )
    assert (seen["source"], seen["rows"], seen["findings"][1]["cause"]) == (
        "train.py:7",
        [4, 5],
        "UNKNOWN",
    )


def test_nonfinite_numbers_become_null(report):
    assert json.loads(to_json(report))["runs"][0]["diagnosis"]["gradient_norm"] is None


def test_fingerprint_is_written(report):
    object.__setattr__(report, "fingerprint", {"optimizer": "SGD", "epochs": 3})
    assert json.loads(to_json(report))["runs"][0]["fingerprint"] == {
        "optimizer": "SGD",
        "epochs": 3,
    }


def test_a_file_with_nothing_but_what_the_first_version_demands_is_read(tmp_path):
    run = {"outcome": "REPAIRED", "edits": [{"strategy": "halve", "rate": 0.5}]}
    (tmp_path / "fix.json").write_text(json.dumps({"schema_version": 1, "runs": [run]}))
    assert read_fix(tmp_path / "fix.json") == FIX


def test_fix_survives_the_file(report, tmp_path):
    write_text(tmp_path / "fix.json", to_json(report))
    assert read_fix(tmp_path / "fix.json") == FIX


def test_a_script_with_several_fixes_needs_a_call_number(tmp_path):
    runs = [
        RunRecord.model_validate(
            {"call": n, "outcome": "REPAIRED", "edits": [FIX.edits[0].as_json()]}
        )
        for n in (0, 2)
    ]
    write_text(tmp_path / "fix.json", str(FixFile(runs=runs)))
    assert read_fix(tmp_path / "fix.json", call=2) == FIX
    with pytest.raises(
        FixFormatError, match=r"one of its fit calls: 0, 2\. Received: no call number"
    ):
        read_fix(tmp_path / "fix.json")
    with pytest.raises(FixFormatError, match="Received: call=1"):
        read_fix(tmp_path / "fix.json", call=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": None}, "without a schema_version"),
        (
            {"schema_version": 2},
            r"schema version 2\. Expected: 1\. Received: 2\. Install a newer nanfix",
        ),
        ({"schema_version": 0}, r"schema version 0\. Expected: 1.*Make it again"),
        ({"schema_version": "1"}, "schema version '1'"),
        ({"schema_version": True}, "schema version True"),
        ({"runs": None}, "runs: Field required"),
        ({"runs": [{"outcome": "FINE"}]}, r"runs\.0\.outcome"),
        (
            {"runs": [{"outcome": "REPAIRED", "edits": [{"rate": 0.5}]}]},
            r"runs\.0\.edits\.0\.strategy: Field required",
        ),
        (
            {"runs": [{"outcome": "REPAIRED", "edits": [{"strategy": "halve"}]}]},
            "missing a required argument: 'rate'",
        ),
        (
            {"runs": [{"outcome": "REPAIRED", "edits": [{"strategy": "halve", "rat": 1}]}]},
            "wrong parameters",
        ),
        ({"runs": [{"outcome": "HEALTHY"}]}, "needed no fix or found none"),
        (
            {"runs": [{"outcome": "HEALTHY"}, {"outcome": "HEALTHY"}]},
            "two runs with the same call number",
        ),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
    ],
)
def test_a_foreign_file_is_refused(report, tmp_path, changes, message):
    (tmp_path / "fix.json").write_text(broken(report, **changes))
    with pytest.raises(FixFormatError, match=message):
        read_fix(tmp_path / "fix.json")


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "\x00", '{"schema_version": NaN}', to_json.__doc__]
)
def test_text_that_is_no_fix_is_refused(tmp_path, text):
    (tmp_path / "fix.json").write_text(text)
    with pytest.raises(FixFormatError, match=r"Expected: a fix\.json written by nanfix"):
        read_fix(tmp_path / "fix.json")


def test_every_truncation_is_refused(report, tmp_path):
    text = to_json(report).rstrip()
    for length in range(0, len(text), 97):
        (tmp_path / "fix.json").write_text(text[:length])
        with pytest.raises(FixFormatError):
            read_fix(tmp_path / "fix.json")


def test_bytes_and_missing_files_are_refused(tmp_path):
    (tmp_path / "fix.json").write_bytes(b"\xff\xfe\x00\x80\x81")
    for path in (tmp_path / "fix.json", tmp_path / "absent.json", tmp_path):
        with pytest.raises(FixFormatError):
            read_fix(path)


def test_an_unknown_strategy_is_refused(tmp_path):
    run = RunRecord.model_validate({"outcome": "REPAIRED", "edits": [{"strategy": "pray"}]})
    write_text(tmp_path / "fix.json", str(FixFile(runs=[run])))
    with pytest.raises(UnknownStrategyError, match=r"'pray'.*Expected: one of halve"):
        read_fix(tmp_path / "fix.json")


def test_snippet_is_runnable_and_says_what_to_write_by_hand(tmp_path, monkeypatch):
    seen = {}
    fake = SimpleNamespace(
        Fix=SimpleNamespace(from_json=lambda edits: edits),
        fit=lambda *args, **kwargs: seen.update(args=args, **kwargs),
    )
    monkeypatch.setitem(sys.modules, "nanfix", fake)
    (tmp_path / "snippet.py").write_text(snippet(FIX))
    runpy.run_path(str(tmp_path / "snippet.py"))["train"]("model", "X", "y", epochs=3)
    assert seen == {
        "args": ("model", "X", "y"),
        "fix": [{"strategy": "halve", "rate": 0.5}],
        "epochs": 3,
    }
    assert "# Multiply the rate by 0.5.\n#     optimizer.learning_rate *= 0.5\n" in snippet(FIX)


def test_snippet_without_a_fix_is_still_python():
    compile(snippet(Fix()), "snippet.py", "exec")


# Keras' own, in model.save.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_export_writes_three_whole_files_and_nothing_else(report, tmp_path):
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    object.__setattr__(report, "model", model)
    report.export(tmp_path / "new" / "folder")
    export(report, tmp_path / "new" / "folder")  # a second time replaces them
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == [
        "fix.json",
        "model.keras",
        "snippet.py",
    ]
    loaded = keras.models.load_model(tmp_path / "new" / "folder" / "model.keras")
    assert (loaded.get_weights()[0] == model.get_weights()[0]).all()
    assert read_fix(tmp_path / "new" / "folder" / "fix.json") == FIX


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            NotImplementedError("no get_config\nsecond line"),
            r"model\.keras was not written.*NotImplementedError: no get_config\. Give",
        ),
        (ZeroDivisionError("of a get_config"), r"was not written.*ZeroDivisionError: of a get"),
        (OSError(28, "No space left on device"), r"Cannot write to .* No space left on device"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_model_keras_cannot_save_leaves_the_other_files(report, tmp_path, error, message):
    def save(path):
        path.write_text("half")
        raise error

    object.__setattr__(report, "model", SimpleNamespace(name="net", save=save))
    with pytest.raises(NanfixError, match=message):
        export(report, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fix.json", "snippet.py"]


def kept_models(folder, calls):
    """Write a run_dir with a fix and a model for each of the `calls`; None stands for a
    run of a single call.
    """
    runs = []
    for call in calls:
        path = folder / "model.keras" if call is None else folder / f"call-{call}" / "model.keras"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"model {call}")
        runs.append({"call": call or 0, "outcome": "REPAIRED", "edits": [FIX.edits[0].as_json()]})
    write_text(
        folder / "fix.json", str(FixFile(runs=[RunRecord.model_validate(run) for run in runs]))
    )
    return folder / "fix.json"


@pytest.mark.parametrize(
    ("calls", "call", "copied"), [([None], None, None), ([0], None, 0), ([1, 3], 3, 3)]
)
def test_the_kept_model_is_copied(tmp_path, calls, call, copied):
    copy_model(kept_models(tmp_path, calls), tmp_path / "copy.keras", call=call)
    assert (tmp_path / "copy.keras").read_text() == f"model {copied}"


def test_a_model_that_is_not_kept_or_not_chosen_is_refused(tmp_path):
    fix = kept_models(tmp_path, [1, 3])
    with pytest.raises(FixFormatError, match="one of its fit calls: 1, 3"):
        copy_model(fix, tmp_path / "copy.keras")
    (tmp_path / "call-3" / "model.keras").unlink()
    with pytest.raises(
        NanfixError, match=r"No repaired model is kept .* Repair again with a run_dir"
    ):
        copy_model(fix, tmp_path / "copy.keras", call=3)
    with pytest.raises(NanfixError, match="Cannot write to"):
        copy_model(fix, tmp_path / "absent" / "copy.keras", call=1)
    assert not (tmp_path / "copy.keras").exists()


def test_an_unwritable_folder_is_said(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NanfixError, match=r"Cannot write to .*Choose another path"):
        export(report, tmp_path / "file" / "folder")


def test_snippet_says_what_the_model_beside_it_does_not_hold():
    text = snippet(FIX, ("A saved model holds nothing of that.",))
    compile(text, "snippet.py", "exec")
    assert text.endswith("\n# What the report notes:\n# A saved model holds nothing of that.\n")
