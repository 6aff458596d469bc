"""What a repair has to reach beside what the run itself had reached, and where no scaling does."""

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import nanfix
from nanfix import Outcome
from nanfix.search._own_reach import overfitted


def of_directions(y, p):
    """The likelihood of a von Mises distribution by hand; it overflows where it is narrow."""
    narrow = ops.exp(p[:, 1:])
    return ops.log(tf.math.bessel_i0(narrow)) - narrow * ops.cos(y - p[:, :1])


def test_what_ends_worse_than_the_run_was_before_it_failed_is_no_repair():
    """A share as the exponent keeps the loss finite, and what the run had learned out of reach."""
    x, _ = explosions.table()
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, "tanh"), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(0.02), of_directions)
    targets = (np.tanh(x[:, :1]) + 0.02 * x[:, 1:2]).astype("float32")
    report = nanfix.fit(
        model,
        x,
        targets,
        strategies=["constrain-outputs"],
        **{**explosions.ARGUMENTS, "epochs": 6},
    )
    assert [trial.verdict for trial in report.trials][:1] == ["works"]
    assert report.outcome is Outcome.FINITE
    assert "it is worse than the run was before it failed" in str(report)


class Coder(keras.Model):
    """Rebuilds its inputs by a step of its own, which calls the parts and not the model."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = keras.layers.Dense(16, "relu"), keras.layers.Dense(6)

    def call(self, x):
        return self.outer(self.inner(x))

    def train_step(self, x):
        with tf.GradientTape() as tape:
            loss = ops.mean(ops.square(x - self.outer(self.inner(x))))
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def test_inputs_that_no_scaling_reaches_are_not_repaired_by_what_bounds_them():
    """In front of a call that training passes by a scaling does nothing."""
    model = Coder()
    pixels = np.random.default_rng(0).integers(0, 256, (128, 6)).astype("float32")
    model(pixels[:1])
    model.compile(keras.optimizers.SGD(1.0))
    report = nanfix.fit(
        model,
        pixels,
        strategies=["scale-inputs", "lower-learning-rate"],
        epochs=4,
        batch_size=16,
        verbose=0,
    )
    assert report.outcome is Outcome.FINITE
    assert [edit.strategy for edit in report.fix.edits] == ["lower-learning-rate"]
    assert "scale-inputs" in report.refused
    assert str(report).count("scale the data before fit") == 1
    assert "since only its training step knows of a loss" in str(report)


class RateByHand(keras.callbacks.Callback):
    """Comes to 0 / 0 in the end."""

    def on_epoch_begin(self, epoch, logs=None):
        rate = 0.01 if epoch < 11 else float("nan")
        self.model.optimizer.learning_rate.assign(rate)


def test_a_run_that_has_overfitted_before_is_repaired_as_it_goes_on_so():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(140, 6)).astype("float32")
    y = (x[:, 0] + 0.6 * rng.normal(size=140) > 0).astype("float32")
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(64, "relu"), keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    report = nanfix.fit(
        model,
        x[:40],
        y[:40],
        validation_data=(x[40:], y[40:]),
        epochs=13,
        batch_size=8,
        callbacks=[RateByHand()],
        verbose=0,
    )
    losses = report.history["val_loss"]
    assert losses[-1] > 1.1 * min(losses) and report.history["loss"][-1] < 0.2
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert [edit.strategy for edit in report.fix.edits] == ["finite-learning-rate"]
    assert "the training overfits" in str(report)


NAN = float("nan")


@pytest.mark.parametrize(
    ("trained", "validated", "risen"),
    [
        ([0.7, 0.5, 0.3, 0.2], [0.6, 0.5, 0.6, 0.9], 0.9),
        ([0.7, 0.5, 0.3, NAN], [0.6, 0.5, 0.6, NAN], 0.6),
        ([0.7, 0.5, 0.6, 0.8], [0.6, 0.5, 0.6, 0.9], None),  # it had diverged
        ([0.7, 0.5, 0.3, 0.2], [0.6, 0.5, 0.4, 0.405], None),
        ([0.7], [0.6], None),
        ([0.7, 0.5, 0.3], [], None),
    ],
)
def test_what_a_run_has_come_to_by_overfitting(trained, validated, risen):
    history = {"loss": trained, **({"val_loss": validated} if validated else {})}
    assert overfitted(history) == risen
