"""The user's data: checked, sampled, held back, and fed again after a rollback."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from nanfix.data.streams import Rewindable, feed
from nanfix.data.training_data import SAMPLE_ROWS, TrainingData
from nanfix.records.errors import InputError


def batches(count):
    yield from (
        (np.full((2, 1), i, "float32"), np.full((2, 1), -i, "float32")) for i in range(count)
    )


def test_rewound_generator_yields_the_same_batches_again_then_goes_on():
    source = Rewindable(batches(6))
    drawn = source.feed()
    first = [next(drawn)[0][0, 0] for _ in range(4)]
    source.rewind(2)
    assert first == [0, 1, 2, 3]
    assert [x[0, 0] for x, _ in source.feed()] == [2, 3, 4, 5]
    assert source.position == 6


def test_rewindable_forgets_the_oldest_beyond_its_memory():
    source = Rewindable(batches(6), memory_bytes=3 * 16)  # three batches of 2 * 2 float32
    list(source.feed())
    source.rewind(0)
    assert [x[0, 0] for x, _ in source.feed()] == [3, 4, 5]


def test_validation_split_is_the_one_of_keras():
    x, y = np.arange(10.0)[:, None], np.arange(10.0)
    data = TrainingData.of(x, y, {"validation_split": 0.25})
    assert len(data.training_part().x) == 7
    np.testing.assert_array_equal(data.validation_part([]).x[:, 0], [7, 8, 9])


def test_frames_are_held_back_by_row():
    x = pd.DataFrame({"a": range(10), "b": range(10)})
    data = TrainingData.of(x, pd.Series(range(10)), {"validation_split": 0.5})
    assert list(data.validation_part([]).x["a"]) == [5, 6, 7, 8, 9]
    assert len(data.rows([]).x) == 5


def test_sample_is_bounded_and_covers_all_rows():
    x = np.arange(3.0 * SAMPLE_ROWS)[:, None]
    sample = TrainingData.of(x, x, {}).rows([]).x[:, 0]
    assert len(sample) == SAMPLE_ROWS and sample[0] == 0 and sample[-1] == len(x) - 1


def test_stream_is_sampled_from_recorded_batches():
    recorded = [
        (tf.constant([[1.0], [2.0]]), tf.constant([[3.0], [4.0]])),
        (tf.constant([[5.0]]), tf.constant([[6.0]])),
    ]
    data = TrainingData.of(
        tf.data.Dataset.from_tensor_slices(([[1.0]], [[2.0]])).batch(1), None, {}
    )
    held = data.validation_part(recorded)
    np.testing.assert_array_equal(held.x[:, 0], [1, 2, 5])
    np.testing.assert_array_equal(held.y[:, 0], [3, 4, 6])


@pytest.mark.parametrize(
    ("x", "arguments", "steps"),
    [
        (np.zeros((10, 1)), {"batch_size": 4}, 3),
        (np.zeros((33, 1)), {}, 2),
        (np.zeros((10, 1)), {"steps_per_epoch": 7}, 7),
        (tf.data.Dataset.range(5), {}, 5),
    ],
)
def test_steps_of_an_epoch(x, arguments, steps):
    assert TrainingData.of(x, None, arguments).steps_per_epoch() == steps


def test_generator_is_fed_as_a_generator():
    data = TrainingData.of(batches(1), None, {})
    assert data.one_shot
    assert next(feed(data.x))[0].shape == (2, 1)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((3, 1)), np.zeros(2), "different numbers of rows"),
        (np.zeros((0, 1)), np.zeros(0), "empty"),
        (np.array([["a"]], dtype=object), np.zeros(1), "object dtype"),
        (pd.DataFrame({"a": ["x"]}, dtype=object), np.zeros(1), "object dtype"),
        ({"a": np.zeros((3, 1)), "b": np.zeros((2, 1))}, np.zeros(3), "different numbers of rows"),
    ],
)
def test_bad_data_are_refused(x, y, words):
    with pytest.raises(InputError, match=words):
        TrainingData.of(x, y, {})


def test_dictionary_inputs_keep_their_names():
    x = {"a": np.zeros((4, 1)), "b": np.ones((4, 2))}
    rows = TrainingData.of(x, np.zeros(4), {}).rows([])
    assert keras.tree.map_structure(np.shape, rows.x) == {"a": (4, 1), "b": (4, 2)}
