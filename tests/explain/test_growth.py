"""How large the first step is beside the weights."""

import explosions
import keras
import numpy as np
import pytest

from nanfix.api.diagnose import diagnose


@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam(40.0), keras.optimizers.RMSprop(40.0)])
def test_the_first_step_of_an_optimizer_that_normalizes_does_not_depend_on_the_gradient(optimizer):
    """Targets in the thousands make gradients in the thousands; a step has the size of the rate."""
    x, y = explosions.table()
    model = explosions.mlp(optimizer)
    weights = [np.asarray(weight) for weight in model.trainable_variables]
    norm = np.sqrt(sum(np.square(weight).sum() for weight in weights))
    steps = 40.0 * np.sqrt(sum(weight.size for weight in weights)) / norm
    diagnosis = diagnose(model, x, 1e18 * y, epochs=10, batch_size=16, verbose=0)
    assert diagnosis.first_step == pytest.approx(steps, rel=1e-3)


def test_the_first_step_of_gradient_descent_does():
    x, y = explosions.table()
    model = explosions.mlp(keras.optimizers.SGD(0.1))
    diagnosis = diagnose(model, x, 1e6 * y, epochs=10, batch_size=16, verbose=0)
    assert diagnosis.first_step is not None and diagnosis.first_step > 1e4
