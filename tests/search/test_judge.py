"""Trials: what one leaves behind for the next."""

from contextlib import contextmanager
from types import SimpleNamespace

import explosions
import keras
import tensorflow as tf

import nanfix
from nanfix.changes.behind_outputs import BehindOutputs
from nanfix.changes.maps import Mixed
from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.report.report import Outcome
from nanfix.search.judge import Judge
from nanfix.search.verdict import Baselines


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


def test_what_learns_nothing_is_measured_with_the_floor_under_the_outputs():
    """A floor changes the loss by itself, as a guard does; a rate does not."""
    prepared = []

    @contextmanager
    def prepare(plan, _):
        prepared.append(plan)
        yield

    bench = SimpleNamespace(prepared=prepare, validation=lambda: (-3.0, {"loss": -3.0}))
    failed = SimpleNamespace(snapshots=[None])
    judge = Judge(failed, bench, Baselines(untrained=-3.5))
    floor = BehindOutputs({"output": Mixed(0.1, 3)})
    slower = OptimizerSettings({"learning_rate": 0.1})
    assert judge.begun(Plan().with_change(slower)).loss == -3.5 and not prepared
    assert judge.begun(Plan().with_change(floor).with_change(slower)).loss == -3.0
    assert [plan.changes for plan in prepared] == [Plan().with_change(floor).changes]
