"""Trials: what one leaves behind for the next."""

import explosions
import keras
import tensorflow as tf

import nanfix
from nanfix.report.report import Outcome


class Masked(keras.layers.Layer):
    """Overflows in half precision."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.Dense(3, dtype=self.dtype_policy)

    def call(self, x):
        left_out = keras.ops.cast(x[..., :1] > 1e3, self.compute_dtype)
        return self.inner(x) - left_out * keras.ops.exp(20 + left_out)


class Uncast(keras.layers.Layer):
    """Takes numbers of its own precision, and casts none."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **kwargs)

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 1))

    def call(self, x):
        return tf.matmul(x, tf.cast(self.kernel, self.compute_dtype))


def test_a_trial_that_tensorflow_refuses_leaves_nothing_in_the_model():
    """What the next one is to change is read from the model."""
    keras.utils.set_random_seed(0)
    half = {"dtype": "mixed_float16"}
    layers = [Masked(**half), Uncast(**half)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    x, y = explosions.table()
    report = nanfix.fit(
        model, x, y, epochs=4, verbose=0, throw=False, strategies=["raise-precision"]
    )
    assert [trial.verdict for trial in report.trials] == ["refused", "works"]
    assert report.outcome is Outcome.REPAIRED and not report.faults
    assert {each.compute_dtype for each in (*layers, layers[0].inner)} == {"float32"}
