"""Verdicts on generated trainings: a loss that is cut off from the weights is never repaired by
accident, nor is one whose players learn nothing; a healthy run that looks sick is never touched.
"""

import sys
from pathlib import Path

import explosions
import keras
import pytest
import tensorflow as tf
from keras import ops
from parameters import shortened

import nanfix
from nanfix import Budget, Outcome

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import _looks
import _players
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


def test_players_that_stay_where_they_were_are_not_repaired():
    """The sum of their losses is lowest at the lowest of the rates."""
    run = _players.build("critic_that_grows")
    report = nanfix.fit(
        run.model,
        run.x,
        run.y,
        strategies=["lower-learning-rate"],
        budget=Budget(trials=2),
        throw=False,
        **{**run.arguments, "epochs": 4},
    )
    assert report.outcome is Outcome.FINITE, str(report)
    assert "what an optimizer trains has learned nothing" in str(report)
    assert "Proved" not in str(report)


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(_players.GAMES))
def test_a_game_that_is_repaired_is_as_good_as_half_of_an_experts(name):
    verdict = verdicts.judge_game(sorted(_players.GAMES).index(name))
    assert verdict.true, verdict


class TellsNoLoss(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = explosions.mlp()

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            made = self.body(x)
            error = ops.mean(ops.square(y - made))
        weights = self.body.trainable_variables
        self.optimizer.apply(tape.gradient(error, weights), weights)
        return {"ratio": ops.mean(made), "size": ops.max(made)}


def test_a_step_that_tells_no_loss_ends_finite_since_nothing_shows_that_it_learns():
    x, y = explosions.table()
    model = TellsNoLoss()
    model.compile(keras.optimizers.SGD(20.0))
    report = nanfix.fit(
        model,
        x,
        y,
        strategies=["lower-learning-rate"],
        budget=Budget(trials=3),
        throw=False,
        epochs=3,
        batch_size=16,
        verbose=0,
    )
    assert report.outcome is Outcome.FINITE, str(report)
    assert "whether it learns is not known" in str(report) and "Proved" not in str(report)
