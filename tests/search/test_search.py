"""The search by keras-tuner: budget, resumption, and files a killed process left torn."""

import gc
import os
import weakref

import explosions
import pytest

import nanfix
from nanfix.model.run import Run, Sample
from nanfix.private.tuner import oracles_kept
from nanfix.records.budget import Budget
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis, Finding, Onset
from nanfix.remedies.registry import select
from nanfix.report.trial import TrialRecord
from nanfix.search.candidates import NO_HINDSIGHT, Hindsight
from nanfix.search.search import search
from nanfix.search.space import build_space
from nanfix.search.tuner import PROJECT


def judge(tried):
    """Hold only with scaled inputs; a lower rate beside them is better still."""

    def judged(fix):
        names = [edit.strategy for edit in fix.edits]
        tried.append(names)
        loss = (1.0 if "lower-learning-rate" in names else 2.0) if "scale-inputs" in names else None
        return TrialRecord(
            fix.edits, "initial weights", 10, loss, "non-finite" if loss is None else "works", 0.0
        )

    return judged


def run(space, directory, tried, hindsight=NO_HINDSIGHT, **budget):
    limits = Budget(**{"trials": 50, **budget})
    return search(
        space, judge(tried), budget=limits, seed=0, directory=directory, hindsight=hindsight
    )


def first(found):
    return next(iter(found.fixes.items()))


def test_best_combination_is_found_and_put_first(space, tmp_path):
    found = run(space, tmp_path, [])
    assert [edit.strategy for edit in first(found)[1].edits] == [
        "scale-inputs",
        "lower-learning-rate",
    ]
    assert len(found.trials) == len({str(trial.edits) for trial in found.trials})


def test_trials_of_another_space_are_not_taken_over(space, tmp_path):
    run(space, tmp_path, [], trials=2)
    rest = [name for name in space.strategies if name != "clip-gradients"]
    other = build_space({name: space.strategies[name] for name in rest}, space.diagnosis, space.run)
    tried = []
    run(other, tmp_path, tried, trials=2)
    assert len(tried) == 2


def test_budget_of_trials_is_kept(space, tmp_path):
    tried = []
    found = run(space, tmp_path, tried, trials=3)
    assert len(tried) == len(found.trials) == 3


def test_budget_of_seconds_is_kept(space, tmp_path):
    tried = []
    run(space, tmp_path, tried, seconds=1e-9)
    assert len(tried) <= 1


def test_interrupted_search_tries_nothing_twice(space, tmp_path):
    before, after, whole = [], [], []
    run(space, tmp_path, before, trials=4)
    found = run(space, tmp_path, after)
    uninterrupted = run(space, tmp_path / "whole", whole)
    assert before + after == whole
    assert found == uninterrupted  # with the trials of the earlier call


def test_what_failed_later_is_not_found_again_and_the_search_goes_on_past_it(space, tmp_path):
    tried = []
    best, _ = first(run(space, tmp_path, tried))
    count = len(tried)
    found = run(space, tmp_path, tried, hindsight=Hindsight({best: None}))
    assert best not in found.fixes and found.fixes
    assert len(tried) > count


def test_what_turned_out_worse_later_is_found_behind_the_others(space, tmp_path):
    best, _ = first(run(space, tmp_path, []))
    assert first(run(space, tmp_path, [], hindsight=Hindsight({best: 5.0})))[0] != best
    assert best in run(space, tmp_path, [], hindsight=Hindsight({best: 5.0})).fixes


def test_torn_oracle_file_is_survived(space, tmp_path):
    run(space, tmp_path, [], trials=4)
    oracle = tmp_path / PROJECT / "oracle.json"
    oracle.write_text(oracle.read_text()[:40])
    assert run(space, tmp_path, []).fixes


def test_error_inside_a_trial_is_not_swallowed(space, tmp_path):
    def broken(fix):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        search(space, broken, budget=Budget(5), seed=0, directory=tmp_path)


def test_nothing_is_printed(space, tmp_path, capsys):
    run(space, tmp_path, [])
    run(space, tmp_path, [])
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == ""


def test_a_search_inside_of_a_worker_of_another_search_leads_itself(space, tmp_path, monkeypatch):
    """As when the user tunes with keras-tuner in several processes, and calls
    nanfix.fit in a trial.
    """
    outer = {
        "KERASTUNER_TUNER_ID": "chief",
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": "1",
    }
    for identity in ("chief", "tuner0"):
        for name, value in {**outer, "KERASTUNER_TUNER_ID": identity}.items():
            monkeypatch.setenv(name, value)
        tried = []
        found = run(space, tmp_path / identity, tried, trials=3)
        assert len(found.trials) == len(tried) == 3
        assert (
            os.environ["KERASTUNER_TUNER_ID"] == identity
            and os.environ["KERASTUNER_ORACLE_PORT"] == "1"
        )


def test_nothing_of_a_search_is_held_when_it_has_ended(tmp_path):
    model, x, y, _ = explosions.learning_rate()
    diagnosis = Diagnosis(Onset(1, 2), (Finding(Cause.LEARNING_RATE, 0.9, ""),), learning_rate=0.1)
    mine = build_space(
        select(["lower-learning-rate"]), diagnosis, Run.of(model, Sample((x,), (y,), (True,), x))
    )
    ended = weakref.ref(mine)
    run(mine, tmp_path, [], trials=2)
    del mine
    gc.collect()
    assert ended() is None


def test_nothing_of_a_search_is_held_when_it_has_failed(space, tmp_path):
    def judge(fix):
        raise ZeroDivisionError

    before = oracles_kept()
    with pytest.raises(ZeroDivisionError):
        search(space, judge, budget=Budget(trials=2), seed=0, directory=tmp_path)
    assert oracles_kept() == before


def test_model_and_data_of_a_repair_can_be_freed():
    def repaired():
        model, x, y, arguments = explosions.learning_rate()
        report = nanfix.fit(model, x, y, strategies=["lower-learning-rate"], **arguments)
        assert report.outcome is nanfix.Outcome.REPAIRED
        return weakref.ref(model), weakref.ref(x)

    references = repaired()
    gc.collect()
    assert [reference() for reference in references] == [None, None]
