"""Which layers hold what was learned before this training."""

import keras
import numpy as np
import pytest
from keras import layers

from nanfix.model.addresses import walk
from nanfix.model.learned_weights import learned


def backbone(bias=True):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(2, 3, use_bias=bias),
            layers.BatchNormalization(),
            layers.Conv2D(2, 3, use_bias=False),
        ],
        name="backbone",
    )


def with_head(inner):
    stack = [keras.Input((8, 8, 1)), inner, layers.Flatten(), layers.Dense(1, name="head")]
    return keras.Sequential(stack)


def of(model):
    return learned(dict(walk(model)))


@pytest.mark.parametrize(
    "model",
    [
        with_head(backbone()),
        keras.Sequential([keras.Input((5, 2)), layers.LSTM(3), layers.Dense(1)]),
        keras.Sequential([keras.Input((2,)), layers.Dense(3, use_bias=False)]),
    ],
)
def test_what_is_drawn_by_chance_was_not_learned(model):
    assert of(model) == frozenset()


@pytest.mark.parametrize("bias", [True, False])
def test_a_backbone_that_was_trained_was_learned_and_the_head_on_it_not(bias):
    inner = backbone(bias)
    inner.layers[1].moving_mean.assign([0.3, -0.2])
    if bias:
        inner.layers[0].bias.assign([0.1, 0.2])
    found = of(with_head(inner))
    assert found == {
        f"backbone/{kind}" for kind in ("conv2d[0]", "conv2d[1]", "batch_normalization[0]")
    }


def test_what_is_frozen_counts_as_learned_but_for_biases_of_0():
    model = keras.Sequential(
        [layers.Input((3,)), layers.Embedding(5, 2), layers.Flatten(), layers.Dense(4)]
    )
    for layer in model.layers:
        layer.trainable = False
    assert of(model) == {"embedding[0]"}


def test_a_start_of_ones_own_tells_nothing():
    layer = layers.Dense(2, bias_initializer=keras.initializers.Constant(0.7))
    assert of(keras.Sequential([keras.Input((3,)), layer])) == frozenset()
    assert np.allclose(layer.bias, 0.7)
