"""From one cause to the next one, which the first has hidden."""

import explosions
import keras
import numpy as np
from keras import layers, ops

import nanfix
from nanfix import Outcome


class Concrete(layers.Layer):
    """Rounds to 0 and 1, and takes logarithms and powers of that."""

    def call(self, x):
        z = ops.sigmoid(20.0 * x)
        density = -1.2 * (ops.log(z) + ops.log(1.0 - z))
        density -= 2.0 * ops.log(ops.exp(x) * ops.power(z, -0.2) + ops.power(1.0 - z, -0.2))
        self.add_loss(1e-3 * ops.mean(density))
        return z


def test_a_second_operation_is_found_though_another_remedy_hides_it():
    """Written anew, the logarithm fails in a gradient, of which nobody knows the place."""
    x, y = explosions.table()
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(16), Concrete(), layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *stack])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    strategies = ["guard-unsafe-operations", "rewrite-stably"]
    report = nanfix.fit(
        model, x, y, strategies=strategies, epochs=4, batch_size=16, verbose=0, throw=False
    )
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert [edit.params["operation"] for edit in report.fix.edits] == ["Log", "Pow"]
    assert np.isfinite(report.history["loss"]).all()
