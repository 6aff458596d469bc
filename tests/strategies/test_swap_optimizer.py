"""swap-optimizer: Adam with a rate of its own in the place of an optimizer whose step
grows with the gradient.
"""

import explosions
import keras
import numpy as np
import pytest

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "swap-optimizer"
DIAGNOSIS = contract.diagnosis(Cause.LEARNING_RATE)


def run_of(optimizer):
    return contract.run_of(explosions.mlp(optimizer), *explosions.table(rows=16))


def test_levels_are_usual_rates_of_adam():
    found = contract.levels(get(NAME), DIAGNOSIS, run_of("sgd"))
    assert found == [
        {"optimizer": "Adam", "learning_rate": 0.003},
        {"optimizer": "Adam", "learning_rate": 0.01},
        {"optimizer": "Adam", "learning_rate": 0.001},
    ]


def test_a_bold_rate_is_not_tried_on_a_loss_without_a_least_value():
    """Below 0 a crossentropy falls the lower the bolder the rate is, which shows nothing."""
    x, _ = explosions.table(rows=16)
    labels = np.eye(3, dtype="float32")[np.arange(16) % 3]
    rates = {}
    for gain in (1.0, -1.0):
        model = explosions.mlp("sgd", "categorical_crossentropy", outputs=3, last="softmax")
        found = contract.levels(get(NAME), DIAGNOSIS, contract.run_of(model, x, gain * labels))
        rates[gain] = [each["learning_rate"] for each in found]
    assert rates == {1.0: [0.003, 0.01, 0.001], -1.0: [0.003, 0.001]}


@pytest.mark.parametrize(
    ("optimizer", "applies"),
    [
        ("SGD", True),
        ("Adagrad", True),
        ("Adadelta", True),
        ("RMSprop", True),
        ("Adam", False),
        ("AdamW", False),
    ],
)
def test_applies_to_optimizers_that_are_not_adam_already(optimizer, applies):
    assert (
        contract.applies(get(NAME), DIAGNOSIS, run_of(getattr(keras.optimizers, optimizer)()))
        is applies
    )


def test_apply_leaves_nothing_of_the_other_optimizer():
    tuned = Plan().with_change(OptimizerSettings({"learning_rate": 0.5, "momentum": 0.9}))
    changed = get(NAME).apply(run_of("sgd"), tuned, optimizer="Adam", learning_rate=0.003)
    assert changed.of(OptimizerSettings) == OptimizerSettings(
        {"learning_rate": 0.003}, class_name="Adam"
    )


def test_repairs_a_rate_that_is_too_high_for_plain_descent():
    report, *_ = repairs.check_repair(NAME, explosions.learning_rate, epochs=10)
    optimizer = report.model.optimizer
    assert type(optimizer) is keras.optimizers.Adam
    assert float(optimizer.learning_rate) == np.float32(report.fix.edits[0].params["learning_rate"])
    assert int(optimizer.iterations) == 10 * 8  # 128 rows in batches of 16


@pytest.mark.soak
def test_is_as_good_as_adam_by_hand():
    def with_adam(model, x, y, arguments):
        model.compile(keras.optimizers.Adam(1e-3), "mse")
        return repairs.trained(model, x, y, arguments)

    build = explosions.with_data(explosions.learning_rate, *explosions.noisy_table(), epochs=10)
    repairs.check_repair(NAME, build, with_adam)
