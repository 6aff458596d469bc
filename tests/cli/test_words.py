"""Results in words."""

import json

from nanfix.report.report import Outcome
from nanfix.scripts.results import CallResult, ScriptResult


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


def test_quiet_prints_nothing(nanfix, repaired):
    assert nanfix("repair", "--quiet", "train.py") == (0, "", "")
