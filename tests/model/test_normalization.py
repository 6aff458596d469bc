"""Normalization layers that were adapted to data with holes: found, measured anew, and
no reason to keep no snapshot.
"""

import explosions
import keras
import numpy as np
import pytest
from keras import layers

from nanfix.model.normalization import (
    adapt_to,
    constants,
    fed_by,
    finite_statistics,
    ruined,
    statistics,
)
from nanfix.model.snapshot import nonfinite_variables, take
from nanfix.testing import contract


def holes(shape=(40, 3)):
    x = np.random.default_rng(0).normal(3.0, 2.0, shape).astype("float32")
    x[::7, ..., 1] = np.nan
    return x


def adapted(x, **arguments):
    layer = layers.Normalization(**arguments)
    layer.adapt(x)
    model = keras.Sequential([keras.Input(x.shape[1:]), layer, layers.Dense(1)])
    model.compile("sgd", "mse")
    return model, layer


def layer_of(x):
    return adapted(x)[1]


def test_ruined_layers_are_found_and_others_are_not():
    model, layer = adapted(holes())
    assert ruined(model) == [("normalization[0]", layer)] and not ruined(
        adapted(np.nan_to_num(holes()))[0]
    )
    assert not ruined(
        keras.Sequential(
            [keras.Input((2,)), layers.Normalization(mean=[0.0, 0.0], variance=[1.0, 1.0])]
        )
    )


def test_they_are_constants_of_a_state_that_is_verified_all_the_same():
    model, layer = adapted(holes())
    assert constants(model) == {id(layer.adapt_mean), id(layer.adapt_variance)}
    assert take(model) is not None and nonfinite_variables(model) == []
    model.layers[1].kernel.assign(model.layers[1].kernel * np.nan)
    assert take(model) is None and nonfinite_variables(model) == [model.layers[1].kernel.path]


@pytest.mark.parametrize("arguments", [{}, {"axis": None}, {"axis": (1, 2)}], ids=str)
def test_statistics_are_those_of_adapt_over_the_finite_values(arguments):
    x = holes((40, 4, 3))
    whole = np.where(np.isfinite(x), x, 0.0)
    for array in (x, whole):
        layer = layers.Normalization(**arguments)
        layer.adapt(whole)
        mean, variance = finite_statistics(layer, array)
        by_keras = [np.ravel(numbers) for numbers in statistics(layer)]
        if array is whole:
            np.testing.assert_allclose(mean, by_keras[0], rtol=1e-3)
            np.testing.assert_allclose(variance, by_keras[1], rtol=1e-3)
        assert np.isfinite([*mean, *variance]).all()
    assert abs(finite_statistics(layer_of(x), x)[0][1] - np.nanmean(x[..., 1])) < 1e-4


def test_feature_without_a_finite_value_gets_0_and_1():
    x = holes()
    x[:, 2] = np.nan
    mean, variance = finite_statistics(layer_of(x), x)
    assert mean[2] == 0.0 and variance[2] == 1.0


def test_layer_takes_the_new_statistics_and_gives_them_back():
    x = holes()
    layer = layer_of(x)
    before = statistics(layer)
    adapt_to(layer, *finite_statistics(layer, x))
    outputs = np.asarray(layer(x))
    np.testing.assert_allclose(np.nanmean(outputs, axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.nanstd(outputs, axis=0), 1.0, atol=1e-5)
    adapt_to(layer, *before)
    np.testing.assert_array_equal(statistics(layer)[0], before[0])


def test_input_of_the_layer_is_told():
    inputs = [keras.Input((3,), name="a"), keras.Input((3,), name="b")]
    layer, later = layers.Normalization(), layers.Normalization()
    joined = layers.Concatenate()([inputs[0], layer(inputs[1])])
    model = keras.Model(inputs, layers.Dense(1)(later(joined)))
    assert fed_by(model, layer) == "b" and fed_by(model, later) is None


def test_setup_says_which_layers_are_ruined():
    model, _ = adapted(holes())
    found = contract.run_of(model, holes(), np.zeros((40, 1), "float32")).ruined
    assert list(found) == ["normalization[0]"]
    np.testing.assert_allclose(found["normalization[0]"][0], np.nanmean(holes(), 0), rtol=1e-5)
    assert contract.run_of(explosions.mlp(), *explosions.table(rows=16)).ruined == {}
