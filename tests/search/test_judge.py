"""Trials: what one leaves behind for the next, and what is compared."""

from types import SimpleNamespace

import explosions
import keras
import pytest

import nanfix
from nanfix.install.probing import Probe
from nanfix.remedies.fix import Fix
from nanfix.report.report import Outcome
from nanfix.search.judge import Judge
from nanfix.search.verdict import Baselines


class Masked(keras.layers.Layer):
    """Overflows in half precision, and in float32 alone cannot add what the layer inside gives."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.Dense(3, dtype=self.dtype_policy)

    def call(self, x):
        left_out = keras.ops.cast(x[..., :1] > 1e3, self.compute_dtype)
        return self.inner(x) - left_out * keras.ops.exp(20 + left_out)


def test_a_trial_that_tensorflow_refuses_leaves_nothing_in_the_model():
    """What the next one is to change is read from the model."""
    keras.utils.set_random_seed(0)
    half = {"dtype": "mixed_float16"}
    layers = [Masked(**half), keras.layers.Dense(1, **half)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    x, y = explosions.table()
    report = nanfix.fit(
        model, x, y, epochs=4, verbose=0, throw=False, strategies=["raise-precision"]
    )
    assert [trial.verdict for trial in report.trials] == ["refused", "held"]
    assert report.outcome is Outcome.REPAIRED and not report.faults
    assert {each.compute_dtype for each in (*layers, layers[0].inner)} == {"float32"}


@pytest.mark.parametrize(
    ("optimizers", "judges", "loss"), [(1, False, 0.7), (2, True, 0.7), (2, False, 0.0)]
)
def test_losses_of_players_are_not_compared(optimizers, judges, loss):
    """The sum of what a critic and a generator lose is no measure of either."""
    start = SimpleNamespace(total=0, step=0, epoch=0)
    failed = SimpleNamespace(
        run=SimpleNamespace(optimizers=[None] * optimizers),
        data=SimpleNamespace(rewind=lambda _: None, epochs=2),
        snapshots=[start],
        epoch_losses={},
        steps=3,
        steps_per_epoch=5,
        seed=0,
    )
    bench = SimpleNamespace(
        judges=judges, probe=lambda *_, **__: Probe(8, 0.7, 0.1), take_back=lambda: None
    )
    trial = Judge(failed, bench, Baselines())(Fix())
    assert (trial.verdict, trial.loss, bool(trial.reason)) == ("held", loss, loss == 0.0)
