"""What later fit calls say of a fix."""

import pytest

from nanfix.records.rows_change import RowsChange
from nanfix.report.fix_file import RunRecord
from nanfix.report.report import Outcome
from nanfix.scripts._job import Job
from nanfix.scripts._loops import judged_by_loops, repaired_in_loops, with_sources
from nanfix.scripts.results import CallResult, ScriptResult


def ran(*calls, loss="-5e3"):
    """Return what came of fit calls, each with its outcome and what else its record has."""
    found = []
    for number, (outcome, update) in enumerate(calls):
        record = RunRecord.model_validate({"call": number, "outcome": outcome.name, **update})
        text = f"{outcome.name}: {outcome.value}\nmore"
        call = CallResult(number, "net", text, outcome, True, {"loss": loss}, record, summary=text)
        found.append(call)
    return ScriptResult(0, tuple(found))


REPAIRED = (Outcome.REPAIRED, {"begins": 0})
HEALTHY = (Outcome.HEALTHY, {})
FIRST = ran(HEALTHY, REPAIRED, (Outcome.DIVERGED, {"carried": 1}))


@pytest.mark.parametrize(
    ("runs", "call"),
    [
        ((FIRST,), 3),
        (
            (
                ran(*[(Outcome.HEALTHY, {})], REPAIRED),
                ran(REPAIRED, (Outcome.DIVERGED, {"carried": 0})),
            ),
            2,
        ),
    ],
    ids=["in the first run", "in the second"],
)
def test_a_fix_with_which_a_model_has_diverged_is_no_repair(runs, call):
    judged = judged_by_loops(*runs).calls[1]
    assert judged.outcome is Outcome.FINITE and judged.record.outcome == "FINITE"
    first, more, note = judged.text.splitlines()
    assert first == f"FINITE: {Outcome.FINITE.value}" and more == "more"
    assert f"by fit call {call}" in note and judged.summary == judged.text
    assert judged_by_loops(*runs).code == 5


def test_what_diverges_without_the_fix_says_nothing_of_it():
    result = ran(REPAIRED, (Outcome.DIVERGED, {}), (Outcome.REPAIRED, {"carried": 0}))
    assert judged_by_loops(result) == result


DIVERGED = (Outcome.DIVERGED, {"carried": 0})
HELD = (Outcome.REPAIRED, {"carried": 0})


@pytest.mark.parametrize(
    ("first", "again", "job", "falling", "outcome"),
    [
        (ran(REPAIRED, DIVERGED), ran(REPAIRED, HELD), {}, [0], Outcome.REPAIRED),
        (ran(REPAIRED, DIVERGED), ran(REPAIRED, DIVERGED), {}, [0], Outcome.FINITE),
        (ran(REPAIRED, DIVERGED), ran((Outcome.EXHAUSTED, {})), {}, [0], Outcome.FINITE),
        (ran(REPAIRED, DIVERGED, loss="5e9"), None, {}, None, Outcome.FINITE),
        (ran(REPAIRED, DIVERGED), None, {"run_dir": "runs"}, None, Outcome.FINITE),
        (ran(REPAIRED, HELD), None, {}, None, Outcome.REPAIRED),
    ],
    ids=["mended", "falls again", "not repaired", "rises", "kept in a folder", "works"],
)
def test_a_script_whose_loss_falls_for_ever_runs_once_more(first, again, job, falling, outcome):
    jobs, runs = [], iter([first, again])

    def run(job):
        jobs.append(job)
        return next(runs)

    result = repaired_in_loops(run, Job(mode="repair", **job))
    assert result.calls[0].outcome is outcome
    assert [job.falling for job in jobs] == ([[]] if falling is None else [[], falling])


def test_what_a_fix_changes_in_the_source_is_told_once_for_all_calls_that_have_it():
    place = {"file": "train.py", "line": 3, "column": 0, "end_line": 3, "end_column": 9}
    change = RowsChange(fit={"place": place, "callee": "fit"}, shares=True, edits=[0])
    edit, source = {"edits": [{"strategy": "a"}]}, {"source": [change]}
    first = ran(
        HEALTHY,
        (Outcome.REPAIRED, {"begins": 0, **edit, **source}),
        (Outcome.REPAIRED, {"carried": 1, **source}),
    )
    second = ran(
        (Outcome.REPAIRED, {"begins": 0, **edit, **source}),
        (Outcome.REPAIRED, {"carried": 0, **source}),
        (Outcome.REPAIRED, {"carried": 0, **source}),
    )
    told = with_sources(first, second, lambda record: record.begins).calls
    (whole,) = told[1].record.source
    assert whole.fit.changed == 3 and told[2].record.source == []
