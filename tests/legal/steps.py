"""Steps, fits and compiles that users write themselves."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from legal.training import ARGUMENTS, ROWS, SOUND, compiled, legal, rate, sgd, table

registered = keras.saving.register_keras_serializable("legal")


@registered
class Net(keras.Model):
    """A subclass without variables until it meets data."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.last = layers.Dense(6, "tanh"), layers.Dense(1)

    def call(self, inputs, training=False):
        return self.last(self.hidden(inputs))

    def error(self, x, y):
        return ops.mean(ops.square(y - self(x, training=True)))


@registered
class Applies(Net):
    """The step of Keras' guide: optimizer.apply."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        for metric in self.metrics:
            metric.update_state(loss) if metric.name == "loss" else metric.update_state(y, self(x))
        return {m.name: m.result() for m in self.metrics}


@legal(ends="REPAIRED", quick=True)
def step_with_apply(explosive):
    return compiled(Applies(), explosive), *table(), dict(ARGUMENTS)


@registered
class AppliesGradients(Net):
    """The step of older guides: apply_gradients, and the loss of the step alone as its log."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.error(x, y)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


@legal(ends="REPAIRED")
def step_with_apply_gradients(explosive):
    return compiled(AppliesGradients(), explosive), *table(), dict(ARGUMENTS)


@registered
class OneEntry(AppliesGradients):
    """Logs one number under a name of its own."""

    def train_step(self, data):
        return {"total_error": super().train_step(data)["loss"]}


@legal()
def step_logs_another_name(explosive):
    return compiled(OneEntry(), explosive), *table(), dict(ARGUMENTS)


@registered
class Tracked(Net):
    """Keeps its own metrics, gives its own `metrics`, tests by a step of its own; has
    no compiled loss.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.loss_tracker, self.spread = (
            keras.metrics.Mean(name="loss"),
            keras.metrics.Mean(name="spread"),
        )

    @property
    def metrics(self):
        return [self.loss_tracker, self.spread]

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.error(x, y)
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        self.loss_tracker.update_state(loss)
        self.spread.update_state(ops.std(self(x)))
        return {m.name: m.result() for m in self.metrics}

    def test_step(self, data):
        x, y = data
        self.loss_tracker.update_state(self.error(x, y))
        return {"loss": self.loss_tracker.result()}


@legal(ends="REPAIRED", quick=True)
def own_metrics_and_test_step(explosive):
    model = Tracked()
    model.compile(sgd(explosive))
    x, y = table()
    return model, x, y, {**ARGUMENTS, "validation_data": (x[:16], y[:16])}


@registered
class GraphLayer(layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 6), name="w")

    @tf.function
    def call(self, inputs):
        return ops.tanh(inputs @ self.w)


@legal(ends="REPAIRED")
def graph_layer(explosive):
    return (
        compiled(keras.Sequential([keras.Input((4,)), GraphLayer(), layers.Dense(1)]), explosive),
        *table(),
        dict(ARGUMENTS),
    )


@registered
class LogLayer(layers.Layer):
    @tf.function
    def call(self, inputs):
        return ops.log(inputs)


@legal(quick=True)
def log_in_a_graph_layer(explosive):
    x, y = table()
    x = np.abs(x) + 1.0
    if explosive:
        x[ROWS // 2 :, 1] = 0.0
    model = keras.Sequential(
        [keras.Input((4,)), LogLayer(), layers.Dense(6, "tanh"), layers.Dense(1)]
    )
    return compiled(model, False), x, y, dict(ARGUMENTS)


@registered
class GraphStep(AppliesGradients):
    train_step = tf.function(AppliesGradients.train_step)


@legal(quick=True, compiles_anew=False)  # the graph holds the optimizer that it was traced with
def graph_step(explosive):
    return compiled(GraphStep(), explosive), *table(), dict(ARGUMENTS)


@registered
class Annealed(Net):
    """Counts its steps in Python and in a plain variable, and averages its weights in others."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.weighting, self.traced = tf.Variable(0.0, trainable=False), 0

    def train_step(self, data):
        x, y = data
        self.traced += 1
        self.weighting.assign(tf.minimum(self.weighting + 0.05, 1.0))
        with tf.GradientTape() as tape:
            loss = self.error(x, y) * tf.cast(self.weighting, tf.float32)
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        return {"loss": loss, "weighting": self.weighting}


@legal()
def plain_variables_in_the_step(explosive):
    return compiled(Annealed(), explosive), *table(), dict(ARGUMENTS)


@registered
class CountedEagerly(Net):
    """Counts its steps in Python, where each counts."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.count = 0

    def train_step(self, data):
        x, y = data
        self.count += 1
        with tf.GradientTape() as tape:
            loss = self.error(x, y) * min(self.count / 4, 1.0)
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        return {"loss": loss}


@legal()
def python_counter_run_eagerly(explosive):
    return compiled(CountedEagerly(), explosive, run_eagerly=True), *table(), dict(ARGUMENTS)


@registered
class Numeric(Net):
    """Looks at its numbers in Python, which is what run_eagerly is for."""

    def call(self, inputs, training=False):
        hidden = self.hidden(inputs)
        if float(hidden.numpy().mean()) > 1e9:
            return self.last(hidden * 0.5)
        return self.last(hidden)


@legal(ends="REPAIRED", saves=False, quick=True)
def numpy_run_eagerly(explosive):
    return compiled(Numeric(), explosive, run_eagerly=True), *table(), dict(ARGUMENTS)


@registered
class OwnFit(Net):
    def fit(self, x=None, y=None, **arguments):
        return super().fit(x, 2.0 * y, **arguments)


@legal(ends="REPAIRED", quick=True)
def own_fit(explosive):
    return compiled(OwnFit(), explosive), *table(), dict(ARGUMENTS)


@registered
class CatchingFit(Net):
    """Ends well whatever happens."""

    def fit(self, *args, **kwargs):
        try:
            return super().fit(*args, **kwargs)
        except Exception:
            return self.history


@legal(
    ends="REPAIRED",
)
def own_fit_that_catches(explosive):
    return compiled(CatchingFit(), explosive), *table(), dict(ARGUMENTS)


@registered
class OwnCompile(Net):
    def compile(self, step=0.1, **settings):
        super().compile(
            optimizer=keras.optimizers.SGD(step), loss="mse", metrics=["mae"], **settings
        )


@legal(ends="REPAIRED")
def own_compile(explosive):
    model = OwnCompile()
    model.compile(step=rate(explosive))
    return model, *table(), dict(ARGUMENTS)


@registered
class OwnTrainFunction(Net):
    def make_train_function(self, force=False):
        if self.train_function is None or force:
            step = tf.function(self.train_step)
            self.train_function = lambda iterator: step(next(iterator))
        return self.train_function


@legal()
def own_train_function(explosive):
    return compiled(OwnTrainFunction(), explosive), *table(), dict(ARGUMENTS)


@registered
class Accumulating(Net):
    """Adds gradients up in plain variables and applies them every other step."""

    def build(self, shape):
        super().build(shape)
        self(tf.zeros((1, *shape[1:])))
        self.sums = [
            tf.Variable(tf.zeros(v.shape), trainable=False) for v in self.trainable_variables
        ]
        self.done = tf.Variable(0, trainable=False)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.error(x, y)
        for total, gradient in zip(
            self.sums, tape.gradient(loss, self.trainable_variables), strict=True
        ):
            total.assign_add(gradient)
        self.done.assign_add(1)
        due = tf.equal(self.done % 2, 0)
        tf.cond(due, self.use, lambda: None)
        return {"loss": loss}

    def use(self):
        self.optimizer.apply_gradients(
            zip([s / 2.0 for s in self.sums], self.trainable_variables, strict=True)
        )
        for total in self.sums:
            total.assign(tf.zeros_like(total))


@legal(evaluates=False)
def accumulates_by_hand(explosive):
    model = Accumulating()
    model.build((None, 4))
    model.compile(keras.optimizers.SGD(1e10 if explosive else SOUND))
    model.optimizer.build(model.trainable_variables)
    return model, *table(), dict(ARGUMENTS)
