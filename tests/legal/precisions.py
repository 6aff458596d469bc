"""Number formats."""

import keras
from keras import layers

from legal.training import ARGUMENTS, SOUND, compiled, legal, mlp, sgd, table


def _typed(explosive, dtype, last=None):
    stack = [layers.Dense(6, "tanh", dtype=dtype), layers.Dense(1, dtype=last or dtype)]
    return compiled(keras.Sequential([keras.Input((4,)), *stack]), explosive)


@legal()
def float16(explosive):
    return _typed(explosive, "float16"), *table(), dict(ARGUMENTS)


@legal()
def bfloat16(explosive):
    return _typed(explosive, "bfloat16"), *table(), dict(ARGUMENTS)


@legal()
def float64(explosive):
    x, y = table()
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="float64"),
            *(layers.Dense(n, dtype="float64") for n in (6, 6, 6, 1)),
        ]
    )
    model.compile(keras.optimizers.SGD(1e12 if explosive else SOUND), "mse")
    return model, x.astype("float64"), y.astype("float64"), dict(ARGUMENTS)


@legal()
def float64_globally(explosive):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    x, y = table()
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6), layers.Dense(6), layers.Dense(6), layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(1e12 if explosive else SOUND), "mse")
    return model, x.astype("float64"), y.astype("float64"), dict(ARGUMENTS)


@legal()
def mixed_float16_by_name(explosive):
    return _typed(explosive, "mixed_float16", "float32"), *table(), dict(ARGUMENTS)


@legal(quick=True)
def mixed_float16_globally(explosive):
    keras.config.set_dtype_policy("mixed_float16")
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(1, dtype="float32")]
    )
    model.compile(keras.optimizers.SGD(1e20 if explosive else SOUND), "mse")
    return model, *table(), dict(ARGUMENTS)


@legal()
def mixed_bfloat16_globally(explosive):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(1)])
    return compiled(model, explosive), *table(), dict(ARGUMENTS)


@legal()
def scales_its_loss(explosive):
    model = mlp()
    model.compile(keras.optimizers.LossScaleOptimizer(sgd(explosive), initial_scale=8.0), "mse")
    return model, *table(), dict(ARGUMENTS)
