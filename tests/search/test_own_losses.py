"""Trainings that their own losses judge: figures alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import nanfix
from nanfix.changes.plan import Plan
from nanfix.install.players import Played, Player
from nanfix.records.cause import Cause
from nanfix.search._own_losses import (
    NOT_KNOWN,
    has_grown,
    share_idle,
    shortfall_by_itself,
    unscaled,
)
from nanfix.testing import contract

STEADY = [{"d_loss": 1.3, "g_loss": 0.7}, {"d_loss": 1.4, "g_loss": 0.8}]
GENERATOR_LOST = [{"d_loss": 0.2, "g_loss": 3.0}, {"d_loss": 0.2, "g_loss": 3.2}]
DISCRIMINATOR_LOST = [{"d_loss": 2.3, "g_loss": 0.1}, {"d_loss": 2.5, "g_loss": 0.1}]


def played(generator, discriminator=DISCRIMINATOR_LOST, now=STEADY, lifeless=(), **figures):
    known = {"moved": 0.2, "grown": 1.1, **figures}
    both = [
        Player("d_optimizer", idle=discriminator, **known),
        Player("g_optimizer", idle=generator, **known),
    ]
    return Played(now, STEADY, both, lifeless)


def test_each_player_has_learned_where_it_would_lose_with_the_weights_that_it_began_with():
    assert shortfall_by_itself(played(GENERATOR_LOST)) is None
    assert share_idle(played(GENERATOR_LOST)) == 0.0


@pytest.mark.parametrize(
    ("training", "words"),
    [
        (played(STEADY), "has learned nothing (g_optimizer)"),
        (played(GENERATOR_LOST, moved=1e-5), "has learned nothing (d_optimizer, g_optimizer)"),
        (played(GENERATOR_LOST, lifeless=["generator"]), "the same for all rows (generator)"),
        (
            played(GENERATOR_LOST, now=[{"d_loss": -3e6, "g_loss": 1.0}] * 2, grown=20.0),
            "grown by orders of magnitude, and weights with it (d_loss",
        ),
    ],
)
def test_what_several_players_lack_is_told(training, words):
    assert words in shortfall_by_itself(training)


def test_a_loss_far_from_the_first_has_not_grown_where_the_weights_have_not():
    assert has_grown(played(STEADY, now=[{"d_loss": -3e6, "g_loss": 1.0}] * 2)) is None


def alone(before, now):
    return Played(now, before, [Player("optimizer", 0.1, 1.0, before)])


def test_the_loss_of_a_single_player_has_to_fall_beyond_noise():
    high, low = [{"loss": 2.0}, {"loss": 2.2}], [{"loss": 1.0}, {"loss": 1.4}]
    noisy = [{"loss": 2.3}, {"loss": 1.8}]
    assert shortfall_by_itself(alone(high, low)) is None
    assert "not fallen beyond noise (2.1 to 2.05)" in shortfall_by_itself(alone(high, noisy))


@pytest.mark.parametrize("training", [None, alone([{}], [{}]), Played(STEADY, STEADY, ())])
def test_without_a_loss_that_can_be_compared_nothing_is_known(training):
    assert shortfall_by_itself(training) == NOT_KNOWN


def test_one_loss_of_all_players_is_to_fall_whoever_has_lowered_it():
    high, low = [{"error": 2.0}, {"error": 2.2}], [{"error": 1.0}, {"error": 1.4}]
    idle = Player("right", 1e-5, 1.0, low)
    assert shortfall_by_itself(Played(low, high, [Player("left", 0.1, 1.0, high), idle])) is None


class Tower(keras.Model):
    """Trains by itself; its call takes the input straight into a layer."""

    def __init__(self):
        super().__init__()
        self.first, self.last = layers.Dense(2), layers.Dense(1)

    def call(self, x):
        return self.last(self.first(x))

    def train_step(self, data):
        return {"loss": ops.mean(self(data))}


class InTurns(Tower):
    """Its call takes more than the inputs of a batch: nobody knows what to scale."""

    def call(self, x, turn):
        return super().call(x[turn:])

    def train_step(self, data):
        return {"loss": ops.mean(self(data, turn=1))}


@pytest.mark.parametrize(
    ("kind", "cause", "told"),
    [
        (InTurns, Cause.UNSCALED_INPUT, True),
        (InTurns, Cause.LEARNING_RATE, False),
        (Tower, Cause.UNSCALED_INPUT, False),
    ],
)
def test_what_has_learned_with_inputs_that_nothing_can_scale_is_not_known(kind, cause, told):
    model = kind()
    model.compile("sgd")
    run = contract.run_of(model, np.full((8, 3), 1e9, "float32"), None)
    found = unscaled(run, contract.diagnosis(cause), Plan())
    assert (found is not None and "scale the data before fit" in found) is told


class Flow(keras.Model):
    """Density of what it is given, with one coupling: judged by a step of its own."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = layers.Dense(8, "relu"), layers.Dense(2)
        self.mean_loss = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.mean_loss]

    def call(self, x, ways):
        scale, shift = ops.split(self.out(self.hidden(x * [1.0, 0.0])), 2, axis=-1)
        return ways * ops.exp(scale[:, 0]) * x[:, 1] + shift[:, 0], scale[:, 0]

    def step(self, x):
        z, scale = self(x, ways=1.0)
        self.mean_loss.update_state(loss := ops.mean(0.5 * ops.square(z) - scale))
        return loss

    def train_step(self, x):
        with tf.GradientTape() as tape:
            loss = self.step(x)
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": self.mean_loss.result()}

    def test_step(self, x):
        self.step(x)
        return {"loss": self.mean_loss.result()}


def test_nor_is_it_where_a_step_of_its_own_evaluates_without_targets():
    keras.utils.set_random_seed(1)
    model, x = Flow(), np.random.default_rng(0).normal([1013, 280], 8.0, (320, 2))
    model.compile(keras.optimizers.Adam(0.004))
    report = nanfix.fit(
        model,
        x.astype("float32"),
        validation_data=(x[:64].astype("float32"),),
        strategies=["swap-activation"],
        epochs=3,
        verbose=0,
        throw=False,
    )
    assert report.outcome is nanfix.Outcome.FINITE, str(report)
    assert "scale the data before fit" in str(report)
