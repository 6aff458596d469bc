"""robust-loss: Huber's loss teaches, the user's own judges."""

import explosions
import keras
import numpy as np
import pytest

from nanfix.changes.loss import RobustLoss
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "robust-loss"
DIAGNOSIS = contract.diagnosis(Cause.OUTLIER)


def run_of(loss="mse", y=None):
    x, targets = explosions.table(rows=16)
    return contract.run_of(explosions.mlp(loss=loss), x, targets if y is None else y)


def test_delta_is_a_share_of_the_interquartile_range():
    y = np.arange(16, dtype="float32")[:, None] * 2.0
    found = [params["delta"] for params in contract.levels(get(NAME), DIAGNOSIS, run_of(y=y))]
    assert found == [15.0, 1.5]


@pytest.mark.parametrize("loss", ["mse", "mean_squared_error", keras.losses.MeanSquaredError()])
def test_applies_to_squared_errors(loss):
    assert contract.applies(get(NAME), DIAGNOSIS, run_of(loss))


@pytest.mark.parametrize("loss", ["mae", "huber", "log_cosh"])
def test_other_losses_are_left_alone(loss):
    assert not contract.applies(get(NAME), DIAGNOSIS, run_of(loss))


def test_a_plan_with_another_loss_is_left_alone():
    run = run_of()
    changed = get(NAME).apply(run, Plan(), loss="Huber", delta=0.5, factor=2.0)
    assert changed.of(RobustLoss) == RobustLoss("Huber", (("delta", 0.5),), 2.0)
    assert not contract.applies(get(NAME), DIAGNOSIS, run, changed)


@pytest.mark.soak
def test_repairs_wrong_targets_as_well_as_an_expert_and_gives_the_loss_back():
    def expert(model, x, y, arguments):
        model.compile(keras.optimizers.SGD(0.1), keras.losses.Huber(1.0), metrics=["mse"])
        return model.fit(x, y, **arguments).history["val_mse"][-1]

    report, x, y = repairs.check_repair(NAME, explosions.spikes, expert)
    squared = float(np.mean((report.model.predict(x, verbose=0) - y) ** 2))
    assert report.model.evaluate(x, y, verbose=0) == pytest.approx(squared, rel=1e-5)
    assert report.history["val_loss"][-1] == pytest.approx(squared, rel=1e-5)
