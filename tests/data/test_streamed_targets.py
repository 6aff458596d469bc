"""The targets of a validation stream, by which what has learned nothing is measured."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nanfix.data.streamed_targets import MOST_ROWS, with_targets
from nanfix.data.training_data import TrainingData

X, Y = np.zeros((50, 2), "float32"), np.arange(50.0, dtype="float32")[:, None]
WEIGHTS = np.linspace(0.5, 1.5, 50).astype("float32")


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        rows = slice(10 * index, 10 * index + 10)
        return X[rows], Y[rows], WEIGHTS[rows]


def dataset(*parts):
    return tf.data.Dataset.from_tensor_slices(parts).batch(16)


@pytest.mark.parametrize(
    "stream", [Batches(), dataset(X, Y, WEIGHTS)], ids=["pydataset", "tf.data"]
)
def test_targets_and_weights_of_all_batches(stream):
    known = with_targets(TrainingData(stream))
    np.testing.assert_array_equal(known.y, Y)
    np.testing.assert_array_equal(known.sample_weight, WEIGHTS)
    assert known.is_arrays


def test_no_more_batches_than_are_evaluated():
    known = with_targets(TrainingData(dataset(X, Y).repeat(), arguments={"validation_steps": 2}))
    np.testing.assert_array_equal(known.y, Y[:32])
    assert known.sample_weight is None


@pytest.mark.parametrize(
    "stream",
    [dataset(X, Y).repeat(), tf.data.Dataset.from_tensor_slices(X).batch(16)],
    ids=["endless", "without targets"],
)
def test_what_gives_no_targets_or_no_end_stays_as_it_is(stream):
    data = TrainingData(stream)
    assert with_targets(data) is data
    assert len(X) < MOST_ROWS


def test_arrays_stay_as_they_are():
    data = TrainingData(X, Y)
    assert with_targets(data) is data
