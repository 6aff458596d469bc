"""swap-activation: bounded functions in hidden layers, and in the last the one that its
loss needs.
"""

import explosions
import keras
import numpy as np
import pytest
from keras import layers

from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase, Place
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "swap-activation"
DIAGNOSIS = contract.diagnosis(Cause.UNSTABLE_ACTIVATION)
IN_LOSS = contract.diagnosis(Cause.UNSTABLE_ACTIVATION, place=Place(Phase.LOSS))


def run_of(outputs=1, **model):
    y = np.tile(np.eye(outputs, dtype="float32"), (12 // outputs, 1))
    return contract.run_of(
        explosions.mlp(outputs=outputs, **model), explosions.table(rows=12)[0], y
    )


def swapped(diagnosis, run):
    """Return the layers changed and their new activation, level by level."""
    return [
        ([run.members[address] for address in params["layers"]], params["activation"])
        for params in contract.levels(get(NAME), diagnosis, run)
    ]


@pytest.mark.parametrize(
    "activation", ["relu", "linear", "selu", "gelu", "softplus", "exponential"]
)
def test_hidden_layers_without_bound_become_tanh_or_sigmoid(activation):
    run = run_of(activation=activation)
    hidden = run.model.layers[:-1]
    assert swapped(DIAGNOSIS, run) == [(hidden, "tanh"), (hidden, "sigmoid")]


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softsign"])
def test_bounded_layers_are_left_alone(activation):
    assert not contract.applies(get(NAME), DIAGNOSIS, run_of(activation=activation))


def test_cell_of_a_recurrent_layer_is_changed():
    model, x, y, _ = explosions.recurrence()
    run = contract.run_of(model, x[:8], y[:8])
    assert swapped(DIAGNOSIS, run)[0] == ([model.layers[0].cell], "tanh")


@pytest.mark.parametrize(
    ("loss", "outputs", "last", "needed"),
    [
        ("categorical_crossentropy", 3, None, "softmax"),
        ("categorical_crossentropy", 3, "relu", "softmax"),
        ("binary_crossentropy", 1, None, "sigmoid"),
        (keras.losses.BinaryCrossentropy(), 1, "tanh", "sigmoid"),
        ("binary_focal_crossentropy", 1, None, "sigmoid"),
    ],
)
def test_last_layer_gets_what_its_loss_takes(loss, outputs, last, needed):
    run = run_of(outputs, loss=loss, last=last)
    assert swapped(IN_LOSS, run) == [([run.model.layers[-1]], needed)]


@pytest.mark.parametrize(
    ("loss", "last"),
    [
        ("binary_crossentropy", "sigmoid"),
        (keras.losses.BinaryCrossentropy(from_logits=True), None),
        ("mse", None),
    ],
)
def test_last_layer_that_suits_its_loss_is_left_alone(loss, last):
    assert not contract.applies(get(NAME), IN_LOSS, run_of(loss=loss, last=last, activation="tanh"))


def test_last_layer_is_left_alone_when_the_loss_was_not_the_place():
    assert not contract.applies(
        get(NAME), DIAGNOSIS, run_of(loss="binary_crossentropy", activation="tanh")
    )


def test_layers_are_told_by_their_address():
    (mild, _) = contract.levels(get(NAME), DIAGNOSIS, run_of())
    assert get(NAME).explain(mild) == "Use the activation tanh in layers dense[0], dense[1]."


def test_repairs_an_activation_without_bound():
    report, *_ = repairs.check_repair(NAME, explosions.exponential)
    first, second, last = (layer.activation for layer in report.model.layers)
    assert first is second is keras.activations.get(report.fix.edits[0].params["activation"])
    assert last is keras.activations.linear


def test_activation_given_as_a_layer_does_not_stop_a_repair():
    def build():
        x, y = explosions.table()
        model = explosions.mlp(keras.optimizers.SGD(30.0), activation=layers.LeakyReLU())
        return model, x, y, dict(explosions.ARGUMENTS)

    repairs.check_repair("lower-learning-rate", build)


@pytest.mark.soak
def test_is_as_good_as_sigmoid_by_hand():
    def with_sigmoid(model, x, y, arguments):  # tanh goes non-finite here with other seeds
        model.layers[0].cell.activation = keras.activations.sigmoid
        return repairs.trained(model, x, y, arguments)

    repairs.check_repair(NAME, explosions.runaway_recurrence, with_sigmoid)


def test_beside_a_pretrained_model_its_layers_keep_their_activation():
    model = explosions.mlp(activation="relu")
    first, second, _ = model.layers
    first.bias.assign(np.linspace(-0.3, 0.4, first.units))
    run = contract.run_of(model, *explosions.table(rows=8))
    assert swapped(DIAGNOSIS, run) == [([second], "tanh"), ([second], "sigmoid")]
