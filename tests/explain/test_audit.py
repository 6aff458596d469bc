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
