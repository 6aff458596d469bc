"""Layers, losses, metrics and callbacks of healthy trainings that look sick."""

import keras
import numpy as np
from keras import layers, ops


class BlankedHoles(layers.Layer):
    """Puts 0 where a number is missing."""

    def call(self, inputs):
        return ops.where(ops.isnan(inputs), ops.zeros_like(inputs), inputs)


class Overflowing(keras.metrics.Metric):
    """A metric that is inf."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        pass

    def result(self):
        return ops.convert_to_tensor(float("inf"))


class NanMetric(Overflowing):
    """A metric that is not defined."""

    def result(self):
        return ops.convert_to_tensor(float("nan"))


class Masked(keras.losses.Loss):
    """A squared error over the targets that are there."""

    class Attention(layers.Layer):
        """Attention to what came before, by scores of -inf for the rest."""

        def call(self, inputs):
            length = inputs.shape[1]
            ahead = np.triu(np.full((length, length), -np.inf, "float32"), 1)
            scores = ops.matmul(inputs, ops.transpose(inputs, (0, 2, 1))) + ahead
            return ops.matmul(ops.softmax(scores, axis=-1), inputs)

    def call(self, y_true, y_pred):
        there = ~ops.isnan(y_true)
        error = ops.where(there, y_true, ops.stop_gradient(y_pred)) - y_pred
        return ops.mean(ops.square(error), axis=-1)


def saved_log(y, p):
    """Return an error relative to a number that is kept above 0 in both branches."""
    positive = p > 0
    safe = ops.where(positive, p, ops.ones_like(p))
    return ops.where(positive, ops.square(ops.log(safe)), ops.square(p)) + ops.square(y - p)


class Shaken(keras.callbacks.Callback):
    """Raises the learning rate for one step, and puts the weights back later, as who keeps the
    best ones does.
    """

    def __init__(self, factor):
        super().__init__()
        self.factor, self.steps, self.kept = factor, 0, None

    def on_train_batch_begin(self, batch, logs=None):
        self.steps += 1
        rate = self.model.optimizer.learning_rate
        if self.steps == 4:
            self.kept = self.model.get_weights()
            rate.assign(rate * self.factor)
        if self.steps == 5:
            rate.assign(rate / self.factor)
        if self.steps == 7:
            self.model.set_weights(self.kept)


class Wild(keras.callbacks.Callback):
    """Multiplies all weights in the second epoch, and divides them in the third."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def on_epoch_begin(self, epoch, logs=None):
        power = {1: 1.0, 2: -1.0}.get(epoch)
        if power is not None:
            factor = np.float32(self.factor**power)
            self.model.set_weights([factor * weight for weight in self.model.get_weights()])
