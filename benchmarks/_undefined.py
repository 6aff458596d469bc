"""Losses and layers that are not defined everywhere, as people write them."""

from keras import layers, ops


def log_error(y_true, y_pred):
    return ops.mean(ops.square(ops.log(y_pred + 3.0) - ops.log(y_true + 10.0)), axis=-1)


def root_error(y_true, y_pred):
    return ops.mean(ops.square(ops.sqrt(y_pred) - y_true), axis=-1)


def relative_error(y_true, y_pred):
    return ops.mean(ops.square((y_true - y_pred) / y_true), axis=-1)


def inverse_error(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred / ops.maximum(y_pred, 0.0)), axis=-1)


def binary_by_hand(y_true, y_pred):
    return -ops.mean(y_true * ops.log(y_pred) + (1 - y_true) * ops.log(1 - y_pred), axis=-1)


class Shifted(layers.Layer):
    """Computes something that is not defined everywhere."""

    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how = how

    def call(self, inputs):
        if self.how == "log":
            return ops.log(inputs + 1.0)
        if self.how == "root":
            return ops.sqrt(inputs + 0.5)
        if self.how == "share":
            return inputs / ops.sum(ops.maximum(inputs, 0.0), axis=-1, keepdims=True)
        if self.how == "exp":
            powers = ops.exp(40.0 * inputs)
            return powers / ops.sum(powers, axis=-1, keepdims=True)
        return inputs / ops.max(ops.abs(inputs), axis=-1, keepdims=True)


class Length(layers.Layer):
    """Adds the length of a vector, whose slope at 0 is not defined."""

    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how = how
        self.project = layers.Dense(8, use_bias=False)

    def build(self, shape):
        self.project.build(shape)

    def call(self, inputs):
        hidden = self.project(inputs)
        if self.how == "root":
            length = ops.sqrt(ops.sum(ops.square(hidden), axis=-1, keepdims=True))
        elif self.how == "norm":
            length = ops.norm(hidden, axis=-1, keepdims=True)
        else:
            length = ops.sum(ops.power(ops.abs(hidden), 0.5), axis=-1, keepdims=True)
        return ops.concatenate([inputs, length], axis=-1)


class SumOfSquares(layers.Layer):
    """Adds the mean of squares, computed of numbers too large for half precision."""

    def call(self, inputs):
        squares = ops.sum(ops.square(inputs * 100.0), axis=-1, keepdims=True)
        return ops.concatenate([inputs, squares / inputs.shape[-1] / 1e4], axis=-1)
