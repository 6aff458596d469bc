"""How large the first step is beside the weights."""

from types import SimpleNamespace
from typing import Any

import explosions
import keras
import numpy as np
import pytest

from nanfix.api.diagnose import diagnose
from nanfix.explain import growth


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


@pytest.mark.parametrize(
    ("losses", "fallen"),
    [
        ([0.1, -3.0, -1e8], True),
        ([0.1, -1e20, 2e36], True),  # at last it overshoots
        ([0.1, -1e8, 2e36], False),
        ([0.1, 5e9, 2e36], False),
    ],
)
def test_a_loss_that_fell_below_any_least_value_has_none(losses, fallen):
    run: Any = SimpleNamespace(user_loss=None, sample=SimpleNamespace(targets=()))
    begun = SimpleNamespace(total=0)
    recording: Any = SimpleNamespace(loss_at={0: losses[0]}, losses=losses, initial=begun)
    assert (growth._fallen(run, recording) is not None) is fallen
