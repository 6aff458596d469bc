"""A plan is what the search would try, in its order, and trains no candidate."""

import explosions
import numpy as np
import pytest

import nanfix
from nanfix import Budget, Cause
from nanfix.api.plan import train_and_plan
from nanfix.records.errors import UnknownStrategyError
from nanfix.report.trial import TrialRecord
from nanfix.search.tuner import ProbeTuner


def test_plan_begins_as_the_search_does_and_ends_with_the_budget(monkeypatch):
    model, x, y, arguments = explosions.learning_rate()
    watched, plan = train_and_plan(model, x, y, budget=Budget(trials=7), **arguments)
    assert watched.incident is not None
    assert plan.diagnosis is not None and plan.diagnosis.cause is Cause.LEARNING_RATE
    assert len(plan.fixes) == 7
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    fresh, x, y, arguments = explosions.learning_rate()
    judged = ProbeTuner.run_trial

    def never_held(self, trial, *args, **kwargs):
        self._judge = lambda fix: TrialRecord(fix.edits, "", 0, None, "non-finite", 0.0)
        return judged(self, trial, *args, **kwargs)

    monkeypatch.setattr(ProbeTuner, "run_trial", never_held)
    report = nanfix.fit(fresh, x, y, budget=Budget(trials=7), throw=False, **arguments)
    assert [fix.edits for fix in plan.fixes] == [trial.edits for trial in report.trials]


def test_plan_keeps_to_the_strategies_that_are_allowed():
    model, x, y, arguments = explosions.learning_rate()
    _, plan = train_and_plan(
        model,
        x,
        y,
        strategies=["lower-learning-rate", "clip-gradients"],
        forbid=["clip-gradients"],
        **arguments,
    )
    assert {edit.strategy for fix in plan.fixes for edit in fix.edits} == {"lower-learning-rate"}
    assert f"\n  1. {plan.fixes[0]}\n  2. {plan.fixes[1]}" in str(plan)
    with pytest.raises(UnknownStrategyError):
        train_and_plan(model, x, y, forbid=["pray"], **arguments)


def test_training_that_stays_finite_needs_no_plan():
    model, x, y, arguments = explosions.healthy()
    before = model.get_weights()[0]
    watched, plan = train_and_plan(model, x, y, **arguments)
    assert (watched.incident, plan.diagnosis, plan.fixes) == (None, None, ())
    assert (model.get_weights()[0] != before).any()
    assert "nothing would be tried" in str(plan)


def test_hopeless_data_and_holes_in_validation_data_are_planned_for_as_they_are_treated():
    model, x, y, arguments = explosions.every_target_nan()
    _, plan = train_and_plan(model, x, y, **arguments)
    assert (
        plan.fixes == ()
        and "No change to model or training can help" in str(plan)
        and "Nothing would be tried" in str(plan)
    )
    model, x, y, arguments = explosions.validation_hole()
    _, plan = train_and_plan(model, x, y, **arguments)
    assert plan.diagnosis is not None and plan.diagnosis.cause is Cause.VALIDATION_ONLY
    assert plan.fixes and str(plan.diagnosis) in str(plan)


def test_ruined_weights_are_replaced():
    model, x, y, arguments = explosions.learning_rate()
    model.set_weights([weight * np.nan for weight in model.get_weights()])
    _, plan = train_and_plan(model, x, y, **arguments)
    assert plan.diagnosis is not None and plan.diagnosis.cause is Cause.NONFINITE_START
    assert [edit.strategy for edit in plan.fixes[0].edits] == ["replace-nonfinite-weights"]
