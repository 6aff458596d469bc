"""Every strategy on models that are legal and awkward: it applies or says why not, and what it
makes can be trained and saved.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops
from parameters import shortened

import nanfix
from nanfix import Outcome
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase, Place
from nanfix.remedies.fix import Edit, Fix
from nanfix.remedies.registry import catalogue
from nanfix.testing import contract

RNG = np.random.default_rng(0)
ROWS = 40


def table(*shape):
    return RNG.normal(size=(ROWS, *(shape or (4,)))).astype("float32")


def compiled(model, loss="mse"):
    model.compile(keras.optimizers.SGD(1e-3), loss)
    return model


def sequence(*stack, shape=(4,)):
    return compiled(keras.Sequential([keras.Input(shape), *stack, layers.Dense(1)]))


class Lists(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = layers.Dense(1)  # made first, called last
        self.blocks = [layers.Dense(3, "relu"), layers.Dense(3, "relu")]
        self.heads = {
            "one": layers.Dense(2),
            "two": keras.Sequential([layers.Dense(2, "relu"), layers.Dense(2)]),
        }

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return self.last(self.heads["one"](inputs) + self.heads["two"](inputs))


class WithoutCall(keras.Model):
    def __init__(self):
        super().__init__()
        self.net = keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu"), layers.Dense(1)])

    def train_step(self, data):
        x, y = data
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = ops.mean(ops.square(self.net(x) - y))
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights, strict=True)
        )
        return {"loss": loss}


def attention():
    inputs = keras.Input((5, 4))
    hidden = layers.MultiHeadAttention(2, 3)(inputs, inputs)
    return compiled(
        keras.Model(
            inputs,
            layers.Dense(1)(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(hidden))),
        )
    )


def inside():
    inputs, block = (
        keras.Input((4,)),
        keras.Sequential([keras.Input((4,)), layers.Dense(4, "relu"), layers.Dense(4)]),
    )
    middle = keras.Model(inputs, block(layers.Dense(4, "relu")(inputs)))
    outer = keras.Input((4,))
    return compiled(keras.Model(outer, layers.Dense(1)(middle(middle(outer)))))


def by_name():
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((4,), name="b")}
    hidden = layers.Dense(3, "relu")(layers.Concatenate()([inputs["a"], inputs["b"]]))
    outputs = {
        "one": layers.Dense(1, name="one")(hidden),
        "two": layers.Dense(1, "sigmoid", name="two")(hidden),
    }
    return compiled(keras.Model(inputs, outputs), {"one": "mse", "two": "binary_crossentropy"})


def embedded():
    tokens = keras.Input((6,), dtype="int32")
    hidden = layers.GlobalAveragePooling1D()(layers.Embedding(9, 4, mask_zero=True)(tokens))
    return compiled(keras.Model(tokens, layers.Dense(1, "sigmoid")(hidden)), "binary_crossentropy")


def operations():
    inputs = keras.Input((4,))
    return compiled(
        keras.Model(inputs, layers.Dense(1)(ops.log(1.0 + ops.square(layers.Dense(3)(inputs)))))
    )


def mixed():
    stack = [
        layers.Dense(3, "relu", dtype="mixed_float16"),
        layers.Dense(3, dtype="mixed_bfloat16"),
    ]
    return sequence(*stack)


MODELS = {
    "depthwise and separable": (
        lambda: sequence(
            layers.DepthwiseConv2D(3),
            layers.SeparableConv2D(4, 3),
            layers.Flatten(),
            shape=(8, 8, 3),
        ),
        (8, 8, 3),
    ),
    "transposed": (
        lambda: sequence(
            layers.Conv2DTranspose(2, 3), layers.GlobalMaxPooling2D(), shape=(4, 4, 2)
        ),
        (4, 4, 2),
    ),
    "bidirectional": (
        lambda: sequence(layers.Bidirectional(layers.LSTM(2, activation="relu")), shape=(5, 3)),
        (5, 3),
    ),
    "stacked cells": (
        lambda: sequence(layers.RNN([layers.GRUCell(2), layers.LSTMCell(3)]), shape=(5, 3)),
        (5, 3),
    ),
    "time distributed": (
        lambda: sequence(
            layers.TimeDistributed(layers.Dense(3, "relu")),
            layers.GlobalMaxPooling1D(),
            shape=(5, 3),
        ),
        (5, 3),
    ),
    "ConvLSTM2D": (
        lambda: sequence(layers.ConvLSTM2D(2, 3), layers.Flatten(), shape=(3, 5, 5, 1)),
        (3, 5, 5, 1),
    ),
    "attention": (attention, (5, 4)),
    "models inside models": (inside, (4,)),
    "lists and dicts of layers": (lambda: compiled(Lists()), (4,)),
    "no call of its own": (lambda: compiled(WithoutCall(), None), (4,)),
    "no kernel": (
        lambda: compiled(keras.Sequential([keras.Input((1,)), layers.BatchNormalization()])),
        (1,),
    ),
    "Lambda": (lambda: sequence(layers.Lambda(lambda x: x * 2.0), layers.Dense(3)), (4,)),
    "preprocessing": (
        lambda: sequence(layers.Normalization(mean=0.0, variance=4.0), layers.GaussianNoise(0.1)),
        (4,),
    ),
    "activation layers": (
        lambda: sequence(layers.Dense(3), layers.LeakyReLU(), layers.Dense(3), layers.ReLU()),
        (4,),
    ),
    "no bias at the end": (
        lambda: compiled(keras.Sequential([keras.Input((4,)), layers.Dense(1, use_bias=False)])),
        (4,),
    ),
    "operations": (operations, (4,)),
    "half precision": (mixed, (4,)),
    "outputs by name": (by_name, None),
    "tokens": (embedded, "tokens"),
}
# In `make test`: those that are like no other one.
OFTEN = (
    "depthwise and separable",
    "bidirectional",
    "attention",
    "models inside models",
    "lists and dicts of layers",
    "no call of its own",
    "no kernel",
    "Lambda",
    "activation layers",
    "operations",
    "half precision",
    "outputs by name",
    "tokens",
)


def data(shape):
    y = (np.arange(ROWS) % 2).astype("float32")[:, None]
    if shape is None:
        return {"a": table(), "b": table()}, {"one": y * 50.0, "two": y}
    return (
        (RNG.integers(0, 9, size=(ROWS, 6)), y) if shape == "tokens" else (table(*shape) * 30.0, y)
    )


@pytest.mark.parametrize("name", shortened(MODELS, OFTEN))
def test_all_that_applies_is_installed_trained_and_handed_back(name, tmp_path):
    build, shape = MODELS[name]
    model, (x, y) = build(), data(shape)
    run, plan = contract.run_of(model, x, y), Plan()
    fix, place = Fix(), Place(Phase.UPDATE)
    for strategy in catalogue().values():
        diagnosis = contract.diagnosis(
            *(strategy.treats | strategy.eases), place=place, batch_rows=1
        )
        reason = strategy.refusal(diagnosis, run, plan)
        if reason is not None:
            assert reason and isinstance(reason, str), strategy.name
            continue
        params = contract.levels(strategy, diagnosis, run, plan)[-1]
        assert all(
            value != [] and value != {}
            for key, value in params.items()
            if key in ("layers", "inputs", "fills")
        ), params
        assert strategy.explain(params).endswith(".")
        changed = Fix((Edit(strategy.name, params),)).plan(run, plan)
        assert contract.content(changed) != contract.content(plan), strategy.name
        plan, fix = changed, Fix((*fix.edits, Edit(strategy.name, params)))
    fresh = build()
    report = nanfix.fit(fresh, x, y, fix=fix, epochs=1, verbose=0, throw=False)
    assert report.outcome in (Outcome.REPAIRED, Outcome.EXHAUSTED), str(report)
    assert not getattr(report, "faults", ()), str(report)
    assert all(np.isfinite(weight).all() for weight in fresh.get_weights())
    if report.outcome is Outcome.REPAIRED and name not in ("no call of its own", "Lambda"):
        before = keras.tree.flatten(fresh.predict(x, verbose=0))
        fresh.save(tmp_path / "model.keras")
        if isinstance(fresh, Lists):
            return  # a class of a test is not registered
        after = keras.tree.flatten(
            keras.models.load_model(tmp_path / "model.keras").predict(x, verbose=0)
        )
        for old, new in zip(before, after, strict=True):
            np.testing.assert_allclose(old, new, rtol=1e-5, atol=1e-5)


def test_kernels_of_every_kind_get_the_constraint_of_their_own():
    model, _ = MODELS["depthwise and separable"][0](), None
    x, y = data((8, 8, 3))
    run = contract.run_of(model, x, y)
    strategy = catalogue()["constrain-weights"]
    params = contract.levels(strategy, contract.diagnosis(Cause.EXPLODING_GRADIENT), run)[0]
    assert params["layers"] == ["depthwise_conv2d[0]", "separable_conv2d[0]", "dense[0]"]
    nanfix.fit(model, x, y, fix=Fix((Edit(strategy.name, params),)), verbose=0)
    depthwise, separable, *_ = model.layers
    assert (
        depthwise.depthwise_constraint.max_value
        == separable.pointwise_constraint.max_value
        == params["max_norm"]
    )
