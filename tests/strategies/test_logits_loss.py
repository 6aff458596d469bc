"""logits-loss: crossentropies are recognized, however written, and others are not;
predictions stay probabilities.
"""

import explosions
import keras
import numpy as np
import pytest
from keras import layers, ops

from nanfix.changes.layers import LayerAttributes
from nanfix.changes.loss import LogitsLoss
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "logits-loss"
DIAGNOSIS = contract.diagnosis(Cause.LOGITS_BY_HAND)
MEAN, SUM = "sum_over_batch_size", "sum"


def categorical(y, p):
    return -ops.sum(y * ops.log(p), axis=-1)


def categorical_mean(y, p):
    return -ops.mean(y * ops.log(p))


def categorical_sum(y, p):
    return -ops.sum(y * ops.log(p))


def categorical_in_bits(y, p):
    return categorical(y, p) / ops.log(2.0)


def categorical_of_raw(y, z):
    return categorical(y, ops.softmax(z))


def categorical_sum_of_raw(y, z):
    return categorical_sum(y, ops.softmax(z))


def binary(y, p):
    return -ops.mean(y * ops.log(p) + (1 - y) * ops.log(1 - p), axis=-1)


def binary_sum(y, p):
    return -ops.sum(y * ops.log(p) + (1 - y) * ops.log(1 - p))


def binary_of_raw(y, z):
    return binary(y, ops.sigmoid(z))


def squared(y, p):
    return (y - p) ** 2


def focal(y, p):
    return -ops.sum(y * (1 - p) ** 2 * ops.log(p), axis=-1)


def weighted(y, p):
    return -ops.sum(y * ops.log(p) * np.float32([1, 2, 3]), axis=-1)


def one_sided(y, p):
    return -ops.mean(y * ops.log(p), axis=-1)


def gathered(y, p):
    """A crossentropy of class indices; it can be computed only where there are as many
    outputs as classes.
    """
    return -ops.log(ops.take_along_axis(p, ops.cast(ops.reshape(y, (-1, 1)), "int32"), axis=-1))


def of_full_batches(y, p):
    """A crossentropy of exactly 16 rows at a time."""
    return -ops.sum(ops.reshape(y, (16, 3)) * ops.log(p), axis=-1)


def run_of(loss, last, outputs=3, targets=None):
    x, _ = explosions.table(rows=16)
    if targets is None:
        targets = (
            np.eye(3)[np.arange(16) % 3] if outputs == 3 else np.tile([[0], [1]], (8, outputs))
        )
    return contract.run_of(
        explosions.mlp(loss=loss, last=last, outputs=outputs), x, np.asarray(targets, "float32")
    )


def found(run):
    (params,) = contract.levels(get(NAME), DIAGNOSIS, run)
    return params


@pytest.mark.parametrize(
    ("loss", "last", "expected"),
    [
        (categorical, "softmax", ("categorical_crossentropy", MEAN, 1.0, False, None)),
        (categorical_mean, "softmax", ("categorical_crossentropy", MEAN, 1 / 3, False, None)),
        (categorical_sum, "softmax", ("categorical_crossentropy", SUM, 1.0, False, None)),
        (
            categorical_in_bits,
            "softmax",
            ("categorical_crossentropy", MEAN, 1 / np.log(2.0), False, None),
        ),
        (categorical, None, ("categorical_crossentropy", MEAN, 1.0, False, "softmax")),
        (categorical_of_raw, None, ("categorical_crossentropy", MEAN, 1.0, True, None)),
        (categorical_sum_of_raw, None, ("categorical_crossentropy", SUM, 1.0, True, None)),
        (
            "categorical_crossentropy",
            "softmax",
            ("categorical_crossentropy", MEAN, 1.0, False, None),
        ),
    ],
)
def test_crossentropy_of_three_classes_is_recognized(loss, last, expected):
    params = found(run_of(loss, last))
    name, reduction, factor, raw_outputs, activation = expected
    assert params.pop("factor") == pytest.approx(factor, rel=1e-4)
    assert params == {
        "loss": name,
        "reduction": reduction,
        "raw_outputs": raw_outputs,
        "activation": activation,
    }


@pytest.mark.parametrize(
    ("loss", "last", "outputs", "reduction", "factor", "raw_outputs", "activation"),
    [
        (binary, "sigmoid", 1, MEAN, 1.0, False, None),
        (binary, "sigmoid", 2, MEAN, 1.0, False, None),
        (binary_sum, "sigmoid", 1, SUM, 1.0, False, None),
        # Keras takes the mean over the two outputs.
        (binary_sum, "sigmoid", 2, SUM, 2.0, False, None),
        (binary, None, 1, MEAN, 1.0, False, "sigmoid"),
        # Softmax would not do: both can be 1, or neither.
        (binary, None, 2, MEAN, 1.0, False, "sigmoid"),
        (binary_of_raw, None, 1, MEAN, 1.0, True, None),
        (binary_of_raw, None, 2, MEAN, 1.0, True, None),
        ("binary_crossentropy", "sigmoid", 1, MEAN, 1.0, False, None),
    ],
)
def test_crossentropy_of_yes_or_no_is_recognized(
    loss, last, outputs, reduction, factor, raw_outputs, activation
):
    params = found(run_of(loss, last, outputs))
    assert params.pop("factor") == pytest.approx(factor, rel=1e-4)
    expected = {
        "loss": "binary_crossentropy",
        "reduction": reduction,
        "raw_outputs": raw_outputs,
        "activation": activation,
    }
    assert params == expected


def test_crossentropy_of_class_indices_is_recognized():
    params = found(run_of("sparse_categorical_crossentropy", "softmax", targets=np.arange(16) % 3))
    assert (params["loss"], params["reduction"], params["factor"]) == (
        "sparse_categorical_crossentropy",
        MEAN,
        1.0,
    )


@pytest.mark.parametrize(
    ("loss", "last", "outputs"),
    [
        (squared, "softmax", 3),
        (focal, "softmax", 3),
        (weighted, "softmax", 3),
        (one_sided, "sigmoid", 1),
        (categorical, "sigmoid", 3),
        (categorical, "relu", 3),
        (categorical_of_raw, "softmax", 3),
        (binary, "tanh", 1),
        ("mse", None, 1),
        (keras.losses.BinaryCrossentropy(from_logits=True), None, 1),
        (keras.losses.CategoricalCrossentropy(from_logits=True), None, 3),
    ],
)
def test_what_is_no_crossentropy_of_probabilities_is_left_alone(loss, last, outputs):
    assert not contract.applies(get(NAME), DIAGNOSIS, run_of(loss, last, outputs))


@pytest.mark.parametrize(
    ("loss", "targets"), [(gathered, np.arange(16) % 3), (of_full_batches, None)]
)
def test_loss_that_cannot_take_random_outputs_is_left_alone(loss, targets):
    assert not contract.applies(get(NAME), DIAGNOSIS, run_of(loss, "softmax", targets=targets))


def test_several_outputs_are_left_alone():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [layers.Dense(1, activation="sigmoid")(inputs) for _ in range(2)])
    model.compile("sgd", [binary, binary])
    x, y = explosions.table(rows=16)
    assert not contract.applies(get(NAME), DIAGNOSIS, contract.run_of(model, x, [y > 0, y < 0]))


def test_last_activation_given_as_a_layer_is_no_error():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation=layers.Softmax())])
    model.compile("sgd", categorical)
    run = contract.run_of(
        model, explosions.table(rows=9)[0], np.eye(3, dtype="float32")[np.arange(9) % 3]
    )
    assert contract.applies(get(NAME), DIAGNOSIS, run) in (True, False)


def test_apply_adds_the_missing_activation():
    run = run_of(binary, None, outputs=1)
    changed = get(NAME).apply(run, Plan(), **found(run))
    assert changed.of(LogitsLoss) == LogitsLoss("binary_crossentropy", MEAN, 1.0)
    assert list(changed.of(LayerAttributes).attributes.values()) == [{"activation": "sigmoid"}]


def assert_probabilities(predictions, truth):
    assert predictions.min() >= 0.0 and predictions.max() <= 1.0
    assert np.mean((predictions > 0.5) == truth) > 0.8


def test_repaired_model_still_predicts_probabilities():
    report, x, y = repairs.check_repair(NAME, explosions.handwritten_binary)
    assert report.model.layers[-1].activation is keras.activations.sigmoid
    assert_probabilities(report.model.predict(x, verbose=0), y)


class HeadFirst(keras.Model):
    """Its last layer is made before the others."""

    def __init__(self):
        super().__init__()
        self.head, self.body = layers.Dense(1, "sigmoid"), layers.Dense(8, "tanh")

    def call(self, inputs):
        return self.head(self.body(inputs))


def test_the_layer_that_gives_the_output_is_meant_and_not_the_one_made_last():
    _, x, y, arguments = explosions.handwritten_binary()
    keras.utils.set_random_seed(0)
    model = HeadFirst()
    model.compile(keras.optimizers.Adam(0.03), explosions.binary_by_hand)
    model(x)
    model.head.kernel.assign(100.0 * model.head.kernel)
    report = repairs.fit(model, x, y, strategies=[NAME], **arguments)
    assert report.outcome is repairs.Outcome.REPAIRED
    assert model.body.activation is keras.activations.tanh
    assert_probabilities(model.predict(x, verbose=0), y)


def test_outputs_that_were_no_probabilities_become_some():
    report, x, y = repairs.check_repair(NAME, lambda: explosions.handwritten_binary(last=None))
    assert report.model.layers[-1].activation is keras.activations.sigmoid
    assert_probabilities(report.model.predict(x, verbose=0), y)


def test_three_classes_sum_to_one_after_the_repair():
    """Of inputs so large most units die, and what is left predicts the same for all rows."""
    model, x, y, arguments = explosions.handwritten_log()
    report = repairs.fit(model, x, y, strategies=[NAME], throw=False, **arguments)
    assert report.outcome is repairs.Outcome.FINITE and "the same for all rows" in str(report)
    np.testing.assert_allclose(model.predict(x, verbose=0).sum(axis=-1), 1.0, rtol=1e-5)


def test_raw_outputs_stay_raw():
    report, x, y = repairs.check_repair(
        NAME, lambda: explosions.handwritten_binary(last=None, loss=binary_of_raw)
    )
    assert report.model.layers[-1].activation is keras.activations.linear
    outputs = report.model.predict(x, verbose=0)
    assert np.abs(outputs).max() > 1.0 and np.mean((outputs > 0.0) == y) > 0.8


@pytest.mark.soak
@pytest.mark.parametrize("last", ["sigmoid", None])
def test_is_as_good_as_logits_by_hand(last):
    x, _ = explosions.table(rows=1280)
    likely = 1.0 / (1.0 + np.exp(-3.0 * (x[:, :1] - 0.5 * x[:, 1:2])))
    y = (np.random.default_rng(0).random(likely.shape) < likely).astype("float32")

    def from_logits(model, x, y, arguments):
        model.layers[-1].activation = keras.activations.linear
        model.compile(
            keras.optimizers.Adam(0.03), keras.losses.BinaryCrossentropy(from_logits=True)
        )
        return repairs.trained(model, x, y, arguments)

    build = explosions.with_data(
        lambda: explosions.handwritten_binary(last), x, y, epochs=6, batch_size=64
    )
    repairs.check_repair(NAME, build, from_logits)
