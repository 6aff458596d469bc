"""Data that come in batches: rewound while they are drawn, drawn ahead, kept."""

import threading
import time

import data_forms
import numpy as np
import pytest
import tensorflow as tf

from nanfix.data.streams import Rewindable, dataset_of, drawn, first_batches, steps_of
from nanfix.data.training_data import TrainingData


def numbers(count, seconds=0.0):
    for index in range(count):
        time.sleep(seconds)
        yield (np.full((2, 1), index, "float32"), np.zeros((2, 1), "float32"))


def seen(batches):
    return [int(batch[0][0, 0]) for batch in batches]


def test_a_batch_being_made_while_rewound_comes_again():
    source = Rewindable(numbers(6, seconds=0.05))
    thread = threading.Thread(target=lambda feed: list(feed), args=[source.feed()])
    thread.start()
    time.sleep(0.12)  # amid the third batch
    source.rewind(0)
    thread.join()
    assert seen(source.feed()) == [0, 1, 2, 3, 4, 5]


def test_an_older_feed_ends_when_there_is_a_newer_one():
    source = Rewindable(numbers(4))
    old = source.feed()
    next(old)
    assert seen(source.feed()) == [1, 2, 3] and list(old) == []


def test_rewinding_ahead_of_what_was_drawn_changes_nothing_until_the_end():
    source = Rewindable(numbers(3))
    next(source.feed())
    source.rewind(5)
    assert source.position == 1 and seen(source.feed()) == [1, 2]
    source.rewind(5)  # it has ended: the batches come again
    assert seen(source.feed()) == [0, 1, 2]


def test_batches_of_differing_shapes_are_given_again_and_again():
    batches = [(tf.ones((2, n)), None, tf.ones(2)) for n in (1, 2, 3, 4, 5)]
    dataset = dataset_of(batches)
    for _ in range(2):
        assert [x.shape[1] for x, _, _ in dataset] == [1, 2, 3, 4, 5]
    assert int(dataset.cardinality()) == 5 and steps_of(dataset) == 5


STREAMS = [
    "dataset",
    "generator",
    "endless",
    "generator leaves out",
    "batches",
    "batches by workers",
    "torch",
    "scalar",
]


@pytest.mark.parametrize("form", STREAMS)
def test_first_batches_are_those_of_the_training_step(form, monkeypatch):
    if form == "torch":
        data_forms.with_torch(monkeypatch)
    (x,), arguments = data_forms.FORMS[form].fit()
    data = TrainingData.of(x, None, arguments)
    for _ in range(2):  # a generator gives them again
        first = first_batches(data.x, 2)[0]
        leaves = [leaf for leaf in tf.nest.flatten(first) if leaf is not None]
        assert len(leaves) >= 2 and all(tf.is_tensor(leaf) for leaf in leaves)
        assert not any(isinstance(leaf, tf.experimental.Optional) for leaf in leaves)


def test_a_validation_generator_is_drawn_once_and_still_whole_for_the_training():
    held = data_forms.generator(True)
    data = TrainingData.of(
        data_forms.X, data_forms.Y, {"validation_data": held, "validation_steps": 5}
    )
    judged = data.validation_part([])
    twice = [[y.numpy() for _, y in judged.x] for _ in range(2)]
    assert len(twice[0]) == 5 and "validation_steps" not in judged.arguments
    np.testing.assert_array_equal(twice[0], twice[1])
    fed = data.fit_arguments()["validation_data"]
    np.testing.assert_array_equal(next(fed)[0], data_forms.X[: data_forms.BATCH])


def test_as_much_of_a_generator_is_judged_on_as_a_sample_has():
    assert seen(drawn(Rewindable(numbers(9)), None, most_rows=5)) == [0, 1, 2]
    assert seen(drawn(Rewindable(numbers(9)), 4)) == [0, 1, 2, 3]
