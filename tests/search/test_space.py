"""The space of a search: candidates, and the values by which keras-tuner knows them."""

from dataclasses import replace

import pytest

from nanfix.records.cause import Cause
from nanfix.search.space import build_space


def test_candidates_and_values_stand_for_each_other(space):
    candidate = (("scale-inputs", 1), ("lower-learning-rate", 3))
    assert space.candidate(space.values(candidate)) == candidate


def test_a_strategy_is_asked_once_for_what_a_candidate_means(space, monkeypatch):
    """It may have to go through all of the data to say so."""
    asked, strategy = [], space.strategies["scale-inputs"]
    answer = strategy.space
    monkeypatch.setattr(
        type(strategy), "space", lambda self, *given: asked.append(0) or answer(*given)
    )
    candidate = (("lower-learning-rate", 2), ("scale-inputs", 1))
    assert space.fix_of(candidate) == space.fix_of(candidate[::-1])
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("alone", "cures"),
    [
        (Cause.UNSCALED_INPUT, {"scale-inputs"}),
        (Cause.LEARNING_RATE, {"clip-gradients", "lower-learning-rate"}),
    ],
)
def test_a_knob_cures_what_only_knobs_treat(space, alone, cures):
    """With inputs of unit scale a rerun learned: that says nothing of a lower rate."""
    findings = [replace(each, learned=each.cause is alone) for each in space.diagnosis.findings]
    diagnosis = replace(space.diagnosis, findings=tuple(findings))
    families = build_space(space.strategies, diagnosis, space.run).families
    assert {family.strategy for family in families if family.cures} == cures
