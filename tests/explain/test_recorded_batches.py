"""A stream is known by enough of its rows, however early it fails."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from nanfix.data.training_data import TrainingData
from nanfix.explain.recorded_batches import ENOUGH_ROWS, recorded_batches
from nanfix.model.training_step import Batch
from nanfix.recorder.recording import RecordedStep, Recording
from nanfix.records.diagnosis import Onset

ROWS = 32


def table(batches):
    """Column 1 is a flag that no row of the first batch has."""
    x = np.random.default_rng(0).normal(size=(batches * ROWS, 2)).astype("float32")
    x[:, 1] = np.arange(len(x)) % 50 == 49
    return x, x[:, :1]


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.count, (self.x, self.y) = batches, table(batches)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        rows = slice(index * ROWS, (index + 1) * ROWS)
        return self.x[rows], self.y[rows]


def generator(batches):
    yield from (Batches(batches)[index] for index in range(batches))


def dataset(batches):
    return tf.data.Dataset.from_tensor_slices(table(batches)).batch(ROWS)


def failed_in_the_first_step(x, batch: Batch):
    recording = Recording((), (RecordedStep(Onset(1, 1), batch),), None)
    return recorded_batches(TrainingData.of(x, None, {}), recording)


@pytest.mark.parametrize("stream", [Batches, generator, dataset])
def test_a_stream_that_fails_at_once_is_known_by_more_than_that_batch(stream):
    first = Batches(1)[0]
    found = failed_in_the_first_step(stream(40), tuple(map(tf.constant, first)))
    x = np.concatenate([np.asarray(batch[0]) for batch in found])
    assert len(x) >= ENOUGH_ROWS and np.isin(x[:, 1], (0, 1)).all() and x[:, 1].any()
    assert np.array_equal(x[:ROWS], first[0]) and len(np.unique(x, axis=0)) == len(x)


def test_a_short_stream_is_known_by_all_of_it():
    found = failed_in_the_first_step(Batches(3), tuple(map(tf.constant, Batches(3)[0])))
    assert (np.concatenate([np.asarray(batch[0]) for batch in found]) == table(3)[0]).all()


def broken(after):
    yield from (Batches(after)[index] for index in range(after))
    raise OSError("the disk is gone")


@pytest.mark.parametrize(("steps", "known"), [(None, 1), (3, 3)])
def test_a_generator_that_fails_further_on_is_known_by_what_it_gave(steps, known):
    """And gives that again, and fails again, when training comes to it."""
    first = tuple(map(tf.constant, Batches(1)[0]))
    data = TrainingData.of(broken(5), None, {"steps_per_epoch": steps})
    recording = Recording((), (RecordedStep(Onset(1, 1), first),), None)
    assert len(recorded_batches(data, recording)) == known
    given = iter(data.fit_arguments()["x"])
    assert [len(next(given)[0]) for _ in range(5)] == [ROWS] * 5
    with pytest.raises(OSError, match="the disk is gone"):
        next(given)
