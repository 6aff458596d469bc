"""use-lion: keeps what nanfix relies on, and repairs an Adam that half precision breaks."""

import keras
import numpy as np
import pytest
from nanfix_use_lion import UseLion

import nanfix
from nanfix import Cause, Outcome
from nanfix.testing import contract


def half_precision(optimizer="Adam"):
    """All in float16, weights too: after its first step of Adam the gradients are so large that their squares are inf."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(320, 4)).astype("float32")
    y = x[:, :1] - 0.5 * x[:, 1:2] + 0.1 * np.tanh(x[:, 2:3])
    widths, activations = (16, 16, 1), ("relu", "relu", None)
    hidden = [keras.layers.Dense(w, activation=a, dtype="float16") for w, a in zip(widths, activations, strict=True)]
    model = keras.Sequential([keras.Input((4,), dtype="float16"), *hidden])
    model.compile(getattr(keras.optimizers, optimizer)(0.01), "mse")
    return model, x, y, {"epochs": 6, "batch_size": 16, "verbose": 0, "validation_split": 0.2}


def run_of(optimizer):
    return contract.run_of(*half_precision(optimizer)[:3])


@pytest.mark.parametrize("cause", [Cause.OPTIMIZER_CONSTANT, Cause.REDUCED_PRECISION])
def test_keeps_the_contract(cause):
    contract.check_strategy(UseLion(), contract.diagnosis(cause), run_of("Adam"))


@pytest.mark.parametrize(("optimizer", "applies"), [("RMSprop", True), ("SGD", False), ("Lion", False)])
def test_applies_to_optimizers_that_divide(optimizer, applies):
    assert contract.applies(UseLion(), contract.diagnosis(Cause.OPTIMIZER_CONSTANT), run_of(optimizer)) is applies


def test_repairs_adam_in_half_precision_and_the_fix_repairs_a_fresh_model(tmp_path):
    report, *_ = contract.check_repair("use-lion", half_precision)
    report.export(tmp_path)
    fix = nanfix.read_fix(tmp_path / "fix.json")
    assert fix == report.fix
    model, x, y, arguments = half_precision()
    again = nanfix.apply(model, fix, x, y, **arguments)
    assert again.outcome is Outcome.REPAIRED and type(model.optimizer) is keras.optimizers.Lion
    assert np.isfinite(again.history["val_loss"]).all()
