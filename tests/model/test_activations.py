"""Activations as arguments and as layers of their own: named, changed, put back, and
measured for a bound.
"""

from contextlib import ExitStack

import explosions
import keras
import numpy as np
import pytest
from keras import activations, layers

from nanfix.model.activations import (
    activation_name,
    activation_of,
    change_activation,
    gives_shares,
    is_bounded,
)
from nanfix.model.run import linear_throughout
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract

BOUNDED = (
    "tanh",
    "sigmoid",
    "hard_sigmoid",
    "hard_tanh",
    "softsign",
    "softmax",
    "relu6",
    "sparse_sigmoid",
)
UNBOUNDED = (
    "linear",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "softplus",
    "exponential",
    "mish",
    "celu",
    "tanh_shrink",
)


@pytest.mark.parametrize("name", BOUNDED + UNBOUNDED)
def test_bound_is_measured(name):
    assert is_bounded(keras.activations.get(name)) is (name in BOUNDED)


@pytest.mark.parametrize(
    ("layer", "name", "bounded"),
    [
        (layers.Dense(2, "tanh"), "tanh", True),
        (layers.Dense(2, activation=layers.LeakyReLU()), "leaky_relu", False),
        (layers.Activation("sigmoid"), "sigmoid", True),
        (layers.ReLU(), "relu", False),
        (layers.ReLU(max_value=6.0), "relu", True),
        (layers.LeakyReLU(), "leaky_relu", False),
        (layers.Softmax(), "softmax", True),
    ],
)
def test_activation_is_known_whatever_form_it_has(layer, name, bounded):
    assert activation_name(layer) == name and is_bounded(activation_of(layer)) is bounded


def test_bound_of_a_layer_with_weights_of_its_own_or_over_other_axes_is_known():
    learned = layers.PReLU()
    learned.build((None, 3, 6))
    assert not is_bounded(activation_of(learned))
    assert is_bounded(activation_of(layers.Softmax(axis=(1, 3))))


def classifier(*last, loss="categorical_crossentropy"):
    """Dense layers with their activations in layers of their own, normalized or dropped
    out in between.
    """
    keras.utils.set_random_seed(0)
    hidden = [
        layers.Dense(8),
        layers.BatchNormalization(),
        layers.LeakyReLU(),
        layers.Dense(8),
        layers.ReLU(),
    ]
    model = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(3), *last])
    model.compile("sgd", loss)
    x, _ = explosions.table(rows=12)
    return contract.run_of(model, x, np.tile(np.eye(3, dtype="float32"), (4, 1)))


def test_layers_with_weights_in_front_of_an_activation_layer_are_not_linear():
    run = classifier(layers.Softmax())
    kinds = [type(layer).__name__ for _, layer in run.activations]
    assert kinds == ["LeakyReLU", "ReLU", "Softmax"] and linear_throughout(run) == []
    assert [type(layer).__name__ for _, layer in classifier().activations] == [
        "LeakyReLU",
        "ReLU",
        "Dense",
    ]


def test_what_gives_shares():
    given = (activations.softmax, activations.sigmoid, activations.hard_sigmoid, layers.Softmax())
    assert all(map(gives_shares, given))
    assert not any(map(gives_shares, (activations.tanh, activations.relu, activations.linear)))


def test_activation_layers_are_what_is_swapped():
    run = classifier(layers.Softmax())
    (first, *_) = contract.levels(
        get("swap-activation"), contract.diagnosis(Cause.UNSTABLE_ACTIVATION), run
    )
    assert [type(dict(run.activations)[position]).__name__ for position in first["layers"]] == [
        "LeakyReLU",
        "ReLU",
    ]


def test_changed_activation_layer_computes_saves_and_is_put_back(tmp_path):
    run = classifier(layers.Softmax())
    model, x = run.model, run.sample.inputs[0]
    before = model.predict(x, verbose=0)
    with ExitStack() as undo:
        for _, layer in run.activations[:-1]:
            change_activation(undo, layer, keras.activations.tanh)
        model.predict_function = None
        changed = model.predict(x, verbose=0)
        assert np.abs(changed - before).max() > 1e-3
        model.save(tmp_path / "model.keras")
        np.testing.assert_array_equal(
            keras.models.load_model(tmp_path / "model.keras").predict(x, verbose=0), changed
        )
    model.predict_function = None
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)
    assert [type(layer).__name__ for _, layer in run.activations] == [
        "LeakyReLU",
        "ReLU",
        "Softmax",
    ]
