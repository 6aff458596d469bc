"""Verdicts on generated trainings: a loss that is cut off from the weights is never repaired by
accident, and a healthy run that looks sick is never touched.
"""

import sys
from pathlib import Path

import pytest
from parameters import shortened

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import _looks
import _vacuous
import verdicts

QUICK_LOSSES = ("iou_of_empty_boxes",)
QUICK_LOOKS = ("missing_targets_masked", "spike_that_recovers", "undefined_metric")


@pytest.mark.parametrize("name", shortened(sorted(_vacuous.LOSSES), QUICK_LOSSES))
@pytest.mark.parametrize("round", shortened([0, 1, 2, 3], (1,)))
def test_a_loss_that_is_cut_off_is_not_called_repaired(name, round):
    """Alone, and beside an output that learns."""
    names = sorted(_vacuous.LOSSES)
    verdict = verdicts.judge_vacuous(names.index(name) + round * len(names))
    assert verdict.true, verdict


@pytest.mark.parametrize("name", shortened(sorted(_looks.LOOKS), QUICK_LOOKS))
def test_a_healthy_run_that_looks_sick_is_not_touched(name):
    verdict = verdicts.judge_control(sorted(_looks.LOOKS).index(name))
    assert verdict.true, verdict
