"""Trainings in every mode of Keras."""

import explosions
import keras
import numpy as np
import tensorflow as tf
from keras import layers

ROWS, BATCH = 100, 16
STEPS = 7  # of an epoch; the last is short, and executions of 3 steps do not divide it
ARGUMENTS = {"epochs": 2, "batch_size": BATCH, "verbose": 0}
SOUND = 9  # steps before an explosion, so that it falls into the second epoch


def adam():
    return keras.optimizers.Adam(0.01)


def late(rate=1e10, sound=SOUND):
    """Return an optimizer with a schedule that explodes after `sound` steps; momentum
    gives it slots.
    """
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([sound - 1], [0.01, rate])
    return keras.optimizers.SGD(schedule, momentum=0.9)


def body():
    """Return layers with every kind of state: weights, the seed of Dropout, the
    statistics of BatchNormalization.
    """
    return [
        layers.Dense(8, "relu"),
        layers.Dropout(0.3),
        layers.BatchNormalization(),
        layers.Dense(1),
    ]


class Network(keras.Model):
    """A subclass, without variables until it meets data."""

    def __init__(self):
        super().__init__()
        self.body = keras.Sequential(body())

    def call(self, inputs, training=False):
        return self.body(inputs, training=training)


class OwnStep(Network):
    """Writes its own step, and returns the loss of that step alone."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(y - self(x, training=True)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


class OwnFit(Network):
    """Does something before it trains."""

    def fit(self, x=None, y=None, **arguments):
        return super().fit(x, 2.0 * y, **arguments)


class OwnTrainFunction(Network):
    """Replaces the function that Keras draws batches with."""

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            step = tf.function(self.train_step)
            self.train_function = lambda iterator: step(next(iterator))
        return self.train_function


class Adversaries(keras.Model):
    """A generator and a discriminator with an optimizer each, and no loss called loss."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential(
            [keras.Input((2,)), layers.Dense(8, "relu"), layers.Dense(4)]
        )
        self.discriminator = keras.Sequential(
            [keras.Input((4,)), layers.Dense(8, "relu"), layers.Dropout(0.3), layers.Dense(1)]
        )
        self.noise = keras.random.SeedGenerator(3)

    def compile(self, generator_optimizer, discriminator_optimizer):
        super().compile()
        self.generator_optimizer, self.discriminator_optimizer = (
            generator_optimizer,
            discriminator_optimizer,
        )
        self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

    def train_step(self, real):
        rows = keras.ops.shape(real)[0]
        noise = keras.random.normal((rows, 2), seed=self.noise)
        ones, zeros = keras.ops.ones((rows, 1)), keras.ops.zeros((rows, 1))
        with tf.GradientTape() as tape:
            judged = (
                self.discriminator(real, training=True),
                self.discriminator(self.generator(noise), training=True),
            )
            discriminated = self.loss_fn(ones, judged[0]) + self.loss_fn(zeros, judged[1])
        self._descend(tape, discriminated, self.discriminator, self.discriminator_optimizer)
        with tf.GradientTape() as tape:
            generated = self.loss_fn(ones, self.discriminator(self.generator(noise, training=True)))
        self._descend(tape, generated, self.generator, self.generator_optimizer)
        return {"d_loss": discriminated, "g_loss": generated}

    def _descend(self, tape, loss, part, optimizer):
        variables = part.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))


def compiled(model, optimizer, **settings):
    model.compile(optimizer, "mse", **settings)
    return model, *explosions.table(ROWS), dict(ARGUMENTS)


def plain(optimizer):
    return compiled(keras.Sequential(body()), optimizer(), metrics=["mae"])


def steps_per_execution(optimizer):
    return compiled(keras.Sequential(body()), optimizer(), steps_per_execution=3)


def jit_compile(optimizer):
    return compiled(keras.Sequential(body()), optimizer(), jit_compile=True)


def run_eagerly(optimizer):
    return compiled(keras.Sequential(body()), optimizer(), run_eagerly=True)


def mixed_float16(optimizer):
    """Keras wraps the optimizer of a model of half precision in one that scales the loss."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model, x, y, arguments = compiled(
            keras.Sequential([*body(), layers.Activation("linear", dtype="float32")]), optimizer()
        )
    finally:
        keras.config.set_dtype_policy(policy)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    return model, x, 10.0 * y, arguments


def own_step(optimizer):
    return compiled(OwnStep(), optimizer())


def own_fit(optimizer):
    return compiled(OwnFit(), optimizer())


def own_train_function(optimizer):
    return compiled(OwnTrainFunction(), optimizer())


def adversaries(optimizer, generator_optimizer=adam):
    model = Adversaries()
    model.compile(generator_optimizer(), optimizer())
    return model, explosions.table(ROWS)[0], None, dict(ARGUMENTS)


def exploding_generator(optimizer):
    return adversaries(adam, optimizer)


def dataset(optimizer):
    model, x, y, arguments = plain(optimizer)
    del arguments["batch_size"]
    return (
        model,
        tf.data.Dataset.from_tensor_slices((x, y)).shuffle(ROWS, seed=2).batch(BATCH),
        None,
        arguments,
    )


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        rows = slice(BATCH * index, BATCH * (index + 1))
        return self.x[rows], self.y[rows]


def pydataset(optimizer):
    model, x, y, arguments = plain(optimizer)
    del arguments["batch_size"]
    return model, Batches(x, y), None, arguments


def generator(optimizer):
    model, x, y, arguments = plain(optimizer)
    del arguments["batch_size"]
    batches = Batches(x, y)
    endless = (batches[step % STEPS] for step in iter(iter(range(10**9)).__next__, None))
    return model, endless, None, {**arguments, "steps_per_epoch": STEPS}


def named_inputs_and_outputs(optimizer):
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    hidden = layers.Dropout(0.3)(layers.Dense(8, "relu")(layers.Concatenate()([first, second])))
    outputs = {
        "sum": layers.Dense(1, name="sum")(hidden),
        "product": layers.Dense(1, name="product")(hidden),
    }
    model = keras.Model({"first": first, "second": second}, outputs)
    model.compile(optimizer(), {"sum": "mse", "product": "mae"})
    x, y = explosions.table(ROWS)
    return model, {"first": x, "second": x**2}, {"sum": y, "product": y**2}, dict(ARGUMENTS)


def recurrent(optimizer):
    model, _, _, arguments = compiled(
        keras.Sequential([layers.LSTM(4, dropout=0.2), layers.Dense(1)]), optimizer()
    )
    x = np.random.default_rng(0).normal(size=(ROWS, 5, 3)).astype("float32")
    return model, x, x.mean(axis=(1, 2))[:, None], arguments


def callbacks(optimizer):
    """No epoch improves by 10, so that the rate falls after each and the third is the last, with
    the weights of the first.
    """
    model, x, y, arguments = plain(optimizer)
    given = [
        keras.callbacks.EarlyStopping(min_delta=10.0, patience=2, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(min_delta=10.0, patience=1),
    ]
    held = explosions.table(32, seed=1)
    return model, x, y, {**arguments, "epochs": 5, "callbacks": given, "validation_data": held}


def named(build):
    return build.__name__
