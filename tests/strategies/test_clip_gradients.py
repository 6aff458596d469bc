"""clip-gradients: at a share of the gradient's norm, or of the weights' where that is
the smaller.
"""

import explosions
import keras
import pytest

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "clip-gradients"
DIAGNOSIS = contract.diagnosis(Cause.EXPLODING_GRADIENT)


def run_of(optimizer):
    return contract.run_of(explosions.mlp(optimizer), *explosions.table(rows=16))


@pytest.fixture(scope="module")
def run():
    return run_of("sgd")


@pytest.mark.parametrize(
    ("gradient", "weights", "norms"),
    [
        (0.5, 2.0, [0.5, 0.05, 0.005]),
        (5.0, 2.0, [2.0, 0.2, 0.02]),
        (5.0, None, [5.0, 0.5, 0.05]),
        (0.0, 2.0, [2.0, 0.2, 0.02]),
    ],
)
def test_levels_are_shares_of_the_smaller_norm(run, gradient, weights, norms):
    diagnosis = contract.diagnosis(
        Cause.EXPLODING_GRADIENT, gradient_norm=gradient, weight_norm=weights
    )
    assert [
        params["global_clipnorm"] for params in contract.levels(get(NAME), diagnosis, run)
    ] == norms


def test_applies_where_a_finite_gradient_was_seen(run):
    assert contract.applies(get(NAME), DIAGNOSIS, run)
    assert not contract.applies(
        get(NAME), contract.diagnosis(Cause.EXPLODING_GRADIENT, gradient_norm=None), run
    )


@pytest.mark.parametrize("option", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_does_not_clip_twice(run, option):
    assert not contract.applies(
        get(NAME), DIAGNOSIS, run_of(keras.optimizers.SGD(0.1, **{option: 1.0}))
    )
    assert not contract.applies(
        get(NAME), DIAGNOSIS, run, Plan().with_change(OptimizerSettings({option: 1.0}))
    )


def test_apply_sets_one_clipping_option_and_clears_the_others(run):
    changed = get(NAME).apply(run, Plan(), global_clipnorm=0.5)
    assert changed.of(OptimizerSettings).settings == {
        "clipnorm": None,
        "clipvalue": None,
        "global_clipnorm": 0.5,
    }


def test_repairs_a_run_with_a_few_wrong_targets():
    report, *_ = repairs.check_repair(NAME, explosions.outlying_targets)
    assert report.model.optimizer.global_clipnorm == report.fix.edits[0].params["global_clipnorm"]


@pytest.mark.soak
def test_is_as_good_as_the_usual_clipping_by_hand():
    def clipped_at_one(model, x, y, arguments):
        model.compile(keras.optimizers.SGD(0.1, global_clipnorm=1.0), "mse")
        return repairs.trained(model, x, y, arguments)

    repairs.check_repair(NAME, explosions.runaway_recurrence, clipped_at_one)
