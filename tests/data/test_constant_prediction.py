"""The losses of always predicting the same, of one output and of several."""

import keras
import numpy as np
import pytest

from nanfix.data.constant_prediction import constant_losses, mean_losses
from nanfix.data.training_data import TrainingData
from nanfix.testing import contract

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3)).astype("float32")
PRICE = RNG.normal(7.0, 3.0, size=(64, 1)).astype("float32")
SOLD = (RNG.random((64, 1)) < 0.25).astype("float32")
KIND = RNG.integers(0, 3, size=64)


def losses(model, y):
    return constant_losses(contract.run_of(model, X, y), TrainingData.of(X, y, {}))


def root_of_error(y, p):
    return keras.ops.mean(keras.ops.sqrt(keras.ops.abs(y - p)))


def heads(*wanted):
    inputs = keras.Input((3,))
    return keras.Model(
        inputs,
        [keras.layers.Dense(n, activation=a, name=name)(inputs) for name, n, a in wanted],
    )


def entropy(share):
    return float(-(share * np.log(share) + (1 - share) * np.log(1 - share)))


def test_one_output():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert losses(model, PRICE) == {"loss": pytest.approx(np.var(PRICE), rel=1e-4)}
    model.compile("sgd", lambda y, p: keras.ops.mean(y * p))
    assert losses(model, PRICE) == {}


def test_of_shares_below_0_there_is_no_best_constant():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    model.compile("sgd", "categorical_crossentropy")
    shares = np.eye(2, dtype="float32")[RNG.integers(0, 2, 64)]
    assert losses(model, shares)
    assert losses(model, -shares) == {}


@pytest.mark.parametrize("loss", ["mape", "msle"])
def test_no_constant_is_better_than_that_of_a_relative_loss(loss):
    counts = RNG.poisson(2.0, size=(64, 1)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    for y in (counts, counts + 1.0):
        model.compile("sgd", loss)
        (best,) = losses(model, y).values()
        tried = [
            float(np.mean(keras.losses.get(loss)(y, np.full_like(y, each))))
            for each in np.linspace(0.0, 8.0, 801)
        ]
        assert best == pytest.approx(min(tried), rel=1e-3)


@pytest.mark.parametrize("weights", [0.5, [0.5]])
def test_the_loss_of_one_output_is_weighed_as_the_user_weighs_it(weights):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", loss_weights=weights)
    assert losses(model, PRICE) == {"loss": pytest.approx(0.5 * np.var(PRICE), rel=1e-4)}
    model.compile("sgd", root_of_error, loss_weights=weights)
    found = mean_losses(contract.run_of(model, X, PRICE), TrainingData.of(X, PRICE, {}))
    mean = np.mean(np.sqrt(np.abs(PRICE - np.median(PRICE))))
    assert found["loss"] <= 0.5 * mean * (1 + 1e-4)


def test_the_losses_of_several_outputs_are_weighed_in_their_sum():
    y = {"price": PRICE, "sold": SOLD}
    for weights in ({"sold": 2.0, "price": 0.5}, [0.5, 2.0]):
        model = heads(("price", 1, None), ("sold", 1, "sigmoid"))
        given = {"price": "mse", "sold": "binary_crossentropy"}
        as_list = isinstance(weights, list)
        model.compile("sgd", list(given.values()) if as_list else given, loss_weights=weights)
        known = losses(model, list(y.values()) if as_list else y)
        total = 0.5 * known["price_loss"] + 2.0 * known["sold_loss"]
        assert known["loss"] == pytest.approx(total)


def test_a_loss_of_the_users_own_has_the_better_of_mean_and_median():
    def means(model, y):
        return mean_losses(contract.run_of(model, X, y), TrainingData.of(X, y, {}))

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", root_of_error)
    root = min(np.mean(np.sqrt(np.abs(PRICE - c))) for c in (PRICE.mean(), np.median(PRICE)))
    assert means(model, PRICE) == {"loss": pytest.approx(root, rel=1e-4)}
    model.compile("sgd", lambda y, p: keras.ops.mean(keras.ops.log(y * 0 - 1.0 - p)))
    assert means(model, PRICE) == {}  # no constant is finite
    two = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    two.compile("sgd", lambda y, p: keras.ops.mean(keras.ops.square(y - p[:, :1])))
    assert means(two, PRICE) == {}  # a mean and a deviation are no price
    model.compile("sgd", "mse")
    assert means(model, PRICE) == {}  # of which the best constant is known


def test_a_mean_whose_loss_overflows_in_single_precision_is_known_all_the_same():
    """As a fix may compute it: log(cosh(x)) of an error of 200 is 199.3."""

    def log_cosh(y, p):
        return keras.ops.mean(keras.ops.log(keras.ops.cosh(p - y)), axis=-1)

    class LogCosh(keras.Loss):
        def call(self, y_true, y_pred):
            return log_cosh(y_true, y_pred)

    far = np.where(np.arange(64) % 2, 200.0, -200.0).astype("float32")[:, None]
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    for loss in (log_cosh, LogCosh()):
        model.compile("sgd", loss)
        found = mean_losses(contract.run_of(model, X, far), TrainingData.of(X, far, {}))
        assert found == {"loss": pytest.approx(200.0 - np.log(2.0), rel=1e-4)}


@pytest.mark.parametrize("as_dict", [False, True])
def test_each_of_several_outputs(as_dict):
    model = heads(("price", 1, None), ("sold", 1, "sigmoid"))
    wanted = ["mse", "binary_crossentropy"]
    model.compile("sgd", dict(zip(("price", "sold"), wanted, strict=True)) if as_dict else wanted)
    found = losses(model, [PRICE, SOLD])
    assert found["price_loss"] == pytest.approx(np.var(PRICE), rel=1e-4)
    assert found["sold_loss"] == pytest.approx(entropy(SOLD.mean()), rel=1e-4)
    assert found["loss"] == pytest.approx(found["price_loss"] + found["sold_loss"])


def test_targets_are_found_by_the_name_of_their_output():
    """A dict is flattened by its keys, which may be another order than that of the outputs."""
    model = heads(("sold", 1, "sigmoid"), ("kind", 3, "softmax"))
    model.compile("sgd", ["binary_crossentropy", "sparse_categorical_crossentropy"])
    in_a_list = losses(model, [SOLD, KIND])
    assert losses(model, {"sold": SOLD, "kind": KIND}) == in_a_list and "kind_loss" in in_a_list


def test_an_unknown_loss_leaves_the_others_known():
    model = heads(("price", 1, None), ("kind", 3, "softmax"))
    own = lambda y, p: keras.ops.mean(keras.ops.square(y - p) ** 2)  # noqa: E731
    model.compile("sgd", [own, "sparse_categorical_crossentropy"])
    found = losses(model, [PRICE, KIND])
    shares = np.bincount(KIND) / len(KIND)
    assert found == {"kind_loss": pytest.approx(-np.sum(shares * np.log(shares)), rel=1e-4)}


def test_a_constant_of_few_rows_is_not_known():
    """One label of 64 rows, as where most are missing: the constant would be that label."""
    rare = np.where(np.arange(64) == 5, 1.0, np.nan).astype("float32")[:, None]
    model = heads(("sold", 1, "sigmoid"), ("rare", 1, "sigmoid"))
    model.compile("sgd", "binary_crossentropy")
    assert set(losses(model, [SOLD, rare])) == {"sold_loss"}


def test_a_loss_of_the_users_own_on_classes_has_their_shares():
    def means(activation, loss, y, classes=3):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(classes, activation)])
        model.compile("sgd", loss)
        return mean_losses(contract.run_of(model, X, y), TrainingData.of(X, y, {}))

    def hot(y):
        return keras.ops.one_hot(keras.ops.cast(keras.ops.reshape(y, (-1,)), "int32"), 3)

    def by_hand(y, p):
        return -keras.ops.log(keras.ops.sum(p * hot(y), axis=-1))

    def of_logits(y, z):
        return -keras.ops.sum(keras.ops.log_softmax(z) * hot(y), axis=-1)

    shares = np.bincount(KIND) / len(KIND)
    same = {"loss": pytest.approx(-np.sum(shares * np.log(shares)), rel=1e-3)}
    assert means("softmax", by_hand, KIND) == same
    assert means(None, of_logits, KIND) == same
    assert means("softmax", by_hand, KIND[:, None].astype("float32")) == same
    assert means("softmax", by_hand, KIND + 1) == {}  # one is no class that it has
    assert means("softmax", by_hand, KIND + 0.5) == {}  # none is


def test_targets_without_a_last_axis_have_their_mean_too():
    """As they are given most often: a column of a table."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", root_of_error)
    counts = np.round(PRICE).astype("int64")
    for y in (PRICE, counts):
        flat, column = (
            mean_losses(contract.run_of(model, X, each), TrainingData.of(X, each, {}))
            for each in (y[:, 0], y)
        )
        assert flat == column and flat["loss"] > 0
