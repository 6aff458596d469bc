"""Trainings with several optimizers that die of NaN, each with a twin as an expert would write it,
and a measure of its own for what has been learned.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

ROWS, BATCH = 512, 32


@dataclass(frozen=True)
class Played:
    """A training, and how far it has come: `skill` is 0 for what has learned nothing, 1 at best."""

    model: Any
    x: Any
    y: Any
    arguments: dict[str, Any]
    skill: Callable[[], float]


Game = Callable[[bool], Played]
GAMES: dict[str, Game] = {}


def game(build: Game) -> Game:
    """Note a training; called with True it builds the twin of an expert."""
    GAMES[build.__name__] = build
    return build


def build(name: str, *, expert: bool = False) -> Played:
    keras.backend.clear_session()
    keras.utils.set_random_seed(5)
    return GAMES[name](expert)


def dense(inputs: int, *units: int, last: str | None = None) -> Any:
    """Return a network of dense layers with relu between them."""
    hidden = [layers.Dense(unit, "relu") for unit in units[:-1]]
    return keras.Sequential([keras.Input((inputs,)), *hidden, layers.Dense(units[-1], last)])


class Players(keras.Model):
    """Parts that have an optimizer each."""

    def compile(self, **optimizers):
        super().compile()
        self.names = list(optimizers)
        for name, optimizer in optimizers.items():
            setattr(self, name, optimizer)

    def descend(self, name, tape, loss, part):
        weights = part.trainable_variables
        getattr(self, name).apply(tape.gradient(loss, weights), weights)


class Adversaries(Players):
    """A generator of points and a discriminator of them, which sees them in a `unit` of its own."""

    def __init__(self, last, width=32, unit=1.0):
        super().__init__()
        self.unit = unit
        self.generator = dense(2, width, width, 2)
        self.discriminator = dense(2, width, width, 1, last=last)
        self.noise = keras.random.SeedGenerator(3)

    def drawn(self, rows):
        return keras.random.normal((rows, 2), seed=self.noise)

    def losses(self, real, made):
        """Return the losses of discriminator and generator."""
        raise NotImplementedError

    def train_step(self, real):
        noise = self.drawn(ops.shape(real)[0])
        with tf.GradientTape() as tape:
            d_loss, _ = self.losses(self.judged(real), self.judged(self.generator(noise)))
        self.descend("d_optimizer", tape, d_loss, self.discriminator)
        with tf.GradientTape() as tape:
            _, g_loss = self.losses(self.judged(real), self.judged(self.generator(noise)))
        self.descend("g_optimizer", tape, g_loss, self.generator)
        return {"d_loss": d_loss, "g_loss": g_loss}

    def judged(self, points):
        return self.discriminator(self.unit * points)

    def skill(self):
        """Return how much nearer to the real points those made have come, in mean and spread."""
        made = np.asarray(self.generator(np.random.default_rng(1).normal(size=(2000, 2))))
        if not np.isfinite(made).all():
            return 0.0
        far = np.abs(made.mean(0) - POINTS[:ROWS].mean(0)).sum() / np.abs(POINTS.mean(0)).sum()
        spread = np.abs(np.log((made.std(0) + 1e-9) / POINTS.std(0))).mean()
        return float(max(0.0, 1.0 - far) * np.exp(-spread / 2))


POINTS = np.random.default_rng(0).normal([3.0, -2.0], [0.5, 1.0], size=(ROWS, 2)).astype("float32")


def _points(**arguments):
    return POINTS, None, {"batch_size": BATCH, "epochs": 30, "verbose": 0, **arguments}


class LogByHand(Adversaries):
    def losses(self, real, made):
        return -ops.mean(ops.log(real) + ops.log(1.0 - made)), -ops.mean(ops.log(made))


class FromLogits(Adversaries):
    def losses(self, real, made):
        return (
            ops.mean(ops.softplus(-real) + ops.softplus(made)),
            ops.mean(ops.softplus(-made)),
        )


@game
def log_by_hand(expert):
    """The logarithm of 1 - D, where D is 1 to the last bit."""
    model = FromLogits(None, unit=300.0) if expert else LogByHand("sigmoid", unit=300.0)
    model.compile(
        d_optimizer=keras.optimizers.Adam(2e-3, 0.5), g_optimizer=keras.optimizers.Adam(2e-3, 0.5)
    )
    return Played(model, *_points(), model.skill)


class Critics(Adversaries):
    """Wasserstein's losses, without what keeps the critic's weights small."""

    def losses(self, real, made):
        return ops.mean(made) - ops.mean(real), -ops.mean(made)


@game
def critic_that_grows(expert):
    model = Critics(None)
    if expert:
        model.discriminator = keras.Sequential(
            [
                keras.Input((2,)),
                *[
                    layers.Dense(n, a, kernel_constraint=Clipped(), bias_constraint=Clipped())
                    for n, a in ((32, "relu"), (32, "relu"), (1, None))
                ],
            ]
        )
    model.compile(
        d_optimizer=keras.optimizers.SGD(0.3) if not expert else keras.optimizers.RMSprop(0.01),
        g_optimizer=keras.optimizers.RMSprop(1e-3),
    )
    return Played(model, *_points(), model.skill)


class Clipped(keras.constraints.Constraint):
    def __call__(self, w):
        return ops.clip(w, -0.3, 0.3)


STATES = np.random.default_rng(2).normal(size=(ROWS, 4)).astype("float32")
BEST = (STATES[:, 0] + STATES[:, 1] > 0).astype("int32")


class ActorCritic(Players):
    """One step of a policy: the better of two actions pays 100."""

    def __init__(self, stable):
        super().__init__()
        self.actor, self.critic = dense(4, 16, 2), dense(4, 16, 1)
        self.draws, self.stable = keras.random.SeedGenerator(4), stable

    def train_step(self, data):
        states, best = data
        logits = self.actor(states)
        actions = keras.random.categorical(logits, 1, seed=self.draws)[:, 0]
        pays = 100.0 * ops.cast(ops.cast(actions, "int32") == ops.cast(best, "int32"), "float32")
        with tf.GradientTape() as tape:
            worth = self.critic(states)[:, 0]
            critic_loss = ops.mean(ops.square(pays - worth))
        self.descend("critic_optimizer", tape, critic_loss, self.critic)
        gained = ops.stop_gradient(pays - worth)
        taken = ops.one_hot(actions, 2)
        with tf.GradientTape() as tape:
            logits = self.actor(states)
            told = (
                ops.log_softmax(logits)
                if self.stable
                else ops.log(ops.exp(logits) / ops.sum(ops.exp(logits), axis=1, keepdims=True))
            )
            actor_loss = -ops.mean(ops.sum(told * taken, axis=1) * gained)
        self.descend("actor_optimizer", tape, actor_loss, self.actor)
        return {"actor_loss": actor_loss, "critic_loss": critic_loss}

    def skill(self):
        chosen = np.asarray(self.actor(STATES)).argmax(axis=1)
        right = float(np.mean(chosen == BEST))
        return max(0.0, 2.0 * right - 1.0)


@game
def actor_and_critic(expert):
    model = ActorCritic(expert)
    model.compile(
        actor_optimizer=keras.optimizers.Adam(1e-3),
        critic_optimizer=keras.optimizers.SGD(1e-3 if expert else 0.1),
    )
    return Played(
        model, STATES, BEST, {"batch_size": BATCH, "epochs": 20, "verbose": 0}, model.skill
    )


HIDDEN = np.random.default_rng(6).normal(size=(ROWS, 2))
SEEN = (20.0 * HIDDEN @ np.random.default_rng(7).normal(size=(2, 6))).astype("float32")


class AdversarialAutoencoder(Players):
    """An autoencoder whose codes are to look like normal numbers to an adversary."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = dense(6, 16, 2), dense(2, 16, 6)
        self.adversary = dense(2, 16, 1)
        self.noise = keras.random.SeedGenerator(8)

    def train_step(self, seen):
        drawn = keras.random.normal((ops.shape(seen)[0], 2), seed=self.noise)
        with tf.GradientTape() as tape:
            judged = self.adversary(drawn), self.adversary(self.encoder(seen))
            adversary_loss = ops.mean(ops.softplus(-judged[0]) + ops.softplus(judged[1]))
        self.descend("adversary_optimizer", tape, adversary_loss, self.adversary)
        with tf.GradientTape(persistent=True) as tape:
            codes = self.encoder(seen)
            reconstruction_loss = ops.mean(ops.square(seen - self.decoder(codes)))
            encoder_loss = reconstruction_loss + ops.mean(ops.softplus(-self.adversary(codes)))
        weights = [*self.encoder.trainable_variables, *self.decoder.trainable_variables]
        self.coder_optimizer.apply(tape.gradient(encoder_loss, weights), weights)
        return {"adversary_loss": adversary_loss, "reconstruction_loss": reconstruction_loss}

    def skill(self):
        rebuilt = np.asarray(self.decoder(self.encoder(SEEN)))
        if not np.isfinite(rebuilt).all():
            return 0.0
        return float(max(0.0, 1.0 - np.square(rebuilt - SEEN).mean() / SEEN.var()))


@game
def autoencoder_and_adversary(expert):
    model = AdversarialAutoencoder()
    model.compile(
        adversary_optimizer=keras.optimizers.Adam(1e-3),
        coder_optimizer=keras.optimizers.SGD(2e-4 if expert else 0.02),
    )
    return Played(model, SEEN, None, {"batch_size": BATCH, "epochs": 20, "verbose": 0}, model.skill)


@game
def generator_that_overshoots(expert):
    """Least squares, and a rate of the generator's that throws it out of float32."""
    model = LeastSquares(None)
    model.compile(
        d_optimizer=keras.optimizers.Adam(5e-3),
        g_optimizer=keras.optimizers.SGD(0.05 if expert else 20.0),
    )
    return Played(model, *_points(), model.skill)


class LeastSquares(Adversaries):
    def losses(self, real, made):
        return (
            ops.mean(ops.square(1.0 - real)) + ops.mean(ops.square(made)),
            ops.mean(ops.square(1.0 - made)),
        )
