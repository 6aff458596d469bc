"""Outputs that are no probabilities under a crossentropy, which takes such."""

import keras
import numpy as np
from keras import layers

from nanfix.explain._domains import no_probabilities
from nanfix.testing import contract

X, Y = np.ones((12, 4), "float32"), np.tile(np.eye(3, dtype="float32"), (4, 1))


def told(*last, loss="categorical_crossentropy", activation=None):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation), *last])
    model.compile("sgd", loss)
    return no_probabilities(contract.run_of(model, X, Y))


def test_what_the_last_layer_gives_is_said_where_it_is_no_share():
    assert told() == "the loss takes probabilities, the last layer gives linear"
    assert "gives relu" in told(activation="relu") and "gives tanh" in told(activation="tanh")


def test_shares_logits_and_other_losses_fit():
    assert told(layers.Softmax()) is None
    assert told(activation="hard_sigmoid", loss="binary_crossentropy") is None
    assert told(loss=keras.losses.CategoricalCrossentropy(from_logits=True)) is None
    assert told(loss="mse") is None
