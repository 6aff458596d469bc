"""scale-inputs: scikit-learn's numbers, with sense where a quantile range is zero, and inside the model at the end."""

import contract
import explosions
import keras
import numpy as np
import pytest
from keras import layers
from sklearn.preprocessing import RobustScaler

from nanfix.changes import Affine
from nanfix.diagnosis import Cause
from nanfix.registry import get

NAME = "scale-inputs"
DIAGNOSIS = contract.diagnosis(Cause.UNSCALED_INPUT)


def compiled(*stack):
    model = keras.Sequential([*stack, layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def scalings(model, x):
    """Return the scaling of each input, as the two levels give it."""
    setup = contract.setup_of(model, x, np.zeros((len(keras.tree.flatten(x)[0]), 1), "float32"))
    return [params["inputs"] for params in contract.levels(get(NAME), DIAGNOSIS, setup)]


def column(*values):
    """Return the mild scaling of one input column, as (center, scale)."""
    (scaling,) = scalings(compiled(keras.Input((1,))), np.array(values, "float32")[:, None])[0].values()
    return scaling["center"][0], scaling["scale"][0]


def test_numbers_are_those_of_robust_scaler():
    x = explosions.table()[0] * np.float32([1, 10, 100, 1000]) + np.float32([0, -5, 50, 5000])
    found = scalings(compiled(keras.Input((4,))), x)
    for quantiles, scaling in zip([(25, 75), (5, 95)], found, strict=True):
        expected = RobustScaler(quantile_range=quantiles).fit(x.astype("float64"))
        np.testing.assert_allclose(scaling["0"]["center"], expected.center_, rtol=1e-6)
        np.testing.assert_allclose(scaling["0"]["scale"], expected.scale_, rtol=1e-6)


def test_levels_take_a_wider_quantile_range():
    found = scalings(compiled(keras.Input((1,))), np.arange(5, dtype="float32")[:, None])
    assert found == [{"0": {"center": [2.0], "scale": [2.0]}}, {"0": {"center": [2.0], "scale": [3.6]}}]


def test_constant_column_is_moved_but_not_stretched():
    assert column(7, 7, 7, 7) == (7.0, 1.0)


def test_mostly_zero_column_is_divided_by_its_standard_deviation():
    assert column(0, 0, 0, 0, 0, 0, 0, 0, 0, 10) == (0.0, 3.0)


def test_nonfinite_cells_are_left_out():
    assert column(0, 1, np.nan, 2, 3, np.inf, 4, -np.inf) == (2.0, 2.0)


def test_features_of_an_image_are_its_channels():
    x = np.broadcast_to(np.arange(5, dtype="float32")[:, None, None, None], (5, 2, 2, 3)) * np.float32([1, 10, 100])
    mild, _ = scalings(compiled(keras.Input((2, 2, 3)), layers.Flatten()), x)
    assert mild == {"0": {"center": [2.0, 20.0, 200.0], "scale": [2.0, 20.0, 200.0]}}


def test_integers_that_mean_a_quantity_are_scaled():
    mild, _ = scalings(compiled(keras.Input((1,))), np.arange(0, 500, 100)[:, None])
    assert mild == {"0": {"center": [200.0], "scale": [200.0]}}


def test_class_indices_are_left_alone():
    ids, numbers = keras.Input((2,), name="ids"), keras.Input((1,), name="numbers")
    looked_up = layers.Flatten()(layers.Embedding(5, 3)(ids))
    both = keras.Model([ids, numbers], layers.Dense(1)(layers.Concatenate()([looked_up, numbers])))
    both.compile("sgd", "mse")
    x = np.arange(10).reshape(5, 2) % 5
    mild, _ = scalings(both, [x, np.arange(5, dtype="float32")[:, None]])
    assert mild == {"1": {"center": [2.0], "scale": [2.0]}}
    only = compiled(keras.Input((2,)), layers.Embedding(5, 3), layers.Flatten())
    assert not get(NAME).applies(DIAGNOSIS, contract.setup_of(only, x, np.zeros((5, 1), "float32")))


def test_apply_turns_the_numbers_into_a_map():
    setup = contract.setup_of(explosions.mlp(), *explosions.table(rows=16))
    numbers = {"0": {"center": [1.0, 2.0, 3.0, 4.0], "scale": [2.0, 2.0, 2.0, 4.0]}}
    changed = get(NAME).apply(setup, quantile_range=[25.0, 75.0], inputs=numbers)
    assert changed.inputs == {0: Affine((1.0, 2.0, 3.0, 4.0), (2.0, 2.0, 2.0, 4.0))}
    np.testing.assert_array_equal(changed.inputs[0](np.float32([[3, 2, 1, 8]])), [[1.0, 0.0, -1.0, 1.0]])


def test_repaired_model_takes_raw_inputs():
    report, x, y = contract.check_repair(NAME, explosions.unscaled_inputs)
    lost = float(np.mean((report.model.predict(x, verbose=0) - y) ** 2))
    assert lost == pytest.approx(report.history["val_loss"][-1], rel=1e-3)
