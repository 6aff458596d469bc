"""Training that does not go through fit is noticed once, with its place; a fit never is."""

import inspect

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf

import nanfix
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase
from nanfix.scripts._hand_written_loops import LoopWatch

X, Y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")


@pytest.fixture
def watched(monkeypatch):
    """Listen; return the watch and the notes so far."""
    for owner, name in ((keras.optimizers.Optimizer, "apply"), (keras.Model, "train_on_batch")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back afterwards
    notes = []
    watch = LoopWatch(notes.append)
    watch.install(keras)
    return watch, notes


def model():
    built = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    built.compile("sgd", "mse")
    return built


def tape(net):
    with tf.GradientTape() as gradients:
        loss = tf.reduce_mean(tf.square(net(X) - Y))
    net.optimizer.apply_gradients(
        zip(gradients.gradient(loss, net.trainable_weights), net.trainable_weights, strict=True)
    )


def traced(net):
    tf.function(tape)(net)


def on_batch(net):
    net.train_on_batch(X, Y)


@pytest.mark.parametrize("loop", [tape, traced, on_batch], ids=lambda loop: loop.__name__)
def test_a_loop_is_noticed_once_with_its_place(watched, loop):
    _, notes = watched
    net = model()
    before = net.get_weights()[0]
    for _ in range(3):
        loop(net)
    (note,) = notes
    lines, start = inspect.getsourcelines(loop)
    place, _, words = note.partition(" ")
    assert "loop of its own" in words
    assert place.startswith("test_hand_written_loops.py:") and start < int(
        place.partition(":")[2]
    ) < start + len(lines)
    assert (net.get_weights()[0] != before).all()


def test_a_fit_is_no_loop_and_one_after_it_is(watched):
    watch, notes = watched
    net = model()
    with watch.fitting():
        net.fit(X, Y, verbose=0)
        on_batch(net)
    assert notes == []
    on_batch(net)
    assert len(notes) == 1


def test_what_is_trained_is_what_would_be_trained_without(watched):
    keras.utils.set_random_seed(0)
    listened = model()
    traced(listened)
    keras.utils.set_random_seed(0)
    plain = model()  # the loop was noticed, so that Keras' own method is back
    traced(plain)
    np.testing.assert_array_equal(listened.get_weights()[0], plain.get_weights()[0])


def test_what_listens_does_not_hide_that_an_operation_belongs_to_the_update(watched):
    watch, _ = watched
    built, x, y, arguments = explosions.adam_without_epsilon()
    with watch.fitting():
        diagnosis = nanfix.diagnose(built, x, y, **arguments)
    assert diagnosis.place.phase is Phase.UPDATE and diagnosis.cause is Cause.OPTIMIZER_CONSTANT
