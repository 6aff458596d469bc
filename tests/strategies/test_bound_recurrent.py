"""bound-recurrent: the cells of LSTM, GRU and SimpleRNN back to tanh."""

import explosions
import keras
import numpy as np
import pytest
from keras import layers

from nanfix.changes.initial_weights import InitialWeights
from nanfix.changes.layers import LayerAttributes
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "bound-recurrent"
DIAGNOSIS = contract.diagnosis(Cause.UNSTABLE_RECURRENCE)


def run_of(*recurrent):
    model = keras.Sequential([keras.Input((5, 3)), *recurrent, layers.Dense(1)])
    model.compile("sgd", "mse")
    return contract.run_of(model, np.zeros((8, 5, 3), "float32"), np.zeros((8, 1), "float32"))


@pytest.mark.parametrize(
    ("layer", "attributes"),
    [
        (layers.SimpleRNN(2, activation="relu"), {"activation": "tanh"}),
        (
            layers.LSTM(2, activation="relu"),
            {"activation": "tanh", "recurrent_activation": "sigmoid"},
        ),
        (
            layers.GRU(2, activation="elu"),
            {"activation": "tanh", "recurrent_activation": "sigmoid"},
        ),
    ],
)
def test_cells_get_the_usual_activations(layer, attributes):
    run = run_of(layer)
    mild, strong = contract.levels(get(NAME), DIAGNOSIS, run)
    (cell,) = [
        address for address, layer in run.members.items() if layer is run.model.layers[0].cell
    ]
    assert mild == {"layers": [cell], "kernels": "kept"} and strong == {
        "layers": [cell],
        "kernels": "orthogonal",
    }
    kept, drawn = (get(NAME).apply(run, Plan(), **params) for params in (mild, strong))
    assert (
        kept.of(LayerAttributes).attributes == {cell: attributes}
        and not kept.of(InitialWeights).initializers
    )
    assert drawn.of(InitialWeights).initializers == {cell: "glorot_uniform"}


def test_bounded_cells_and_other_layers_are_left_alone():
    assert not contract.applies(get(NAME), DIAGNOSIS, run_of(layers.LSTM(2)))
    run = run_of(
        layers.Bidirectional(layers.GRU(2, activation="relu", return_sequences=True)),
        layers.LSTM(2),
    )
    mild, _ = contract.levels(get(NAME), DIAGNOSIS, run)
    assert len(mild["layers"]) == 2


def last_step():
    """The same network with something to tell that a bounded state can hold: what came
    last, and noise.
    """
    model, _, _, arguments = explosions.feedback()
    rng = np.random.default_rng(1)
    x = rng.normal(size=(640, 30, 3)).astype("float32") + 2.0
    noise = rng.normal(scale=0.5, size=(len(x), 1)).astype("float32")
    return model, x, x[:, -1, :1] - 2.0 + noise, {**arguments, "epochs": 12}


@pytest.mark.soak
def test_repairs_a_state_that_feeds_itself_as_well_as_an_expert():
    def expert(model, x, y, arguments):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((30, 3)), layers.SimpleRNN(24), layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.02), "mse")
        return repairs.trained(model, x, y, arguments)

    report, *_ = repairs.check_repair(NAME, last_step, expert)
    assert report.model.layers[0].cell.activation is keras.activations.tanh
