"""scale-targets: scikit-learn's numbers for a regression's targets, and predictions in
the user's units.
"""

import explosions
import keras
import numpy as np
import pytest
from keras import layers
from sklearn.preprocessing import RobustScaler

from nanfix.changes.maps import TargetScaling
from nanfix.changes.plan import Plan
from nanfix.changes.scaling import Scaling
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "scale-targets"
DIAGNOSIS = contract.diagnosis(Cause.UNSCALED_TARGET)


def run_of(y, **model):
    y = np.asarray(y, "float32")
    return contract.run_of(explosions.mlp(**model), explosions.table(rows=len(y))[0], y)


def scaling(*values, loss="mse"):
    (params,) = contract.levels(get(NAME), DIAGNOSIS, run_of(np.array(values)[:, None], loss=loss))
    numbers = params["outputs"]["output"]
    return (*numbers["center"], *numbers["scale"], numbers["degree"])


def test_numbers_are_those_of_robust_scaler():
    y = explosions.table()[1].astype("float64") * 1e6 + 3e6
    expected = RobustScaler().fit(y.astype("float32").astype("float64"))
    (params,) = contract.levels(get(NAME), DIAGNOSIS, run_of(y))
    numbers = params["outputs"]["output"]
    assert numbers["center"] == pytest.approx(expected.center_, rel=1e-6)
    assert numbers["scale"] == pytest.approx(expected.scale_, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "degree"), [("mse", 2), ("mae", 1), ("huber", 1), ("log_cosh", 1)]
)
def test_degree_is_how_the_loss_grows_with_the_error(loss, degree):
    assert scaling(0, 1, 2, 3, 4, loss=loss) == (2.0, 2.0, degree)


def test_constant_targets_are_moved_but_not_stretched():
    assert scaling(7, 7, 7, 7) == (7.0, 1.0, 2)


def test_mostly_zero_targets_are_divided_by_their_standard_deviation():
    assert scaling(0, 0, 0, 0, 0, 0, 0, 0, 0, 10) == (0.0, 3.0, 2)


def test_nonfinite_targets_are_left_out():
    assert scaling(0, 1, np.nan, 2, 3, np.inf, 4) == (2.0, 2.0, 2)


@pytest.mark.parametrize(
    "loss",
    [
        "mse",
        "MSE",
        "mean_squared_error",
        "MeanSquaredError",
        keras.losses.MeanSquaredError(),
        keras.losses.mean_squared_error,
    ],
    ids=["mse", "MSE", "mean_squared_error", "class name", "instance", "function"],
)
def test_loss_is_known_however_it_is_given(loss):
    assert contract.applies(get(NAME), DIAGNOSIS, run_of(np.zeros((8, 1)), loss=loss))


@pytest.mark.parametrize(
    "model",
    [
        {"loss": "binary_crossentropy", "last": "sigmoid"},
        {"loss": lambda y_true, y_pred: (y_true - y_pred) ** 4},
        {"last": "relu"},
        {"loss": "mean_absolute_percentage_error"},
    ],
    ids=["classification", "other power", "output not affine", "relative error"],
)
def test_does_not_apply(model):
    assert not contract.applies(get(NAME), DIAGNOSIS, run_of(np.zeros((8, 1)), **model))


class WithoutBias(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = layers.Dense(1, use_bias=False)

    def call(self, inputs):
        return self.last(inputs)


@pytest.mark.parametrize("own_call", [False, True])
def test_a_last_layer_without_bias_is_scaled_behind(own_call):
    model = (
        WithoutBias()
        if own_call
        else keras.Sequential([keras.Input((4,)), layers.Dense(1, use_bias=False)])
    )
    model.compile("sgd", "mse")
    run = contract.run_of(model, *explosions.table(rows=8))
    assert contract.applies(get(NAME), DIAGNOSIS, run)


@pytest.mark.parametrize(
    ("sizes", "columns"),
    [((1.0, 1e5, 1e-3), 3), ((1.0, 5.0, 2.0), 1), ((1.0, np.nan, 1e5), 1), ((1.0, 0.0, 1e5), 1)],
    ids=["far apart", "alike", "one unknown", "one constant"],
)
def test_columns_of_a_table_that_differ_in_scale_are_scaled_each_by_itself(sizes, columns):
    x, y = explosions.table(rows=80)
    targets = (np.hstack([y, y + 1.0, y * y]) * np.float32(sizes)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model.compile("sgd", "mse")
    (params,) = contract.levels(get(NAME), DIAGNOSIS, contract.run_of(model, x, targets))
    numbers = params["outputs"]["output"]
    assert len(numbers["center"]) == len(numbers["scale"]) == columns
    if columns == 3:
        expected = RobustScaler().fit(targets.astype("float64"))
        np.testing.assert_allclose(numbers["center"], expected.center_, rtol=1e-5)
        np.testing.assert_allclose(numbers["scale"], expected.scale_, rtol=1e-5)
        assert ", " in get(NAME).explain(params) and "np.array" in get(NAME).snippet(params)


def test_each_column_learns():
    report, x, y = repairs.check_repair(NAME, explosions.columns_of_three_sizes)
    error = np.square(report.model.predict(x, verbose=0) - y).mean(axis=0)
    assert (error < 0.8 * y.var(axis=0)).all()


def test_apply_turns_the_numbers_into_a_scaling():
    outputs = {"output": {"center": [3.0], "scale": [2.0], "degree": 2}}
    changed = get(NAME).apply(run_of(np.zeros((8, 1))), Plan(), outputs=outputs)
    assert changed.of(Scaling).targets == {"output": TargetScaling((3.0,), (2.0,), 2)}


def test_repaired_model_predicts_in_the_users_units():
    report, x, y = repairs.check_repair(NAME, explosions.large_targets)
    lost = float(np.mean((report.model.predict(x, verbose=0) - y) ** 2))
    assert lost == pytest.approx(report.history["val_loss"][-1], rel=1e-3)


def test_of_two_outputs_each_learns():
    report, x, y = repairs.check_repair(NAME, explosions.one_large_target_of_two)
    found = report.model.predict(x, verbose=0)
    assert float(np.mean((found["price"] - y["price"]) ** 2)) < 0.2 * float(np.var(y["price"]))
    assert np.mean((found["sold"] > 0.5) == y["sold"]) > 0.8


@pytest.mark.soak
def test_is_as_good_as_targets_scaled_by_hand():
    def scaled(model, x, y, arguments):
        scaler = RobustScaler().fit(y[: repairs.training_rows(y, arguments)])
        assert scaler.scale_ is not None
        return repairs.trained(model, x, scaler.transform(y), arguments) * scaler.scale_[0] ** 2

    x, y = explosions.noisy_table()
    build = explosions.with_data(explosions.large_targets, x, y * 1e6 + 3e6, epochs=6)
    repairs.check_repair(NAME, build, scaled)


def of_log_variance(y, p):
    return keras.ops.mean(
        p[..., 1:] + keras.ops.square(y - p[..., :1]) * keras.ops.exp(-p[..., 1:])
    )


def likelihood(*shape):
    inputs = keras.Input((*shape, 4))
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    model.compile("sgd", of_log_variance)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, *shape, 4)), 3e3 + 50.0 * rng.normal(size=(40, *shape, 1))
    return contract.run_of(model, x.astype("float32"), y.astype("float32"))


def test_the_columns_of_a_likelihood_move_with_its_targets():
    run = likelihood()
    (params,) = contract.levels(get(NAME), DIAGNOSIS, run)
    numbers = params["outputs"]["output"]
    assert numbers["columns"] == ["location", "log-variance"] and numbers["degree"] == 0
    (scale,) = numbers["scale"]
    given = get(NAME).apply(run, Plan(), **params).of(Scaling).targets["output"]
    assert given.scale == (scale, 1.0) and given.center[1] == pytest.approx(2 * np.log(scale))
    assert "(the columns move with it: location, log-variance)" in get(NAME).explain(params)


def test_the_columns_of_a_sequence_do_not():
    assert not contract.applies(get(NAME), DIAGNOSIS, likelihood(5))
