"""The fits of a script are repaired, and the fix is proved in a second run."""

from dataclasses import replace
from pathlib import Path

import pytest
from starting import plainly, write

from nanfix.records.errors import NanfixError
from nanfix.report.fix_file import RunRecord, load
from nanfix.report.report import Outcome
from nanfix.scripts import parent as module
from nanfix.scripts.parent import diagnose_script, plan_script, repair_script, run_script_with_fix
from nanfix.scripts.results import CallResult, ScriptResult

FAILING = """
import sys
import numpy as np
import keras

def train(rate):
    X = np.linspace(-1, 1, 64).reshape(-1, 2)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="line")
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model, model.fit(X, X.sum(1), batch_size=16, epochs=8, verbose=0)

if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    fine, first = train(0.1)
    model, history = train(float(sys.argv[1]))
    print("epochs", len(first.epoch), len(history.epoch), history.params["epochs"])
    print("finite", np.isfinite(history.history["loss"][-1]), np.isfinite(model.get_weights()[0]).all())
"""  # noqa: E501


# Judging the two runs.


def ended(outcome, *, finite=True, call=0, exit_code=0):
    record = RunRecord.model_validate({"call": call, "outcome": outcome.name, "edits": []})
    return ScriptResult(exit_code, (CallResult(call, "net", "text", outcome, finite, {}, record),))


@pytest.mark.parametrize(
    ("second", "proof", "code"),
    [
        (ended(Outcome.REPAIRED), "works", 0),
        (ended(Outcome.REPAIRED, finite=False), "fails", 4),
        (ended(Outcome.EXHAUSTED), "fails", 4),
        (ended(Outcome.REPAIRED, exit_code=1), "fails", 4),
        (ended(Outcome.REPAIRED, call=1), "fails", 4),
        (ScriptResult(0), "fails", 4),
    ],
)
def test_only_a_proved_fix_is_written(monkeypatch, second, proof, code):
    runs = iter([ended(Outcome.REPAIRED), second])
    monkeypatch.setattr(module, "run", lambda *_: next(runs))
    result = repair_script(write("train.py", ""), out=Path("fix.json"), run_dir=Path("run"))
    assert (result.calls[0].proof, result.code) == (proof, code)
    for path in (Path("fix.json"), Path("run/fix.json")):
        assert path.exists() == (proof == "works")
    if proof == "works":
        assert result.written == Path("fix.json")
        assert load(Path("fix.json")).runs[0].proof == "works"


@pytest.mark.parametrize(("finite", "proof"), [(True, "works"), (False, "fails")])
def test_a_fix_holds_where_every_call_that_has_it_in_the_second_run_stays_finite(
    monkeypatch, finite, proof
):
    def calls(*told):
        found = []
        for number, (outcome, is_finite, update) in enumerate(told):
            (call,) = ended(outcome, call=number, finite=is_finite).calls
            found.append(replace(call, record=call.record.model_copy(update=update)))
        return ScriptResult(0, tuple(found))

    repaired = (Outcome.REPAIRED, True)
    first = calls(
        (Outcome.HEALTHY, True, {}), (*repaired, {"begins": 0}), (*repaired, {"carried": 1})
    )
    second = calls(
        (Outcome.REPAIRED, finite, {"begins": 0}),
        (*repaired, {"carried": 0}),
        (*repaired, {"carried": 0}),
    )
    runs = iter([first, second])
    monkeypatch.setattr(module, "run", lambda *_: next(runs))
    result = repair_script(write("train.py", ""))
    assert [call.proof for call in result.calls] == [None, proof, "works"]


def test_the_second_run_is_announced_and_its_logs_are_thrown_away(monkeypatch, caplog):
    jobs, runs = [], iter([ended(Outcome.REPAIRED), ended(Outcome.REPAIRED)])

    def run(script, args, job):
        jobs.append(job)
        if job.logs is not None:
            Path(job.logs, "call-0").mkdir()
        return next(runs)

    monkeypatch.setattr(module, "run", run)
    with caplog.at_level("INFO", "nanfix"):
        repair_script(write("train.py", ""))
    assert jobs[0].logs is None and not Path(jobs[1].logs).exists()
    assert [record.message.partition("\n")[0] for record in caplog.records] == [
        (
            "---- Second run of the script, with the fix and no search, to prove it (--no-prove "
            "leaves it out)."
        ),
        "---- End of the second run.",
    ]


def test_a_repair_may_do_without_the_proof(monkeypatch):
    runs = iter([ended(Outcome.REPAIRED)])
    monkeypatch.setattr(module, "run", lambda *_: next(runs))
    result = repair_script(write("train.py", ""), out=Path("fix.json"), prove=False)
    assert (result.code, result.calls[0].proof, result.written) == (0, None, Path("fix.json"))
    assert result.notes == (module.NOT_RUN_AGAIN,) and load(Path("fix.json")).runs[0].proof is None


def test_a_script_that_fails_after_its_repair_is_not_run_again(monkeypatch):
    runs = iter([ended(Outcome.REPAIRED, exit_code=5)])
    monkeypatch.setattr(module, "run", lambda *_: next(runs))
    result = repair_script(write("train.py", ""), out=Path("fix.json"))
    assert (
        result.code == 5
        and "could not be proved" in result.notes[0]
        and not Path("fix.json").exists()
    )


def test_the_outputs_are_checked_before_the_script_starts():
    path = write("train.py", "open('started', 'w')")
    for options in ({"out": Path("absent/fix.json")}, {"run_dir": Path("train.py/run")}):
        with pytest.raises(NanfixError, match="Cannot write"):
            repair_script(path, **options)
    assert not Path("started").exists()


# The whole way, with a script that really explodes.


def test_a_failing_script_is_repaired_proved_and_run_with_its_fix(capfd):
    log = "verbose=0, callbacks=[keras.callbacks.CSVLogger('log.csv', append=True)])"
    path = write("train.py", FAILING.replace("verbose=0)", log))
    search = {"seed": 0, "strategies": ["lower-learning-rate"]}
    result = repair_script(path, ["1000"], out=Path("fix.json"), run_dir=Path("run"), **search)
    output = capfd.readouterr().out.splitlines()
    assert result.code == 0, result
    epochs = [int(line.partition(",")[0]) for line in Path("log.csv").read_text().splitlines()[1:]]
    # Of the repair alone: the proof has logged none.
    assert epochs == [*range(8), *range(8)]
    assert [line for line in output if line.startswith(("epochs", "finite"))] == [
        "epochs 8 8 8",
        "finite True True",
    ] * 2
    assert [(call.outcome, call.proof) for call in result.calls] == [
        (Outcome.HEALTHY, None),
        (Outcome.REPAIRED, "works"),
    ]
    content = load(Path("fix.json"))
    assert [bool(run.edits) for run in content.runs] == [False, True]
    assert content.script == "train.py" and content.runs[1].fingerprint["optimizer"] == "SGD"
    assert Path("run/fix.json").read_text() == Path("fix.json").read_text()
    assert Path("run/call-1/model.keras").is_file() and not Path("run/call-0/model.keras").exists()
    again = run_script_with_fix(path, ["1000"], Path("fix.json"))
    assert again.code == 0 and "finite True True" in capfd.readouterr().out


def test_a_script_goes_on_as_it_would_have_when_no_fix_holds(capfd):
    path = write("train.py", FAILING + "    sys.exit(7)\n")
    plain = plainly(path, "1e30")
    result = repair_script(path, ["1e30"], strategies=["reset-moments"])
    printed = capfd.readouterr().out
    assert "epochs 8 8 8\nfinite False" in plain.stdout
    # The weights are those of the last good state.
    assert "epochs 8 8 8\nfinite False True" in printed
    assert plain.returncode == result.exit_code == result.code == 7
    assert result.calls[1].outcome is Outcome.EXHAUSTED and result.written is None


def test_a_script_is_explained_up_to_the_fit_that_fails(capfd):
    path = write("train.py", FAILING)
    result = diagnose_script(path, ["1e6"])
    first, second = result.calls
    assert result.code == 0
    assert first.text == "Training stayed finite."
    assert "Cause: the learning rate is too high" in second.text and "stay finite" in second.text
    # It ended there, before it used what has no weights.
    assert "epochs" not in capfd.readouterr().out
    assert list(Path().iterdir()) == [path]
    assert second.diagnosis is not None and second.diagnosis.cause == "LEARNING_RATE"


def test_a_dry_run_lists_what_would_be_tried_and_writes_nothing(capfd):
    path = write("train.py", FAILING)
    result = plan_script(path, ["1e6"], budget={"trials": 5}, forbid=["clip-gradients"])
    first, second = result.calls
    assert (result.code, list(first.candidates), first.diagnosis) == (0, [], None)
    assert len(second.candidates) == 5 and second.diagnosis is not None
    assert "clip-gradients" not in {edit["strategy"] for fix in second.candidates for edit in fix}
    assert "Would be tried, in this order" in second.text and "\n  5. " in second.text
    assert "epochs" not in capfd.readouterr().out
    assert list(Path().iterdir()) == [path]
