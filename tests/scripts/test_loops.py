"""What later fit calls say of a fix."""

import pytest

from nanfix.report.fix_file import RunRecord
from nanfix.report.report import Outcome
from nanfix.scripts._loops import judged_by_loops
from nanfix.scripts.results import CallResult, ScriptResult


def ran(*calls):
    """Return what came of fit calls, each with its outcome and what else its record has."""
    found = []
    for number, (outcome, update) in enumerate(calls):
        record = RunRecord.model_validate({"call": number, "outcome": outcome.name, **update})
        text = f"{outcome.name}: {outcome.value}\nmore"
        found.append(CallResult(number, "net", text, outcome, True, record=record, summary=text))
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
