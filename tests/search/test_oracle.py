"""The oracle of a search, asked by several processes."""

import math

import pytest

from nanfix.search.oracle import LadderOracle
from nanfix.search.tuner import ProbeTuner


def test_where_trials_run_elsewhere_the_next_ones_do_not_wait_for_them(space, tmp_path):
    oracle = LadderOracle(space, max_trials=50, deadline=math.inf, seed=0, baseline=math.inf)
    ProbeTuner(oracle, space, lambda fix: pytest.fail("no trial was to run"), tmp_path)
    trials = [oracle.create_trial(f"worker-{number}") for number in range(3)]
    assert all(trial.status == "RUNNING" for trial in trials)
    assert len({str(trial.hyperparameters.values) for trial in trials}) == 3


def test_a_worker_that_was_started_again_takes_up_its_own_trial(space, tmp_path):
    oracle = LadderOracle(space, max_trials=50, deadline=math.inf, seed=0, baseline=math.inf)
    ProbeTuner(oracle, space, lambda fix: pytest.fail("no trial was to run"), tmp_path)
    assert oracle.create_trial("worker-0").trial_id == oracle.create_trial("worker-0").trial_id
