"""Models of every structure with a plan installed, as a repair hands them back."""

import keras
import numpy as np
from keras import layers, ops

from nanfix.changes.maps import Affine, TargetScaling
from nanfix.changes.plan import Plan
from nanfix.changes.scaling import Scaling
from nanfix.data.training_data import TrainingData
from nanfix.explain.description import describe
from nanfix.install.workbench import Workbench
from nanfix.model.snapshot import take

TARGETS = {"output": TargetScaling((300.0,), (40.0,), 2)}


def affine(width, factor=1.0):
    return Affine(
        tuple(factor * 10.0 * (i + 1) for i in range(width)),
        tuple(factor * (i + 2.0) for i in range(width)),
    )


def raw(*shape, factor=1.0, seed=0):
    scaling = affine(shape[-1], factor)
    x = np.random.default_rng(seed).normal(size=(24, *shape))
    return (x * np.float32(scaling.scale) + np.float32(scaling.center)).astype("float32")


def on_the_bench(model, x, targets=None, *changes, **scalings):
    """Return a workbench of the compiled model, with a plan of these scalings prepared;
    and what it predicts then.

    With `changes`, the plan holds these alone.
    """
    model(x)
    y = np.zeros((24, 1), "float32")
    data = TrainingData.of(x, y, {"verbose": 0})
    run, sites = describe(model, data, [])
    model.optimizer.build(model.trainable_variables)
    inputs = scalings or {
        name: affine(a.shape[-1]) for name, a in run.sample.named(run.sample.scalable).items()
    }
    plan = Plan()
    for change in changes or [Scaling(inputs=inputs, targets=targets or {})]:
        plan = plan.with_change(change)
    plan.check(run)
    bench = Workbench(run, data, data.validation_part([]), sites)
    bench.open()
    bench.prepare(plan, take(model))
    return bench, plan, np.asarray(model(x))


def compiled(model):
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    return model


def listed():
    """Built from a list whose order is not that of the sorted names."""
    wide, deep = keras.Input((2,), name="wide"), keras.Input((2,), name="deep")
    both = layers.Concatenate()([layers.Dense(3, "relu")(wide), layers.Dense(3, "relu")(deep)])
    return compiled(keras.Model([wide, deep], layers.Dense(1)(both)))


class Siamese(keras.Model):
    def __init__(self):
        super().__init__()
        self.shared, self.last = layers.Dense(3, "relu"), layers.Dense(1)

    def call(self, inputs):
        return self.last(
            ops.concatenate([self.shared(inputs["a"]), self.shared(inputs["b"])], axis=-1)
        )


def two_towers():
    a, b, shared = keras.Input((2,), name="a"), keras.Input((2,), name="b"), layers.Dense(3, "relu")
    return compiled(
        keras.Model([a, b], layers.Dense(1)(layers.Concatenate()([shared(a), shared(b)])))
    )


def inside():
    """Its first layers are a model of their own."""
    inputs = keras.Input((2,))
    block = keras.Sequential([keras.Input((2,)), layers.Dense(3, "relu")], name="encoder")
    return compiled(keras.Model(inputs, layers.Dense(1)(block(inputs))))


def own_step():
    class Model(keras.Model):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.spare, self.seen = layers.Dense(1), keras.metrics.Mean(name="seen")

        def train_step(self, data):
            self.seen.update_state(1.0)
            return {**super().train_step(data), "seen": self.seen.result()}

    inputs = keras.Input((2,))
    return compiled(Model(inputs, layers.Dense(1)(layers.Dense(3, "relu")(inputs))))


def plain():
    return compiled(keras.Sequential([keras.Input((2,)), layers.Dense(3, "relu"), layers.Dense(1)]))


def by_dict():
    return {"wide": raw(2), "deep": raw(2, factor=100.0, seed=1)}


CASES = {
    "sequential": (plain, lambda: raw(2), {"input[0]": affine(2)}),
    "a list fed a dict": (listed, by_dict, {"wide": affine(2), "deep": affine(2, 100.0)}),
    "a dict with a key too many": (
        listed,
        lambda: {**by_dict(), "another": raw(2)},
        {"wide": affine(2), "deep": affine(2, 100.0)},
    ),
    "one layer for two inputs": (
        two_towers,
        lambda: [raw(2), raw(2, factor=100.0, seed=1)],
        {"a": affine(2), "b": affine(2, 100.0)},
    ),
    "a model inside": (inside, lambda: raw(2), {"input[0]": affine(2)}),
    "a step of its own": (own_step, lambda: raw(2), {"input[0]": affine(2)}),
    "narrower than Normalization can tell": (
        plain,
        lambda: raw(2, factor=1e-9),
        {"input[0]": affine(2, 1e-9)},
    ),
    "a subclass": (
        lambda: compiled(structures_subclass()),
        lambda: raw(2),
        {"input[0]": affine(2)},
    ),
}


def structures_subclass(before=lambda inputs: inputs, **options):
    """Return a model whose own `call` computes something of its inputs before."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__(dtype=options.pop("dtype", None))
            self.first = layers.Dense(3, "relu", dtype=self.dtype_policy)
            self.last = layers.Dense(1, **options)

        def call(self, inputs):
            return self.last(self.first(before(inputs)))

    return Own()


ONE = {"input[0]": affine(2)}
# What folds into no layer of a model that takes up none.
AROUND_CALL = {
    "one layer for two inputs": (
        lambda: compiled(Siamese()),
        lambda: {"a": raw(2), "b": raw(2, factor=100.0, seed=1)},
        {"a": affine(2), "b": affine(2, 100.0)},
    ),
    "without its holes": (
        lambda: compiled(structures_subclass(ops.nan_to_num)),
        lambda: raw(2),
        ONE,
    ),
    "one column of two": (
        lambda: compiled(structures_subclass(lambda inputs: inputs[:, 1:])),
        lambda: raw(2),
        ONE,
    ),
    "in half precision": (
        lambda: compiled(structures_subclass(dtype="mixed_float16")),
        lambda: raw(2),
        ONE,
    ),
    "a last layer without a bias": (
        lambda: compiled(structures_subclass(use_bias=False)),
        lambda: raw(2),
        ONE,
    ),
}
