"""loss-scale: Keras' LossScaleOptimizer round the user's own optimizer, which keeps its state."""

from contextlib import ExitStack

import explosions
import keras
import numpy as np
import pytest

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.optimizer_installer import Optimizing
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "loss-scale"
DIAGNOSIS = contract.diagnosis(Cause.REDUCED_PRECISION)


def run_of(optimizer):
    return contract.run_of(explosions.mlp(optimizer), *explosions.table(rows=16))


def test_refuses_an_optimizer_that_scales_already():
    assert contract.applies(get(NAME), DIAGNOSIS, run_of("sgd"))
    assert not contract.applies(
        get(NAME), DIAGNOSIS, run_of(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()))
    )
    assert not contract.applies(
        get(NAME),
        DIAGNOSIS,
        run_of("sgd"),
        get(NAME).apply(run_of("sgd"), Plan(), initial_scale=1.0),
    )


@pytest.mark.soak
def test_repairs_a_gradient_beyond_float16_as_well_as_an_expert(tmp_path):
    def expert(model, x, y, arguments):
        model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)), "mse")
        return repairs.trained(model, x, y, arguments)

    report, x, _ = repairs.check_repair(NAME, explosions.half_gradient, expert)
    assert isinstance(report.model.optimizer, keras.optimizers.LossScaleOptimizer)
    report.model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), report.model.predict(x, verbose=0))


def test_the_rates_that_are_tried_beside_it_are_those_that_it_trains_with():
    """It wraps an optimizer that is kept from plan to plan."""
    model = explosions.mlp(keras.optimizers.SGD(0.5))
    installer = Optimizing(model)
    inner = model.optimizer
    for rate in (0.5, 0.25, 0.125):
        with ExitStack() as undo:
            wanted = OptimizerSettings({"learning_rate": rate}, loss_scale=1.0)
            installer.install(wanted, undo, trying=True)
            assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
            assert float(inner.learning_rate) == rate
        assert model.optimizer is inner
