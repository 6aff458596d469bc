"""raise-epsilon: factors of 100 up to 1, where the update failed."""

import explosions
import keras
import pytest

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase, Place
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "raise-epsilon"
DIAGNOSIS = contract.diagnosis(Cause.OPTIMIZER_CONSTANT, place=Place(Phase.UPDATE))


def run_of(optimizer):
    return contract.run_of(explosions.mlp(optimizer), *explosions.table(rows=16))


def test_levels_are_factors_of_the_users_epsilon_up_to_one():
    found = contract.levels(get(NAME), DIAGNOSIS, run_of(keras.optimizers.Adam(epsilon=1e-7)))
    assert [params["epsilon"] for params in found] == pytest.approx([1e-5, 1e-3, 1e-1, 1.0])


def test_refuses_other_places_other_optimizers_and_constants_out_of_any_range():
    adam = run_of("adam")
    large = Plan().with_change(OptimizerSettings({"epsilon": 1e-3}))
    assert contract.applies(get(NAME), DIAGNOSIS, adam) and not contract.applies(
        get(NAME), DIAGNOSIS, adam, large
    )
    assert not contract.applies(
        get(NAME), contract.diagnosis(Cause.OPTIMIZER_CONSTANT, place=Place(Phase.LOSS)), adam
    )
    assert not contract.applies(get(NAME), DIAGNOSIS, run_of("sgd"))
    assert not contract.applies(get(NAME), DIAGNOSIS, run_of(keras.optimizers.Adam(epsilon=0.0)))


@pytest.mark.soak
def test_repairs_weights_of_half_precision_as_well_as_an_expert():
    def expert(model, x, y, arguments):
        model.compile(keras.optimizers.Adam(0.01, epsilon=1e-4), "mse")
        return repairs.trained(model, x, y, arguments)

    report, *_ = repairs.check_repair(NAME, explosions.half_weights, expert)
    assert report.model.optimizer.epsilon == report.fix.edits[0].params["epsilon"]
