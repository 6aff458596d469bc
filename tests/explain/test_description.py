"""A run as data: what of its inputs can be scaled, and runs of which no batch was recorded."""

import data_forms
import keras
import numpy as np
import pytest
import tensorflow as tf

from nanfix.data.training_data import TrainingData
from nanfix.explain.description import describe
from nanfix.explain.recorded_batches import recorded_batches
from nanfix.recorder.recording import Recording


def setup_of(form):
    (x, *y), arguments = data_forms.FORMS[form].fit()
    data = TrainingData.of(x, y[0] if y else None, arguments)
    recorded = recorded_batches(data, Recording((), (), None))  # nothing was recorded
    return describe(data_forms.FORMS[form].compiled("sgd"), data, recorded)[0]


@pytest.mark.parametrize(
    ("form", "quantities"),
    [
        ("arrays", (True,)),
        ("extra key", (True, True, False)),
        ("left out", (True, False)),
        ("words", (False,)),
        ("sparse tensor", (False,)),
        ("ragged dataset", (False,)),
        ("padded", (True,)),
        ("bare dataset", (True,)),
        ("all in a dictionary", (True, True)),
        ("generator leaves out", (True, False)),
    ],
)
def test_what_of_the_inputs_is_a_quantity(form, quantities):
    assert setup_of(form).sample.quantities == quantities


class Parts(keras.Model):
    """Trains by a step of its own, which calls the model or only a part of it."""

    def __init__(self, by_call):
        super().__init__()
        self.part, self.by_call, self.steps = keras.layers.Dense(1), by_call, 0

    def call(self, x):
        return self.part(x)

    @tf.function
    def in_graph(self, x):
        return self(x)

    def train_step(self, data):
        x, y = data
        self.steps += 1
        with tf.GradientTape() as tape:
            made = self.in_graph(x) if self.by_call else self.part(x)
            loss = tf.reduce_mean(tf.square(y - made))
        weights = self.part.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


@pytest.mark.parametrize("by_call", [True, False])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_scaling_acts_only_where_training_calls_the_model(by_call, streamed):
    model = Parts(by_call)
    model.compile("sgd")
    x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    model.in_graph(tf.constant(x))
    given = (tf.data.Dataset.from_tensors((x, y)), None) if streamed else (x, y)
    sample = describe(model, TrainingData.of(*given, {}), [(x, y)] if streamed else [])[0].sample
    assert sample.quantities == (True,)  # their scale is looked at all the same
    assert sample.scalable == (by_call,)
    assert sample.passed_by is not by_call and model.steps == 0


def test_features_that_differ_between_batches_are_not_scaled():
    def lengths(count):
        return tf.ones((4, count)), tf.ones((4, 1))

    inputs = keras.Input((None,))
    model = keras.Model(inputs, keras.ops.sum(inputs, axis=1, keepdims=True))
    model.compile("sgd", "mse")
    data = TrainingData.of(tf.data.Dataset.from_tensors(lengths(2)), None, {})
    sample = describe(model, data, [lengths(2), lengths(3)])[0].sample
    assert sample.scalable == sample.imputable == (False,) and np.shape(sample.inputs[0]) == (4, 2)


def test_a_model_that_takes_all_rows_at_once_is_looked_at_with_all():
    """A graph is given as its nodes and a matrix that has a column for each of them."""
    nodes, matrix = keras.Input((3,)), keras.Input((6,))
    neighbours = keras.ops.matmul(matrix, keras.layers.Dense(2)(nodes))
    model = keras.Model([nodes, matrix], keras.layers.Dense(1)(neighbours))
    model.compile("sgd", "mse")
    x = [np.ones((6, 3), "float32"), np.eye(6, dtype="float32")]
    data = TrainingData.of(x, np.ones((6, 1)), {"batch_size": 6})
    run, sites = describe(model, data, [])
    assert run.sample.rows_at_once == 6 and run.sample.unfilterable
    assert sites.outputs[0].blocked is None and sites.outer is not None


def test_a_model_that_takes_any_number_of_rows_has_none_at_once():
    assert setup_of("arrays").sample.rows_at_once is None
