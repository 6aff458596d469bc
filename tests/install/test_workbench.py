"""The workbench keeps the graphs that a search comes back to, and lets go of the others."""

import gc

import explosions
import keras
import numpy as np
import tensorflow as tf

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.data.training_data import TrainingData
from nanfix.explain.incident import Incident
from nanfix.install._installing import GRAPHS
from nanfix.install.workbench import Workbench
from nanfix.recorder.watch import Watching, watch
from nanfix.remedies.fix import Edit, Fix


def traced():
    """Return how many graphs of whole training steps are alive."""
    gc.collect()
    return sum(
        isinstance(thing, tf.Graph) and getattr(thing, "name", "") == "step_of_keras"
        for thing in gc.get_objects()
    )


def test_graphs_are_let_go_of():
    model, x, y, arguments = explosions.learning_rate()
    data = TrainingData.of(x, y, arguments)
    run = Incident(model, data, watch(model, data), Watching(), seed=0)
    bench, before = Workbench(run.run, data, run.validation, run.sites), traced()
    bench.open()
    for norm in range(1, GRAPHS + 4):  # a constraint is built into the graph
        fix = Fix((Edit("constrain-weights", {"layers": ["dense[0]"], "max_norm": float(norm)}),))
        bench.probe(fix.plan(run.run), run.recording.initial, steps=2)
    assert 1 <= traced() - before <= GRAPHS + 1
    bench.close()


def opened(model, x, y, arguments):
    """Return the recording of a training that fails, and a bench to try plans on."""
    data = TrainingData.of(x, y, arguments)
    run = Incident(model, data, watch(model, data), Watching(), seed=0)
    bench = Workbench(run.run, data, run.validation, run.sites)
    bench.open()
    return run.recording, bench


def test_plans_that_differ_in_the_optimizer_are_evaluated_by_the_same_graph():
    recording, bench = opened(*explosions.learning_rate())
    graphs = set()
    for settings, name in (({}, None), ({"global_clipnorm": 1.0}, None), ({}, "Adam")):
        settings = {"learning_rate": 1e-3, **settings}
        plan = Plan().with_change(OptimizerSettings(settings, class_name=name))
        bench.probe(plan, recording.initial, steps=3)
        graphs.add((id(bench.model.train_function), id(bench.model.test_function)))
    bench.close()
    trained, evaluated = map(set, zip(*graphs, strict=True))
    assert len(trained) == 3 and len(evaluated) == 1


class Annealed(keras.Model):
    """Its loss looks at the steps of its optimizer: it is the larger, the more were taken."""

    def __init__(self):
        super().__init__()
        self.last = keras.layers.Dense(1)

    def call(self, inputs):
        return self.last(inputs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return tf.reduce_mean((y - y_pred) ** 2) + tf.cast(self.optimizer.iterations, "float32")


def test_a_loss_of_the_users_own_looks_at_the_optimizer_that_trains():
    x, y = explosions.table(64)
    model = Annealed()
    model.compile(keras.optimizers.SGD(1e30))
    recording, bench = opened(model, x, y, {"epochs": 2, "verbose": 0})
    for name in (None, "Adam"):
        settings = OptimizerSettings({"learning_rate": 1e-3}, class_name=name)
        probe = bench.probe(Plan().with_change(settings), recording.initial, steps=40)
        assert probe.loss is not None and probe.loss > 40
    bench.close()


def test_outputs_without_targets_may_be_as_wide_as_the_batch():
    """As scores of each row beside all others are, of which a step of the user's own takes the
    softmax: what few rows show is not how wide they are.
    """

    class Towers(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.other = keras.layers.Dense(3), keras.layers.Dense(3)

        def call(self, inputs):
            return keras.ops.matmul(self.one(inputs), keras.ops.transpose(self.other(inputs)))

        def train_step(self, data):
            with tf.GradientTape() as tape:
                shares = keras.ops.softmax(self(data, training=True))
                loss = -keras.ops.mean(keras.ops.log(keras.ops.diagonal(shares)))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return {"loss": loss}

    model = Towers()
    model.compile(keras.optimizers.Adam(0.01))
    x = np.random.default_rng(0).normal(size=(48, 4)).astype("float32") * 3e3
    batches = tf.data.Dataset.from_tensor_slices(x).batch(16, drop_remainder=True)
    recording, bench = opened(model, batches, None, {"epochs": 4, "verbose": 0})
    plan = Plan().with_change(OptimizerSettings({"learning_rate": 1e-4}))
    assert bench.probe(plan, recording.initial, steps=3).steps <= 1  # its own log of 0
    bench.close()
