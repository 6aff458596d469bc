"""Trainings without targets: autoencoders, losses that layers add, adversaries with an
optimizer each.
"""

import keras
import tensorflow as tf
from keras import layers, ops

from legal.steps import Net
from legal.training import ARGUMENTS, BATCH, STREAMED, legal, rate, sgd, table

registered = keras.saving.register_keras_serializable("legal")


@registered
class Autoencoder(Net):
    """Trains on x alone."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.last = layers.Dense(4)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = ops.mean(ops.square(data - self(data, training=True)))
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        return {"loss": loss}


def _autoencoder(explosive):
    model = Autoencoder()
    model.compile(sgd(explosive))
    return model


@legal(evaluates=False)
def no_y_array(explosive):
    return _autoencoder(explosive), table()[0], None, dict(ARGUMENTS)


@legal(ends="REPAIRED", evaluates=False, quick=True)
def no_y_beside_a_compiled_loss(explosive):
    model = Autoencoder()
    model.compile(sgd(explosive), "mse", run_eagerly=True)
    return model, table()[0], None, dict(ARGUMENTS)


@legal(ends="REPAIRED", evaluates=False)
def no_y_stream(explosive):
    stream = tf.data.Dataset.from_tensor_slices(table()[0]).batch(BATCH)
    return _autoencoder(explosive), stream, None, dict(STREAMED)


@registered
class AddsItsLoss(layers.Layer):
    def call(self, inputs):
        self.add_loss(ops.mean(ops.square(inputs)))
        return inputs


@legal()
def no_y_loss_of_a_layer(explosive):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, AddsItsLoss()(layers.Dense(3)(layers.Dense(6, "tanh")(inputs))))
    model.compile(sgd(explosive))
    return model, table()[0], None, dict(ARGUMENTS)


@registered
class Coder(keras.Model):
    """The VAE of Keras' tutorial: an encoder, a decoder, a sampling seed and three trackers."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.encoder = keras.Sequential([layers.Dense(6, "relu"), layers.Dense(4)])
        self.decoder = keras.Sequential([layers.Dense(6, "relu"), layers.Dense(4)])
        self.seeds = keras.random.SeedGenerator(7)
        self.trackers = [keras.metrics.Mean(name=name) for name in ("loss", "reconstruction", "kl")]

    @property
    def metrics(self):
        return self.trackers

    def call(self, inputs):
        return self.decoder(self.encoder(inputs)[:, :2])

    def train_step(self, data):
        with tf.GradientTape() as tape:
            mean, log_var = ops.split(self.encoder(data), 2, axis=1)
            code = mean + ops.exp(0.5 * log_var) * keras.random.normal(
                ops.shape(mean), seed=self.seeds
            )
            reconstruction = ops.mean(ops.square(data - self.decoder(code)))
            kl = ops.mean(0.5 * (ops.square(mean) + ops.exp(log_var) - log_var - 1))
            # A plain sum TensorFlow may rewrite in several ways, so that two runs of Keras alone
            # differ in the last bits.
            losses = [ops.sum(ops.stack([reconstruction, kl])), reconstruction, kl]
        self.optimizer.apply_gradients(
            zip(
                tape.gradient(losses[0], self.trainable_weights),
                self.trainable_weights,
                strict=True,
            )
        )
        for tracker, loss in zip(self.trackers, losses, strict=True):
            tracker.update_state(loss)
        return {tracker.name: tracker.result() for tracker in self.trackers}


@legal(evaluates=False, quick=True)
def variational_autoencoder(explosive):
    model = Coder()
    model.compile(optimizer=keras.optimizers.Adam(rate(explosive) / 5))
    return model, tf.data.Dataset.from_tensor_slices(table()[0]).batch(BATCH), None, dict(STREAMED)


class Parted(keras.Model):
    """A network of several parts, each trained by an optimizer of its own; none of them
    is called `optimizer`.
    """

    def __init__(self, parts):
        super().__init__()
        self.parts = [
            keras.Sequential([keras.Input((4,)), layers.Dense(6, "tanh"), layers.Dense(4)])
            for _ in range(parts)
        ]

    def compile(self, **optimizers):
        super().compile()
        self.names = list(optimizers)
        for name, optimizer in optimizers.items():
            setattr(self, name, optimizer)

    def call(self, inputs):
        for part in self.parts:
            inputs = part(inputs)
        return inputs

    def train_step(self, data):
        logs = {}
        for number, (name, part) in enumerate(zip(self.names, self.parts, strict=True)):
            with tf.GradientTape() as tape:
                loss = ops.mean(ops.square(data - self(data)))
            variables = part.trainable_variables
            getattr(self, name).apply_gradients(
                zip(tape.gradient(loss, variables), variables, strict=True)
            )
            logs[f"part_{number}_loss"] = loss
        return logs


@legal(saves=False, evaluates=False, quick=True)
def two_optimizers(explosive):
    model = Parted(2)
    model.compile(d_optimizer=keras.optimizers.Adam(0.01), g_optimizer=sgd(explosive))
    return model, tf.data.Dataset.from_tensor_slices(table()[0]).batch(BATCH), None, dict(STREAMED)


@legal(saves=False, evaluates=False)
def three_optimizers(explosive):
    model = Parted(3)
    model.compile(
        first_opt=sgd(False), second_opt=keras.optimizers.RMSprop(0.01), third_opt=sgd(explosive)
    )
    return model, table()[0], None, dict(ARGUMENTS)
