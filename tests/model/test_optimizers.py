"""Which optimizers a model has, and which of them its step calls."""

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import nanfix
from nanfix import Cause, Outcome
from nanfix.model.optimizers import listening_to_updates, optimizers, slots, trained_optimizers
from nanfix.model.run import base_optimizer
from nanfix.model.training_step import RecordingStep


class Pair(keras.Model):
    """Two parts with an optimizer each, neither of which is called `optimizer`."""

    def __init__(self, update="apply"):
        super().__init__()
        self.left, self.right, self.update = layers.Dense(1), layers.Dense(1), update

    def compile(self, left, right):
        super().compile()
        self.left_optimizer, self.others = left, {"right": right}

    def call(self, x):
        return self.left(x) + self.right(x)

    def train_step(self, data):
        x, y = data
        for part, optimizer in (
            (self.left, self.left_optimizer),
            (self.right, self.others["right"]),
        ):
            with tf.GradientTape() as tape:
                loss = keras.ops.mean(keras.ops.square(y - self(x)))
            gradients = tape.gradient(loss, part.trainable_variables)
            if self.update == "apply":
                optimizer.apply(gradients, part.trainable_variables)
            else:
                optimizer.apply_gradients(zip(gradients, part.trainable_variables, strict=True))
        return {"error": loss}


def pair(left=None, right=None, **settings):
    model = Pair(**settings)
    model.compile(left or keras.optimizers.SGD(0.1), right or keras.optimizers.Adam(0.2))
    return model


def traced(model):
    """Trace the training step without running it."""
    data = tf.data.Dataset.from_tensors((tf.ones((4, 2)), tf.ones((4, 1))))
    RecordingStep(model).prepare(iter(data))
    return model


def test_optimizer_that_compile_made_and_nobody_calls_is_told_from_those_that_train():
    model = traced(pair())
    assert len(optimizers(model)) == 3
    assert trained_optimizers(model) == [model.left_optimizer, model.others["right"]]
    assert base_optimizer(model) is model.left_optimizer


def test_before_any_step_is_traced_those_that_have_taken_steps_are_known_else_all_count():
    model = pair()
    assert trained_optimizers(model) == [
        model.optimizer,
        model.left_optimizer,
        model.others["right"],
    ]
    model.others["right"].build([keras.Variable(1.0)])
    model.others["right"].iterations.assign(1)
    assert trained_optimizers(model) == [model.others["right"]]


def test_what_takes_the_place_of_an_optimizer_is_trained_with_too():
    model = traced(pair())
    new = keras.optimizers.RMSprop()
    next(slot for slot in slots(model) if slot.name == "others").put(new)
    assert trained_optimizers(model) == [model.left_optimizer, new]


def test_optimizer_in_a_loss_scale_is_the_one_that_updates():
    model = keras.Sequential([layers.Dense(1)])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)), "mse")
    assert trained_optimizers(model) == [model.optimizer.inner_optimizer]


@pytest.mark.parametrize("update", ["apply", "apply_gradients"])
def test_every_way_to_update_is_told_and_nothing_is_left_behind(update):
    x, y = tf.ones((4, 2)), tf.zeros((4, 1))
    model, told = pair(update=update), []
    with listening_to_updates(
        model, lambda optimizer, gradients: told.append((optimizer, len(gradients)))
    ):
        model.train_step((x, y))
    assert told == [(model.left_optimizer, 2), (model.others["right"], 2)]
    assert not any("apply" in vars(optimizer) for optimizer in optimizers(model))
    assert np.asarray(model.left_optimizer.iterations) == 1


def exploding(strategy, epochs=3):
    """Train two parts, of which the rate of one is far too high, and repair the run
    with one strategy.
    """
    keras.utils.set_random_seed(0)
    model = pair(keras.optimizers.SGD(30.0), keras.optimizers.SGD(0.02))
    report = nanfix.fit(
        model,
        *explosions.table(),
        epochs=epochs,
        batch_size=16,
        verbose=0,
        strategies=[strategy],
        throw=False,
    )
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert np.isfinite(report.history["error"]).all() and report.history["error"][-1] < 0.5
    return model, report


def test_lower_rate_is_a_share_of_each_that_is_trained_with():
    model, report = exploding("lower-learning-rate")
    share = report.fix.edits[0].params["share"]
    rates = [float(optimizer.learning_rate) for optimizer in optimizers(model)]
    # The first is what compile() made.
    assert rates == pytest.approx([0.001, 30.0 * share, 0.02 * share])
    assert Cause.LEARNING_RATE in report.diagnosis.causes
    assert "with a learning rate of 0 the steps stay finite" in report.diagnosis.tried


def test_every_optimizer_that_trains_is_exchanged():
    model, _ = exploding("swap-optimizer", epochs=60)  # Adam's steps are small
    assert [type(each) for each in optimizers(model)] == [
        keras.optimizers.RMSprop,
        keras.optimizers.Adam,
        keras.optimizers.Adam,
    ]


def test_gradients_of_every_optimizer_are_clipped():
    model, report = exploding("clip-gradients")
    norm = report.fix.edits[0].params["global_clipnorm"]
    assert [each.global_clipnorm for each in optimizers(model)] == [None, norm, norm]
