"""What Keras makes of arrays, made once for many trainings."""

import itertools

import keras
import numpy as np
import pytest

from nanfix.data import datasets
from nanfix.data.datasets import judged_again_on, trained_on
from nanfix.data.training_data import TrainingData

ROWS = np.arange(50.0, dtype="float32").reshape(-1, 1)


def data(**arguments):
    return TrainingData.of(ROWS, ROWS, {"batch_size": 8, **arguments})


def first_rows(dataset, count):
    return [float(batch[0][0, 0]) for batch in itertools.islice(dataset, count)]


class Remembering(keras.Model):
    """Keeps the first row of each batch that it is trained on."""

    seen: list[float]

    def train_step(self, data):
        self.seen.append(float(data[0][0, 0]))
        return {"loss": 0.0}


def of_keras(epochs, **arguments):
    """Return the first rows of the batches that Keras trains on."""
    model = Remembering()
    model.seen = []
    model.compile(run_eagerly=True)
    model.fit(ROWS, ROWS, epochs=epochs, batch_size=8, verbose=0, **arguments)
    return model.seen


@pytest.mark.parametrize("held", [0, 64_000_000], ids=["drawn", "held"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_the_batches_of_an_epoch_are_those_of_keras(shuffle, held, monkeypatch):
    monkeypatch.setattr(datasets, "HELD_BYTES", held)
    keras.utils.set_random_seed(1)
    fed = trained_on(data(shuffle=shuffle))
    keras.utils.set_random_seed(1)
    steps = fed.arguments["steps_per_epoch"]
    assert steps == 7
    assert first_rows(fed.x, steps) == of_keras(1, shuffle=shuffle)


def test_further_epochs_of_few_batches_are_those_of_keras_too():
    keras.utils.set_random_seed(1)
    fed = trained_on(data())
    keras.utils.set_random_seed(1)
    assert first_rows(fed.x, 3 * 7) == of_keras(3)


def test_steps_of_an_epoch_that_the_user_wants_are_kept():
    fed = trained_on(TrainingData.of(ROWS, ROWS, {"steps_per_epoch": 5}))
    assert fed.arguments["steps_per_epoch"] == 5
    assert next(iter(fed.x))[0].shape == (10, 1)


def test_each_evaluation_sees_every_row_once():
    fed = judged_again_on(data(), 8)
    batches = fed.x.take(fed.arguments["validation_steps"])
    seen = np.concatenate([np.asarray(batch[0]) for batch in batches])
    assert np.array_equal(seen, ROWS)


def test_a_stream_is_left_as_it_is():
    stream = TrainingData.of((batch for batch in [(ROWS, ROWS)]), None, {})
    assert judged_again_on(stream, 8) is stream
