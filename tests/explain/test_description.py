"""A run as data: what of its inputs can be scaled, and runs of which no batch was recorded."""

import data_forms
import keras
import numpy as np
import pytest
import tensorflow as tf

from nanfix.data.training_data import TrainingData
from nanfix.explain.description import describe, recorded_batches
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
    assert sites.output.blocked is None and sites.outer is not None


def test_a_model_that_takes_any_number_of_rows_has_none_at_once():
    assert setup_of("arrays").sample.rows_at_once is None
