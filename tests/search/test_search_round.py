"""One round of searching, and when its time is over."""

import time

from broken import exploding

import nanfix
from nanfix import Outcome
from nanfix.search.judge import Judge
from nanfix.search.search_round import NO_TIME


def test_the_seconds_of_a_budget_end_search_and_proof(monkeypatch):
    """The clock runs an hour ahead once the first trial is over: what held by then is
    trained with, and not proved.
    """
    late = []
    judged, now = Judge.__call__, time.monotonic
    monkeypatch.setattr(
        "nanfix.search.judge.Judge.__call__",
        lambda *given: (judged(*given), late.append(3600.0))[0],
    )
    monkeypatch.setattr("time.monotonic", lambda: now() + sum(late))
    model, x, y, arguments = exploding()
    budget = nanfix.Budget(seconds=600.0)
    report = nanfix.fit(
        model, x, y, strategies=["swap-optimizer"], budget=budget, throw=False, **arguments
    )
    assert len(report.trials) == len(late) == 1
    assert report.outcome is Outcome.REPAIRED and NO_TIME in report.notes
