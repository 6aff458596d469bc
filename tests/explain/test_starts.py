"""Initial weights that let no number grow, layer by layer."""

import keras
import numpy as np
import pytest
from keras import layers

from nanfix.explain._signal import rows_of_unit_scale, signal_of
from nanfix.explain._starts import KEPT, fitting_start
from nanfix.testing import contract

BLOCKS = 9
X = np.random.default_rng(0).normal(3e4, 2e4, size=(64, 8)).astype("float32")
Y = X[:, :1]


def residual(branch, join=lambda around, branch: around + branch):
    inputs = keras.Input((8,))
    hidden = layers.Dense(16, name="first")(inputs)
    for number in range(BLOCKS):
        hidden = join(hidden, branch(hidden, number))
    return keras.Model(inputs, layers.Dense(1, name="last")(hidden))


def two_layers(hidden, number):
    inner = layers.Dense(32, "relu", name=f"inner_{number}")(hidden)
    return layers.Dense(16, name=f"end_{number}")(inner)


def one_layer(hidden, number):
    return layers.Dense(16, "relu", name=f"end_{number}")(hidden)


def normed(hidden, number):
    return layers.LayerNormalization()(layers.Dense(16, "relu", name=f"end_{number}")(hidden))


class Block(keras.layers.Layer):
    def __init__(self, number):
        super().__init__(name=f"block_{number}")
        self.inner, self.end = layers.Dense(32, "gelu", name="inner"), layers.Dense(16, name="end")
        self.dropout = layers.Dropout(0.1)

    def call(self, x):
        return x + self.dropout(self.end(self.inner(x)))


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.last = layers.Dense(16, name="first"), layers.Dense(1, name="last")
        self.blocks = [Block(number) for number in range(BLOCKS)]

    def call(self, x):
        hidden = self.first(x)
        for block in self.blocks:
            hidden = block(hidden)
        return self.last(hidden)


def shared():
    inner, end = layers.Dense(16, "tanh", name="inner"), layers.Dense(16, name="end")
    return residual(lambda hidden, number: 2.0 * end(inner(2.0 * hidden)))


def wide_sums():
    """Eight branches side by side, of which none goes round another."""
    inputs = hidden = keras.Input((8,))
    for step in range(3):
        sides = [layers.Dense(16, "relu", name=f"side_{step}_{i}")(hidden) for i in range(8)]
        hidden = layers.Add()(sides)
    return keras.Model(inputs, layers.Dense(1, name="last")(hidden))


ENDS = [f"end_{number}" for number in range(BLOCKS)]
# What of them begins as zeros, and what smaller.
MODELS = {
    "a plain stack": (
        lambda: keras.Sequential([keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(1)]),
        [],
        [],
    ),
    "branches with linear ends": (lambda: residual(two_layers), ENDS, []),
    "branches that an activation ends": (lambda: residual(one_layer), [], [*ENDS, "last"]),
    "an activation behind the sum": (
        lambda: residual(two_layers, lambda a, b: layers.ReLU()(layers.Add()([b, a]))),
        ENDS,
        [],
    ),
    "a class": (Own, [f"block[{number}]/end" for number in range(BLOCKS)], []),
    "sums without a way round": (wide_sums, [], None),
    "one layer for all branches": (shared, [], ["inner", "end", "last"]),
}


@pytest.mark.parametrize("name", MODELS)
def test_no_number_grows_and_no_kernel_is_smaller_than_that_takes(name):
    build, zeros, smaller = MODELS[name]
    keras.utils.set_random_seed(0)
    model = build()
    model.compile("sgd", "mse")
    run = contract.run_of(model, X, Y)
    _, shares = fitting_start(run)
    assert [address for address, share in shares.items() if not share] == zeros
    others = [address for address, share in shares.items() if share]
    assert others == smaller or (smaller is None and others)
    sizes = signal_of(run, rows_of_unit_scale(run)).sizes
    # Nor does it die out, which would let nothing be learned.
    assert max(sizes.values()) <= KEPT and sizes[model.layers[-1].name] > 0.1


def test_what_is_normed_again_is_left():
    model = residual(normed)
    model.compile("sgd", "mse")
    _, shares = fitting_start(contract.run_of(model, X, Y))
    assert 0.0 not in shares.values()
