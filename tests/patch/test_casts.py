"""Casts of what a loss is given, in front of its first statement."""

import pytest
from located import changed, plan_of

from nanfix.changes.loss_precision import LossPrecision

SCRIPT = '''
import keras
import numpy as np
from keras import ops


def of_an_interval(y_true, y_pred):
    """The likelihood that it ends in time."""
    scale = ops.exp(y_pred)
    return -ops.log(ops.exp(-y_true / scale) - ops.exp(-(y_true + 1.0) / scale))


X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
y = np.abs(X[:, :1])
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", loss=of_an_interval)
model.fit(X, y)
'''
IN_CLASS = SCRIPT.replace(
    "def of_an_interval(y_true, y_pred):",
    "class Interval(keras.losses.Loss):\n  def call(self, y_true, y_pred):",
).replace("loss=of_an_interval", "loss=Interval()")
IN_CLASS = IN_CLASS.replace('    """The likelihood that it ends in time."""\n', "")
LINES = [
    'y_true = ops.cast(y_true, "float64")',
    'y_pred = ops.cast(y_pred, "float64")',
]
DOUBLE = plan_of(LossPrecision("float64"))


@pytest.mark.parametrize("script", [SCRIPT, IN_CLASS], ids=["function", "class"])
def test_a_loss_casts_what_it_is_given(noted, script):
    run, call = noted(script)
    assert changed(run, DOUBLE, call) == (LINES, [])


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        ("lambda y_true, y_pred: ops.abs(y_true - y_pred)", "no function is defined"),
        ('"mse"', "the loss is no function of the script's own"),
    ],
)
def test_what_is_no_function_of_the_script_has_no_place(noted, loss, why):
    run, call = noted(SCRIPT.replace("loss=of_an_interval", f"loss={loss}"))
    lines, reasons = changed(run, DOUBLE, call)
    assert lines == [] and why in reasons[0]
