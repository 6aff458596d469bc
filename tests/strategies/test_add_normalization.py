"""add-normalization: LayerNormalization in front of the layer that overflowed, in the
user's own model.
"""

import explosions
import keras
import numpy as np
import pytest
import structures
from keras import layers

from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase, Place
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "add-normalization"


def diagnosis(layer):
    return contract.diagnosis(Cause.BAD_INITIALIZATION, place=Place(Phase.FORWARD, layer))


def stack(*names):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            *(layers.Dense(3, name=name) for name in names),
            layers.Dense(1, name="last"),
        ]
    )
    model.compile("sgd", "mse")
    return contract.run_of(model, *explosions.table(rows=16))


def test_levels_are_in_front_of_the_layer_that_overflowed_and_of_all_but_the_first():
    found = contract.levels(get(NAME), diagnosis("third"), stack("first", "second", "third"))
    assert found == [
        {"layers": ["third"]},
        {"layers": ["second", "third", "last"]},
    ]


def test_without_a_layer_all_but_the_first_are_normalized():
    for place in (None, "first"):
        assert contract.levels(get(NAME), diagnosis(place), stack("first")) == [
            {"layers": ["last"]}
        ]


def test_a_model_with_its_own_call_is_refused():
    model = structures.Subclass()
    model.compile("sgd", "mse")
    assert not contract.applies(
        get(NAME), diagnosis(None), contract.run_of(model, *explosions.table(rows=16))
    )


@pytest.mark.soak
def test_repairs_wide_weights_as_well_as_an_expert(tmp_path):
    def expert(model, x, y, arguments):
        keras.utils.set_random_seed(0)
        first, *others = model.layers
        normalized = [part for layer in others for part in (layers.LayerNormalization(), layer)]
        model = keras.Sequential([keras.Input((4,)), first, *normalized])
        model.compile(keras.optimizers.SGD(0.01), "mse")
        return repairs.trained(model, x, y, arguments)

    report, x, _ = repairs.check_repair(NAME, explosions.initialization, expert, epochs=40)
    kinds = [type(layer).__name__ for layer in report.model.layers]
    assert kinds == ["Dense"] + ["LayerNormalization", "Dense"] * 8
    report.model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), report.model.predict(x, verbose=0))
