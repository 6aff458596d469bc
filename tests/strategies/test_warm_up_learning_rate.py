"""warm-up-learning-rate: the rate rises in proportion and then stays the user's."""

import explosions
import keras
import pytest

from nanfix.changes.plan import Plan
from nanfix.changes.rate_callbacks import WarmUp
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "warm-up-learning-rate"
DIAGNOSIS = contract.diagnosis(Cause.LEARNING_RATE)


def run_of(optimizer="sgd"):
    return contract.run_of(explosions.mlp(optimizer), *explosions.table(rows=320))


def test_steps_are_a_share_of_those_planned():
    assert run_of().planned_steps == 10
    assert [params["steps"] for params in contract.levels(get(NAME), DIAGNOSIS, run_of())] == [2, 3]


def test_refuses_a_schedule_and_a_second_time():
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    assert contract.applies(get(NAME), DIAGNOSIS, run_of())
    assert not contract.applies(get(NAME), DIAGNOSIS, run_of(keras.optimizers.SGD(decay)))
    assert not contract.applies(
        get(NAME), DIAGNOSIS, run_of(), get(NAME).apply(run_of(), Plan(), steps=3)
    )


@pytest.mark.parametrize("steps", [4, 20])
def test_rate_rises_to_the_users_and_stays(steps):
    rates = []

    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    x, y = explosions.table(rows=48)
    model = explosions.mlp(keras.optimizers.SGD(0.08))
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[WarmUp(steps), Seen()])
    assert rates == pytest.approx([0.08 * min(1.0, (step + 1) / steps) for step in range(6)])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.08)


@pytest.mark.soak
def test_repairs_large_first_steps_as_well_as_an_expert():
    def expert(model, x, y, arguments):
        rises = keras.optimizers.schedules.PolynomialDecay(0.02 / 48, 48, end_learning_rate=0.02)
        model.compile(keras.optimizers.SGD(rises), "mse")
        return repairs.trained(model, x, y, arguments)

    report, *_ = repairs.check_repair(NAME, explosions.far_from_the_targets, expert)
    assert float(report.model.optimizer.learning_rate) == pytest.approx(0.02)
