"""raise-precision: the layer that overflowed computes in float32, with the weights it has."""

import explosions
import keras
import pytest
from keras import layers

from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase, Place
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "raise-precision"


def halved(dtype="mixed_float16"):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, dtype=dtype, name="first"),
            layers.Dense(1, dtype=dtype),
        ]
    )
    model.compile("sgd", "mse")
    return contract.run_of(model, *explosions.table(rows=16))


def diagnosis(layer):
    return contract.diagnosis(Cause.REDUCED_PRECISION, place=Place(Phase.FORWARD, layer))


def test_levels_are_the_layer_that_overflowed_and_all():
    assert contract.levels(get(NAME), diagnosis("first"), halved()) == [
        {"layers": ["first"]},
        {"layers": ["first", "dense[0]"]},
    ]
    assert contract.levels(get(NAME), diagnosis(None), halved()) == [
        {"layers": ["first", "dense[0]"]}
    ]


def test_refuses_full_precision_and_weights_of_half_precision():
    assert contract.applies(get(NAME), diagnosis("first"), halved())
    assert not contract.applies(get(NAME), diagnosis("first"), halved("float32"))
    assert not contract.applies(get(NAME), diagnosis("first"), halved("float16"))


@pytest.mark.soak
def test_repairs_a_sum_beyond_float16_as_well_as_an_expert(tmp_path):
    def expert(model, x, y, arguments):
        model.layers[1].dtype_policy = "float32"
        model.compile(keras.optimizers.Adam(0.03), "mse")
        return repairs.trained(model, x, y, arguments)

    report, *_ = repairs.check_repair(NAME, explosions.sum_in_half_precision, expert)
    assert report.model.layers[1].compute_dtype == "float32"


class Pool(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.score = layers.Dense(1, dtype=self.dtype_policy)

    def call(self, inputs):
        return keras.ops.sum(self.score(inputs) * inputs, axis=-1, keepdims=True)


def test_what_a_layer_holds_is_raised_with_it():
    pool = Pool(dtype="mixed_float16", name="pool")
    model = keras.Sequential([keras.Input((4,)), pool, layers.Dense(1, dtype="mixed_float16")])
    model.compile("sgd", "mse")
    run = contract.run_of(model, *explosions.table(rows=16))
    mild, *_ = contract.levels(get(NAME), diagnosis("pool"), run)
    assert mild == {"layers": ["pool[0]", "pool[0]/dense[0]"]}
    assert get(NAME).explain(mild) == "Compute layer pool[0] in float32."
