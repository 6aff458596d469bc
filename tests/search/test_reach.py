"""Whether the loss of each output reaches the weights, where several are trained together."""

import explosions
import keras
import numpy as np
import pytest
from keras import ops

import nanfix
from nanfix import Outcome


def rounded(y, p):
    """Have no gradient, and yet be lower the better the layers that both outputs share are."""
    return ops.abs(y - ops.round(p)) + 0.0 * p


def rarely(y, p):
    """Be learned of one row in a hundred, where the target is known."""
    return ops.where(y > -1.0, ops.square(y - p), 0.0)


def fitted(loss, kind, **compiled):
    """Return the report of a training with a hole in a row, whose first output has this loss."""
    x, y = explosions.table()
    x = np.tile(x, (4, 1))
    y = np.tile(y, (4, 1))
    x[7, 1] = np.nan
    first = np.where(np.arange(len(y))[:, None] % 100, -1.0, np.abs(y)) if kind == "rare" else y
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(16, "tanh")(inputs)
    outputs = [keras.layers.Dense(1, name=name)(hidden) for name in ("first", "second")]
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.01), [loss, "mse"], **compiled)
    return nanfix.fit(model, x, [first, y], epochs=3, verbose=0)


def test_an_output_of_which_nothing_reaches_the_weights_is_not_repaired():
    report = fitted(rounded, "all")
    assert report.outcome is Outcome.FINITE
    assert "no gradient of its loss reaches the weights (first_loss)" in str(report)


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")  # plain Keras warns, too
@pytest.mark.parametrize(
    ("loss", "kind", "compiled"),
    [
        (rarely, "rare", {}),
        (rounded, "all", {"loss_weights": [0.0, 1.0]}),
        (None, "all", {}),
        ("mse", "all", {}),
    ],
)
def test_an_output_that_learns_of_few_rows_or_is_not_to_learn_is_no_fault(loss, kind, compiled):
    assert fitted(loss, kind, **compiled).outcome is Outcome.REPAIRED
