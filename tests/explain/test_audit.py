"""What a look at the data tells of their holes."""

import keras
import numpy as np
import pytest

from nanfix.explain.audit import audit
from nanfix.model.run import Run, Sample


@pytest.mark.parametrize("shape", [(30, 4), (30, 6, 4)], ids=["table", "sequences"])
def test_the_columns_that_hold_the_holes_are_named(shape):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    x[5, ..., 2] = np.inf
    y = np.zeros((30, 1), "float32")
    model = keras.Sequential([keras.Input(shape[1:]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    found = audit(Run.of(model, Sample((x,), (y,), (True,))), [x], [y], [], whole=True)
    assert found.rows == (5,) and found.input_evidence.endswith("all of them in column 2")


@pytest.mark.parametrize(
    ("value", "columns", "words"),
    [
        (np.nan, [2], "2 NaN in 2 of 30 rows of the inputs, all of them in column 2 of input b"),
        (-np.inf, [0, 2], "4 -inf in 2 of 30 rows of the inputs, all of them in columns 0, 2 of"),
    ],
)
def test_the_input_that_holds_the_holes_is_named(value, columns, words):
    inputs = {name: keras.Input((4,), name=name) for name in ("a", "b")}
    model = keras.Model(inputs, keras.layers.Concatenate()(list(inputs.values())))
    model.compile("sgd", "mse")
    x = [np.ones((30, 4), "float32"), np.ones((30, 4), "float32")]
    x[1][np.ix_([3, 7], columns)] = value
    y = np.zeros((30, 8), "float32")
    sample = Sample(tuple(x), (y,), (True, True), names=("a", "b"))
    assert audit(Run.of(model, sample), x, [y], [], whole=True).input_evidence.startswith(words)


def test_the_output_whose_weights_are_not_finite_is_named():
    inputs = keras.Input((4,))
    outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("price", "days")}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"price": "mse", "days": "mae"})
    x, y = np.ones((30, 4), "float32"), [np.ones((30, 1), "float32")] * 2
    weights = [np.ones(30, "float32"), np.ones(30, "float32")]
    weights[1][[3, 7]] = np.inf
    sample = Sample((x,), tuple(y), (True,), target_names=frozenset(outputs))
    found = audit(Run.of(model, sample), [x], y, weights, whole=True)
    assert found.weight_evidence == (
        "2 inf in 2 of 30 rows of the sample weights, all of them in output price"
    )
