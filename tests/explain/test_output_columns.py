"""Which activation each column of the outputs needs, by what the loss does with it."""

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from test_loss_probe import both_sides, impossible, log_of_probability, root_of_difference, setup_of

from nanfix.explain.output_columns import Needed, needed_activations
from nanfix.testing import contract

NAMES = ("softplus", "sigmoid")


@pytest.mark.parametrize(
    ("loss", "last", "needed"),
    [
        (explosions.poisson, None, "softplus"),
        (explosions.poisson, "leaky_relu", "softplus"),
        (root_of_difference, None, "softplus"),
        (both_sides, None, "sigmoid"),
        # With softplus it falls for ever; with sigmoid it is least where all are 1.
        (log_of_probability, None, "softmax"),
        (log_of_probability, "softmax", None),
        (impossible, None, None),
    ],
)
def test_activation_with_which_the_loss_is_defined(loss, last, needed):
    run = setup_of(loss, last)
    address, layer = run.activations[-1]
    before = layer.activation
    found = needed_activations(run, NAMES)
    assert found == Needed({} if needed is None else {address: needed})
    assert run.activations[-1][1].activation is before


def test_activation_is_the_same_whatever_weights_a_trial_has_left():
    run = setup_of(explosions.poisson)
    for weight in run.model.weights:
        weight.assign(weight * np.nan)
    assert set(needed_activations(run, NAMES).layers.values()) == {"softplus"}


def gaussian(y, p):
    mean, deviation = ops.split(p, 2, axis=-1)
    return ops.sum(ops.log(deviation) + 0.5 * ops.square((y - mean) / deviation), axis=-1)


def zero_inflated(y, p):
    share, rate = p[..., 0], p[..., 1]
    zero = ops.log(share + (1.0 - share) * ops.exp(-rate))
    some = ops.log(1.0 - share) - rate + y[..., 0] * ops.log(rate)
    return -ops.where(y[..., 0] < 0.5, zero, some)


def mixture(y, p):
    means, deviations, shares = p[:, :2], p[:, 2:4], p[:, 4:]
    density = ops.log_softmax(shares) - ops.log(deviations)
    return -ops.logsumexp(density - 0.5 * ops.square((y - means) / deviations), axis=-1)


def gamma(y, p):
    """Finite of a negative shape, but with poles there and no minimum."""
    shape, rate = tf.unstack(p, axis=-1)
    density = shape * tf.math.log(rate) - tf.math.lgamma(shape) - rate * (1.0 + y[:, 0])
    return -density - (shape - 1.0) * tf.math.log(1.0 + y[:, 0])


def overlap(y, p):
    """Of two boxes, 0 / 0 where both are empty."""
    box = ops.stack([y[:, 0], y[:, 0], 0.0 * y[:, 0], 0.0 * y[:, 0]], axis=-1)
    low = ops.maximum(box[:, :2], p[:, :2])
    high = ops.minimum(box[:, :2] + box[:, 2:], p[:, :2] + p[:, 2:])
    both = ops.prod(ops.maximum(high - low, 0.0), axis=-1)
    return 1.0 - both / (ops.prod(box[:, 2:], axis=-1) + ops.prod(p[:, 2:], axis=-1) - both)


@pytest.mark.parametrize(
    ("loss", "width", "last", "needed"),
    [
        (gaussian, 2, None, ((1, None), (1, "softplus"))),
        (gaussian, 6, None, ((3, None), (3, "softplus"))),
        (gaussian, 400, "leaky_relu", ((200, None), (200, "softplus"))),
        (gaussian, 400, "relu", "softplus"),  # of a mean that is 0 for all rows nothing is learned
        (overlap, 4, "relu", "softplus"),
        (zero_inflated, 2, None, ((1, "sigmoid"), (1, "softplus"))),
        (mixture, 6, None, ((2, None), (2, "softplus"), (2, None))),
        (gaussian, 2, "softplus", None),
        (gamma, 2, None, "softplus"),
    ],
)
def test_each_column_gets_what_the_loss_does_with_it_asks_for(loss, width, last, needed):
    y = np.arange(16).reshape(16, 1) % 4 * np.ones(width // 2 if loss is gaussian else 1)
    model = explosions.mlp(loss=loss, outputs=width, last=last)
    run = contract.run_of(model, explosions.table(rows=16)[0], y.astype("float32"))
    found = needed_activations(run, NAMES)
    assert list(found.layers.values()) == ([] if needed is None else [needed])
    assert not found.behind


class TwoHeads(keras.Model):
    def __init__(self):
        super().__init__()
        self.mean, self.deviation = layers.Dense(2), layers.Dense(2, "relu")

    def call(self, inputs):
        return ops.concatenate([self.mean(inputs), self.deviation(inputs)], axis=-1)


@pytest.mark.parametrize("subclass", [True, False])
def test_columns_that_several_layers_give_are_changed_there(subclass):
    inputs = keras.Input((4,))
    heads = [
        layers.Dense(2, name="mean")(inputs),
        layers.Dense(2, "relu", name="deviation")(inputs),
    ]
    model = TwoHeads() if subclass else keras.Model(inputs, layers.Concatenate()(heads))
    model.compile("sgd", gaussian)
    x, y = explosions.table(rows=16)
    run = contract.run_of(model, x, np.repeat(y, 2, axis=1))
    found = needed_activations(run, NAMES)
    assert found == Needed({"dense[1]" if subclass else "deviation": "softplus"})


def overlap(y, p):
    """A share that is not defined where both are 0."""
    return 1.0 - ops.sum(y * p, axis=-1) / ops.sum(y + p, axis=-1)


@pytest.mark.parametrize("as_dict", [False, True])
def test_of_several_outputs_that_of_which_the_loss_fails(as_dict):
    x, y = explosions.table(rows=16)
    inputs = keras.Input((4,))
    kind = keras.layers.Dense(3, "softmax", name="kind")(inputs)
    box = keras.layers.Dense(2, "relu", name="box")(inputs)
    model = keras.Model(inputs, [kind, keras.layers.Dense(1, name="a")(inputs), box])
    model.compile("sgd", ["sparse_categorical_crossentropy", "mse", overlap])
    given = [np.zeros(16, "int64"), y, np.zeros((16, 2), "float32")]
    targets = dict(zip(("kind", "a", "box"), given, strict=True)) if as_dict else given
    run = contract.run_of(model, x, targets)
    assert needed_activations(run, NAMES) == Needed({"box": "softplus"})


def test_loss_without_or_with_several_targets_is_not_judged():
    model = explosions.mlp()
    model.compile("sgd", loss=None)
    run = contract.run_of(model, explosions.table(rows=16)[0], None)
    assert needed_activations(run, NAMES) == Needed()
    run = setup_of(explosions.poisson)
    several = contract.run_of(run.model, run.sample.inputs[0], [run.sample.targets[0]] * 2)
    assert needed_activations(several, NAMES) == Needed()


def binary(y, p):
    return -ops.mean(y * ops.log(p) + (1.0 - y) * ops.log(1.0 - p))


def of_the_class(y, p):
    return -ops.log(ops.sum(y * p, axis=-1))


def summed(x):
    return layers.Add()([layers.Dense(2)(x), layers.Dense(2)(x)])


class Summed(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(2), layers.Dense(2)

    def call(self, inputs):
        return self.first(inputs) + self.second(inputs)


@pytest.mark.parametrize(
    ("head", "loss", "behind"),
    [
        (summed, explosions.poisson, "softplus"),
        (summed, binary, "sigmoid"),
        (summed, gaussian, ((1, None), (1, "softplus"))),
        (lambda x: 2.0 * layers.Dense(2)(x), explosions.poisson, "softplus"),
        (lambda x: layers.Rescaling(2.0)(layers.Dense(2)(x)), explosions.poisson, "softplus"),
        (lambda x: layers.Reshape((1, 2))(summed(x)), explosions.poisson, "softplus"),
        (
            lambda x: layers.Concatenate()([layers.Dense(1, "exponential")(x), summed(x)[:, 1:]]),
            explosions.poisson,
            ((1, None), (1, "softplus")),
        ),
        (Summed(), explosions.poisson, "softplus"),
        (lambda x: ops.exp(layers.Dense(2)(x)), explosions.poisson, None),
        (lambda x: ops.softmax(layers.Dense(2)(x)), explosions.poisson, None),
        (lambda x: ops.relu(layers.Dense(2)(x)), explosions.poisson, None),
        (summed, "mse", None),
        (summed, impossible, None),
    ],
)
def test_what_no_layer_with_an_activation_gives_is_kept_in_the_domain_behind_it(head, loss, behind):
    x, _ = explosions.table(rows=16)
    inputs, y = keras.Input((4,)), np.tile([[1.0], [0.0]], (8, 2 if loss != gaussian else 1))
    model = head if isinstance(head, keras.Model) else keras.Model(inputs, head(inputs))
    model.compile("sgd", loss)
    run = contract.run_of(model, x, y.astype("float32"))
    before = model.get_weights()
    found = needed_activations(run, NAMES)
    assert found == Needed(behind={} if behind is None else {"output": behind})
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_a_loss_of_the_class_alone_gets_a_softmax_behind_what_no_layer_gives():
    x, _ = explosions.table(rows=16)
    inputs, y = keras.Input((4,)), np.eye(2, dtype="float32")[np.arange(16) % 2]
    model = keras.Model(inputs, summed(inputs))
    model.compile("sgd", of_the_class)
    needed = needed_activations(contract.run_of(model, x, y), NAMES)
    assert needed == Needed(behind={"output": "softmax"})


def test_targets_that_are_all_alike_do_not_say_that_a_loss_does_not_look_at_them():
    model = explosions.mlp(loss=binary, outputs=2)
    x, _ = explosions.table(rows=16)
    run = contract.run_of(model, x, np.ones((16, 2), "float32"))
    assert needed_activations(run, NAMES) == Needed({"dense[2]": "sigmoid"})


def test_of_several_outputs_the_sum_of_which_the_loss_fails():
    x, y = explosions.table(rows=16)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [layers.Dense(1, name="mean")(inputs), summed(inputs)])
    model.compile("sgd", ["mse", explosions.poisson])
    run = contract.run_of(model, x, [y, np.ones((16, 2), "float32")])
    assert needed_activations(run, NAMES) == Needed(behind={run.ends[1]: "softplus"})


def test_an_output_that_is_known_by_name_can_be_kept_in_its_domain():
    x, _ = explosions.table(rows=16)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, {"rate": summed(inputs)})
    model.compile("sgd", {"rate": explosions.poisson})
    run = contract.run_of(model, x, {"rate": np.ones((16, 2), "float32")})
    assert needed_activations(run, NAMES) == Needed(behind={"output": "softplus"})
