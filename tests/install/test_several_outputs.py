"""Targets of several outputs that are scaled one by one, from training to a saved model."""

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from handed_back import raw
from keras import layers

from nanfix.changes.maps import TargetScaling
from nanfix.changes.plan import Plan
from nanfix.changes.scaling import Scaling
from nanfix.data.training_data import TrainingData
from nanfix.explain.description import describe
from nanfix.install.workbench import Workbench
from nanfix.model.snapshot import take
from nanfix.records.errors import InputError
from nanfix.testing import contract

X, PRICE = raw(2), TargetScaling((300.0,), (40.0,), 2)
Y = {"price": np.full((24, 1), 310.0, "float32"), "sold": np.ones((24, 1), "float32")}
LOSSES = {"price": "mse", "sold": "binary_crossentropy"}


def heads(inputs, **price):
    hidden = layers.Dense(3, "relu")(inputs)
    sold = layers.Dense(1, "sigmoid", name="sold")(hidden)
    return {"price": layers.Dense(1, name="price", **price)(hidden), "sold": sold}


def by_key():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, heads(inputs))
    model.compile("sgd", LOSSES)
    return model, Y


def listed(losses=("mse", "binary_crossentropy"), **price):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, list(heads(inputs, **price).values()))
    model.compile("sgd", losses if isinstance(losses, dict) else list(losses))
    return model, list(Y.values())


def backwards():
    """Keras flattens the targets by their keys, the model gives the outputs in its own order."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, [*reversed(heads(inputs).values())])
    model.compile("sgd", LOSSES)
    return model, Y


class Shared(keras.Model):
    """A graph of a class of the user's own."""


def of_a_class():
    inputs = keras.Input((2,))
    model = Shared(inputs, heads(inputs))
    model.compile("sgd", LOSSES)
    return model, Y


def by_other_keys():
    """Keras goes by the keys, whatever the layers are called."""
    inputs = keras.Input((2,))
    hidden = layers.Dense(3, "relu")(inputs)
    outputs = {"sold": layers.Dense(1, "sigmoid")(hidden), "price": layers.Dense(1)(hidden)}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", LOSSES)
    return model, Y


class OfItsOwn(keras.Model):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.hidden, self.price = layers.Dense(3, "relu"), layers.Dense(1)
        self.sold = layers.Dense(1, "sigmoid")

    def call(self, inputs):
        hidden = self.hidden(inputs)
        return {"sold": self.sold(hidden), "price": self.price(hidden)}


def of_its_own():
    model = OfItsOwn()
    model.compile("sgd", LOSSES)
    return model, Y


MODELS = {
    "by key": by_key,
    "a list": listed,
    "a list with losses by name": lambda: listed(LOSSES),
    "another order": backwards,
    "no bias": lambda: listed(LOSSES, use_bias=False),
    "a class": of_a_class,
    "other keys": by_other_keys,
    "a call of its own": of_its_own,
}


def trained_with(model, y, targets):
    data = TrainingData.of(X, y, {"verbose": 0})
    run, sites = describe(model, data, [])
    plan = Plan().with_change(Scaling(targets=targets))
    plan.check(run)
    bench = Workbench(run, data, data.validation_part([]), sites)
    model.optimizer.build(model.trainable_variables)
    bench.open()
    bench.prepare(plan, take(model))
    return bench, plan


def price_of(outputs):
    return np.asarray(outputs["price"] if isinstance(outputs, dict) else outputs[0])


@pytest.mark.parametrize("kind", MODELS)
def test_one_output_is_scaled_and_handed_back_under_its_name(kind, tmp_path):
    model, y = MODELS[kind]()
    before = [np.asarray(each) for each in keras.tree.flatten(model(X))]
    by_layer = getattr(model, "output_names", None)
    names = sorted(y) if isinstance(model(X), dict) else by_layer
    bench, plan = trained_with(model, y, {"price": PRICE})
    scaled = [np.asarray(each) for each in keras.tree.flatten(model(X))]
    for name, old, new in zip(names, before, scaled, strict=True):
        wanted = 300.0 + 40.0 * old if name == "price" else old
        np.testing.assert_allclose(new, wanted, rtol=1e-6)
    (note, *_) = bench.hand_back(plan)
    graph = kind != "a call of its own"
    done = "undone behind output price" if graph else "targets folded into layer dense"
    assert note.startswith(f"Scaling {done}")
    bench.close()
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(
        tmp_path / "m.keras", custom_objects={each.__name__: each for each in (Shared, OfItsOwn)}
    )
    for found in (model, loaded):
        assert kind == "other keys" or getattr(found, "output_names", None) == by_layer
        for old, new in zip(scaled, keras.tree.flatten(found(X)), strict=True):
            np.testing.assert_allclose(new, old, rtol=1e-6)
        history = found.fit(X, y, verbose=0).history
        assert {"price_loss", "sold_loss"} <= {*history}


def test_the_weights_see_the_gradient_of_the_scaled_targets():
    model, y = by_key()
    kernel = model.get_layer("price").kernel

    def gradient(scale, center):
        with tf.GradientTape() as tape:
            error = (y["price"] - center) / scale - model(X)["price"]
            loss = tf.reduce_mean(error**2)
        return np.asarray(tape.gradient(loss, kernel))

    expected = gradient(40.0, 300.0)
    trained_with(model, y, {"price": PRICE})
    np.testing.assert_allclose(gradient(1.0, 0.0), expected, rtol=1e-4)


@pytest.mark.parametrize("own_call", [False, True])
def test_columns_are_scaled_each_by_itself_and_handed_back(own_call, tmp_path):
    inputs = keras.Input((2,))
    model = OneTable() if own_call else keras.Model(inputs, layers.Dense(3)(inputs))
    model.compile("sgd", "mse")
    scaling = TargetScaling((1.0, 2.0, 3.0), (10.0, 1.0, 1e4), 2)
    before, y = np.asarray(model(X)), np.ones((24, 3), "float32")
    bench, plan = trained_with(model, y, {"output": scaling})
    trained = np.asarray(model(X))
    np.testing.assert_allclose(trained, before * scaling.scale + scaling.center, rtol=1e-6)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((y - model(X)) ** 2)
    (kernel,) = [each for each in model.trainable_variables if len(each.shape) == 2]
    seen = np.asarray(tape.gradient(loss, kernel.value))
    error = 2 * (trained - y) / np.float32(scaling.scale) / y.size
    np.testing.assert_allclose(seen, X.T @ error, rtol=1e-4)
    bench.hand_back(plan)
    bench.close()
    model.save(tmp_path / "m.keras")
    known = {"OneTable": OneTable}
    for found in (model, keras.models.load_model(tmp_path / "m.keras", custom_objects=known)):
        np.testing.assert_allclose(found(X), trained, rtol=1e-5)
    other = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    other.compile("sgd", "mse")
    with pytest.raises(InputError, match=r"another output 'output'\. Expected: 3 columns"):
        trained_with(other, y[:, :2], {"output": scaling})


class OneTable(keras.Model):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.last = layers.Dense(3)

    def call(self, inputs):
        return self.last(inputs)


def test_taken_back_the_model_is_as_it_was():
    model, y = by_key()
    before = price_of(model(X))
    bench, _ = trained_with(model, y, {"price": PRICE})
    bench.close()
    np.testing.assert_array_equal(price_of(model(X)), before)
    assert [layer.name for layer in model.layers][-2:] == ["price", "sold"]


def test_one_layer_that_gives_two_outputs_takes_up_no_scaling():
    inputs, head = keras.Input((2,)), layers.Dense(1, name="price")
    model = keras.Model(inputs, [head(inputs), head(2.0 * inputs)])
    model.compile("sgd", ["mse", "mse"])
    with pytest.raises(InputError, match="has no scalable output 'price'"):
        trained_with(model, [Y["price"]] * 2, {"price": PRICE})


def test_the_strategy_scales_the_targets_that_are_far_from_unit_scale_and_no_others():
    model, x, y, _ = explosions.one_large_target_of_two()
    run = contract.run_of(model, x, y)
    from nanfix.records.cause import Cause
    from nanfix.remedies.registry import get

    diagnosis = contract.diagnosis(Cause.UNSCALED_TARGET)
    (params,) = contract.levels(get("scale-targets"), diagnosis, run)
    assert {*params["outputs"]} == {"price"}
    low, center, high = np.percentile(y["price"], [25, 50, 75])
    numbers = params["outputs"]["price"]
    assert numbers == {
        "center": [pytest.approx(center, rel=1e-5)],
        "scale": [pytest.approx(high - low, rel=1e-5)],
        "degree": 2,
    }
    words = get("scale-targets").explain(params)
    assert words.startswith(f'Train on (y["price"] - {center:.4g})')
