"""reset-moments: an optimizer that remembers nothing, its rate and the weights as they are."""

from contextlib import ExitStack

import explosions
import keras
import numpy as np
import pytest

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.optimizer_installer import Optimizing
from nanfix.changes.optimizer_memory import forget
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "reset-moments"
DIAGNOSIS = contract.diagnosis(Cause.STALE_MOMENTS)


def trained(optimizer):
    model, (x, y) = explosions.mlp(optimizer), explosions.table(rows=32)
    model.fit(x, y, verbose=0)
    return model


def test_moments_and_steps_are_those_of_a_new_optimizer():
    model = trained(keras.optimizers.Adam(0.02))
    weights = model.get_weights()
    run = contract.run_of(model, *explosions.table(rows=16))
    Optimizing(model).install(get(NAME).apply(run, Plan()).of(OptimizerSettings), ExitStack())
    moments = [
        np.asarray(v)
        for v in model.optimizer.variables
        if v.path.split("/")[-1] not in ("learning_rate",)
    ]
    assert not any(np.any(moment) for moment in moments)
    assert float(model.optimizer.learning_rate) == np.float32(0.02)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_schedule_goes_on_counting():
    model = trained(
        keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.9), momentum=0.9)
    )
    forget(model)
    assert int(model.optimizer.iterations) == 1 and not any(
        np.any(np.asarray(m)) for m in model.optimizer.momentums
    )


def test_refuses_an_optimizer_without_memory_and_a_second_time():
    run = contract.run_of(explosions.mlp("adam"), *explosions.table(rows=16))
    run.model.optimizer.build(run.model.trainable_variables)
    assert contract.applies(get(NAME), DIAGNOSIS, run)
    assert not contract.applies(get(NAME), DIAGNOSIS, run, get(NAME).apply(run, Plan()))
    plain = contract.run_of(explosions.mlp("sgd"), *explosions.table(rows=16))
    plain.model.optimizer.build(plain.model.trainable_variables)
    assert not contract.applies(get(NAME), DIAGNOSIS, plain)


@pytest.mark.soak
def test_repairs_a_second_fold_as_well_as_an_expert():
    def expert(model, x, y, arguments):
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
        return repairs.trained(model, x, y, arguments)

    report, *_ = repairs.check_repair(NAME, explosions.velocity_of_another_training, expert)
    assert report.diagnosis.cause is Cause.STALE_MOMENTS
