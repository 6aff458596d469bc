"""scale-inputs: scikit-learn's numbers, with sense where a quantile range is zero, and
inside the model at the end.
"""

import explosions
import keras
import numpy as np
import pytest
import structures
from keras import layers
from scipy.stats import yeojohnson
from sklearn.preprocessing import PowerTransformer, RobustScaler, StandardScaler

import nanfix
from nanfix.changes.maps import Affine, Power
from nanfix.changes.plan import Plan
from nanfix.changes.scaling import Scaling
from nanfix.records.cause import Cause
from nanfix.remedies.fix import Edit, Fix
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "scale-inputs"
DIAGNOSIS = contract.diagnosis(Cause.UNSCALED_INPUT)


def compiled(*stack):
    model = keras.Sequential([*stack, layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def levels_of(model, x):
    run = contract.run_of(model, x, np.zeros((len(keras.tree.flatten(x)[0]), 1), "float32"))
    return contract.levels(get(NAME), DIAGNOSIS, run)


def scalers(model, x):
    """Return the names of the levels, mild to strong."""
    return [params["scaler"] for params in levels_of(model, x)]


def scalings(model, x):
    """Return the scaling of each input, level by level."""
    return [params["inputs"] for params in levels_of(model, x)]


def column(*values):
    """Return the mild scaling of one input column, as (center, scale)."""
    (scaling,) = scalings(compiled(keras.Input((1,))), np.array(values, "float32")[:, None])[
        0
    ].values()
    return scaling["center"][0], scaling["scale"][0]


def spread_table():
    """Return features of different places and sizes, one of them with a long tail."""
    x = explosions.table()[0] * np.float32([1, 10, 100, 1]) + np.float32([0, -5, 50, 0])
    x[:, 3] = np.exp(2.0 * x[:, 3])
    return x


def test_numbers_are_those_of_scikit_learn():
    x = spread_table()
    robust, standard, power = (
        found["input[0]"] for found in scalings(compiled(keras.Input((4,))), x)
    )
    center_and_iqr, mean_and_deviation = (
        RobustScaler().fit(x.astype("float64")),
        StandardScaler().fit(x.astype("float64")),
    )
    np.testing.assert_allclose(robust["center"], center_and_iqr.center_, rtol=1e-6)
    np.testing.assert_allclose(robust["scale"], center_and_iqr.scale_, rtol=1e-6)
    np.testing.assert_allclose(standard["center"], mean_and_deviation.mean_, rtol=1e-6)
    np.testing.assert_allclose(standard["scale"], mean_and_deviation.scale_, rtol=1e-6)
    scaled = (x.astype("float64") - power["center"]) / power["scale"]
    exponents = PowerTransformer().fit(scaled)
    assert (power["center"][:3], power["scale"][:3]) == (robust["center"][:3], robust["scale"][:3])
    # No negatives.
    assert power["center"][3] == 0.0 and power["scale"][3] == pytest.approx(
        np.percentile(x[:, 3], 1.0), rel=1e-4
    )
    np.testing.assert_allclose(power["exponent"], exponents.lambdas_, rtol=1e-4)
    np.testing.assert_allclose(power["last_center"], exponents._scaler.mean_, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(power["last_scale"], exponents._scaler.scale_, rtol=1e-4)


def test_power_of_arrays_is_that_of_scikit_learn():
    x = spread_table()
    run = contract.run_of(compiled(keras.Input((4,))), x, np.zeros((len(x), 1), "float32"))
    *_, strong = contract.levels(get(NAME), DIAGNOSIS, run)
    power = get(NAME).apply(run, Plan(), **strong).of(Scaling).inputs["input[0]"]
    assert isinstance(power, Power)
    expected = PowerTransformer().fit_transform(
        (x.astype("float64") - power.first.center) / power.first.scale
    )
    np.testing.assert_allclose(power(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("exponent", [-1.5, 0.0, 0.5, 1.0, 2.0, 3.0])
def test_power_has_the_logarithms_for_its_limits(exponent):
    values, same = np.linspace(-5.0, 5.0, 21), Affine((0.0,), (1.0,))
    powers = Power(same, (exponent,), same)(values[:, None].astype("float32"))
    np.testing.assert_allclose(np.ravel(powers), yeojohnson(values, exponent), rtol=1e-5, atol=1e-6)


def test_power_is_for_models_that_can_take_up_a_layer():
    model = structures.Subclass()
    model.compile("sgd", "mse")
    assert scalers(model, spread_table()) == ["robust", "standard"]
    assert scalers(compiled(keras.Input((4,))), spread_table()) == ["robust", "standard", "power"]


def pixels(dtype="float32", shape=(4, 2, 2, 1)):
    return np.linspace(0, 255, 16).round().reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    ("x", "bytes_first"),
    [
        (pixels(), True),
        (pixels("uint8"), True),
        (pixels("uint8", (16, 1)), True),
        (pixels("float32", (16, 1)), False),
        (pixels() / 255.0, False),
        (pixels() + 0.5, False),
        (pixels() - 1.0, False),
        (pixels() + 1.0, False),
        (np.minimum(pixels(), 127.0), False),
    ],
    ids=[
        "image",
        "uint8 image",
        "uint8 table",
        "table",
        "unit",
        "fractions",
        "below 0",
        "above 255",
        "half the range",
    ],
)
def test_images_of_bytes_are_first_divided_by_255(x, bytes_first):
    stack = [keras.Input(x.shape[1:]), *([layers.Flatten()] if x.ndim > 2 else [])]
    assert (scalers(compiled(*stack), x)[0] == "bytes") is bytes_first


def test_scaling_of_bytes_has_no_shift():
    x = np.concatenate([pixels()] * 3, axis=-1)
    mild, *_ = scalings(compiled(keras.Input((2, 2, 3)), layers.Flatten()), x)
    assert mild == {"input[0]": {"center": [0.0] * 3, "scale": [255.0] * 3}}


def test_bytes_beside_another_input_are_scaled_like_it():
    image, numbers = keras.Input((2, 2, 1), name="image"), keras.Input((1,), name="numbers")
    both = keras.Model(
        [image, numbers], layers.Dense(1)(layers.Concatenate()([layers.Flatten()(image), numbers]))
    )
    both.compile("sgd", "mse")
    assert scalers(both, [pixels(), np.arange(4, dtype="float32")[:, None]])[0] == "robust"


def test_constant_column_is_moved_but_not_stretched():
    assert column(7, 7, 7, 7) == (7.0, 1.0)


def test_mostly_zero_column_is_divided_by_its_standard_deviation():
    assert column(0, 0, 0, 0, 0, 0, 0, 0, 0, 10) == (0.0, 3.0)


def test_nonfinite_cells_are_left_out():
    assert column(0, 1, np.nan, 2, 3, np.inf, 4, -np.inf) == (2.0, 2.0)


def test_features_of_an_image_are_its_channels():
    x = np.broadcast_to(
        np.arange(5, dtype="float32")[:, None, None, None], (5, 2, 2, 3)
    ) * np.float32([1, 10, 100])
    mild, *_ = scalings(compiled(keras.Input((2, 2, 3)), layers.Flatten()), x)
    assert mild == {"input[0]": {"center": [2.0, 20.0, 200.0], "scale": [2.0, 20.0, 200.0]}}


def test_integers_that_mean_a_quantity_are_scaled():
    mild, *_ = scalings(compiled(keras.Input((1,))), np.arange(0, 500, 100)[:, None])
    assert mild == {"input[0]": {"center": [200.0], "scale": [200.0]}}


def test_class_indices_are_left_alone():
    ids, numbers = keras.Input((2,), name="ids"), keras.Input((1,), name="numbers")
    looked_up = layers.Flatten()(layers.Embedding(5, 3)(ids))
    both = keras.Model([ids, numbers], layers.Dense(1)(layers.Concatenate()([looked_up, numbers])))
    both.compile("sgd", "mse")
    x = np.arange(10).reshape(5, 2) % 5
    mild, *_ = scalings(both, [x, np.arange(5, dtype="float32")[:, None]])
    assert mild == {"numbers": {"center": [2.0], "scale": [2.0]}}
    only = compiled(keras.Input((2,)), layers.Embedding(5, 3), layers.Flatten())
    assert not contract.applies(
        get(NAME), DIAGNOSIS, contract.run_of(only, x, np.zeros((5, 1), "float32"))
    )


def test_apply_turns_the_numbers_into_a_map():
    run = contract.run_of(explosions.mlp(), *explosions.table(rows=16))
    numbers = {"input[0]": {"center": [1.0, 2.0, 3.0, 4.0], "scale": [2.0, 2.0, 2.0, 4.0]}}
    changed = get(NAME).apply(run, Plan(), scaler="robust", inputs=numbers)
    scaling = changed.of(Scaling).inputs
    assert scaling == {"input[0]": Affine((1.0, 2.0, 3.0, 4.0), (2.0, 2.0, 2.0, 4.0))}
    np.testing.assert_array_equal(
        scaling["input[0]"](np.float32([[3, 2, 1, 8]])), [[1.0, 0.0, -1.0, 1.0]]
    )


def test_repaired_model_takes_raw_inputs():
    report, x, y = repairs.check_repair(NAME, explosions.unscaled_inputs)
    lost = float(np.mean((report.model.predict(x, verbose=0) - y) ** 2))
    assert lost == pytest.approx(report.history["val_loss"][-1], rel=1e-3)


@pytest.mark.soak
@pytest.mark.parametrize(
    "scaler", [RobustScaler, StandardScaler], ids=lambda scaler: scaler.__name__
)
def test_is_as_good_as_inputs_scaled_by_hand(scaler):
    def scaled(model, x, y, arguments):
        fitted = scaler().fit(x[: repairs.training_rows(y, arguments)])
        return repairs.trained(model, fitted.transform(x), y, arguments)

    x, y = explosions.noisy_table()
    repairs.check_repair(
        NAME,
        explosions.with_data(explosions.unscaled_inputs, x * 3000.0 + 1000.0, y, epochs=6),
        scaled,
    )


def test_long_tails_are_drawn_in_inside_the_model():
    x, y = explosions.noisy_table()
    build = explosions.with_data(explosions.unscaled_inputs, 1e3 * np.exp(3.0 * x), y, epochs=6)

    def logged(model, x, y, arguments):
        return repairs.trained(model, PowerTransformer().fit_transform(x), y, arguments)

    report, x, y = repairs.check_repair(NAME, build, logged)
    assert report.fix.edits[0].params["scaler"] == "power"
    lost = float(np.mean((report.model.predict(x, verbose=0) - y) ** 2))
    assert lost == pytest.approx(report.history["val_loss"][-1], rel=1e-3)


@pytest.mark.soak
def test_bytes_are_scaled_as_well_as_by_hand():
    def divided(model, x, y, arguments):
        return repairs.trained(model, x / 255.0, y, arguments)

    repairs.check_repair(NAME, explosions.byte_images, divided)


def test_bytes_are_scaled_by_a_layer_in_front_of_a_convolution_that_pads():
    model, x, y, arguments = explosions.byte_images()
    edit = Edit(
        NAME,
        contract.levels(
            get(NAME), contract.diagnosis(Cause.UNSCALED_INPUT), contract.run_of(model, x, y)
        )[0],
    )
    assert edit.params["scaler"] == "bytes"
    report = nanfix.fit(model, x, y, fix=Fix((edit,)), **arguments)
    assert [type(layer).__name__ for layer in report.model.layers] == [
        "Normalization",
        "Conv2D",
        "Conv2D",
        "GlobalAveragePooling2D",
        "Dense",
    ]
    held = repairs.training_rows(y, arguments)
    lost = float(np.mean((report.model.predict(x[held:], verbose=0) - y[held:]) ** 2))
    assert lost == pytest.approx(report.history["val_loss"][-1], rel=1e-3)


def test_columns_of_codes_are_left_among_the_others():
    table = keras.Input((3,))
    code = layers.Embedding(4, 2)(table[:, 1])
    model = keras.Model(table, layers.Dense(1)(layers.Concatenate()([table[:, :1], code])))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).uniform(100.0, 900.0, (40, 3)).astype("float32")
    x[:, 1] = np.arange(40) % 4
    for given in scalings(model, x):
        (numbers,) = given.values()
        first = numbers["center"][1], numbers["scale"][1], numbers.get("exponent", (1, 1))[1]
        assert first == (0.0, 1.0, 1) and numbers["scale"][0] != 1.0
        last = numbers.get("last_center", (0, 0))[1], numbers.get("last_scale", (1, 1))[1]
        assert last == (0, 1)
    assert "Scale 2 input features" in get(NAME).explain({"scaler": "robust", "inputs": given})


def test_columns_of_0_and_1_are_left_among_the_others():
    x = np.stack([np.arange(8) % 2, np.arange(8) * 100.0, np.ones(8)], axis=1).astype("float32")
    for given in scalings(compiled(keras.Input((3,))), x):
        numbers = given["input[0]"]
        assert (numbers["center"][0], numbers["scale"][0]) == (0.0, 1.0)
        assert (numbers["center"][2], numbers["scale"][2]) == (0.0, 1.0)
        assert numbers["scale"][1] != 1.0


@pytest.mark.parametrize(
    "front",
    [
        layers.Masking(),
        layers.Lambda(lambda t: keras.ops.where(t > 0, t, 0.0)),
        layers.Lambda(lambda t: t * keras.ops.cast(keras.ops.not_equal(t, 0), t.dtype)),
    ],
    ids=["masking", "sign", "padding"],
)
def test_where_0_is_told_from_other_numbers_it_stays_0(front):
    x = np.float32([0.0, 0.0, 300.0, 500.0, 900.0])[:, None]
    for given in scalings(compiled(keras.Input((1,)), front), x):
        assert given["input[0]"]["center"] == [0.0] and given["input[0]"]["scale"][0] > 100.0
        assert "0 stays 0" in get(NAME).explain({"scaler": "robust", "inputs": given})


def test_lengths_that_are_compared_are_not_scaled():
    front = layers.Lambda(lambda t: keras.ops.cast(t > 4, "float32"))
    run = contract.run_of(
        compiled(keras.Input((1,), dtype="int32"), front, layers.Dense(1)),
        np.int32([[300], [900]]),
        np.zeros((2, 1), "float32"),
    )
    assert not contract.applies(get(NAME), DIAGNOSIS, run)


@pytest.mark.parametrize(
    ("inputs", "lines"),
    [
        (["input[0]"], ["X = sklearn.preprocessing.RobustScaler().fit_transform(X)"]),
        (["input[1]", "rain"], ["X[1] = (X[1] - np.array([3.0]))", 'X["rain"] = (X["rain"] - np']),
    ],
)
def test_by_hand_it_is_written_for_the_inputs_that_there_are(inputs, lines):
    numbers = {name: {"center": [3.0], "scale": [2.0]} for name in inputs}
    written = get(NAME).snippet({"scaler": "robust", "inputs": numbers}).splitlines()
    assert all(map(str.startswith, written, lines)) and len(written) == len(lines)
    numbers = {"input[0]": {"center": [3.0, 0.0], "scale": [2.0, 1.0]}}  # a column is left
    written = get(NAME).snippet({"scaler": "robust", "inputs": numbers})
    assert "X = (X - np.array([3.0, 0.0])) / np.array([2.0, 1.0])" in written
