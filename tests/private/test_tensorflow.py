"""How functions run: as plain Python or as graphs, in one thread and not in the others."""

import threading
from contextlib import contextmanager

import pytest
import tensorflow as tf

from nanfix.private.tensorflow import functions_run_eagerly


@tf.function
def runs_eagerly():
    return tf.constant(tf.executing_eagerly())


@contextmanager
def switched_on():
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def test_functions_run_as_they_are_wanted_whatever_the_switch_says():
    assert not runs_eagerly()
    with functions_run_eagerly(True):
        assert runs_eagerly()
        with functions_run_eagerly(False):
            assert not runs_eagerly()
        assert runs_eagerly() and not tf.config.functions_run_eagerly()
    assert not runs_eagerly()
    with switched_on():
        with functions_run_eagerly(False):
            assert not runs_eagerly() and tf.config.functions_run_eagerly()
        assert runs_eagerly()


def test_other_threads_are_not_touched():
    entered, leave, seen = threading.Event(), threading.Event(), []

    def other():
        with functions_run_eagerly(True):
            entered.set()
            leave.wait()
            seen.append(bool(runs_eagerly()))

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait()
    assert not runs_eagerly() and not tf.config.functions_run_eagerly()
    assert list(tf.data.Dataset.range(2).map(lambda x: x + 1).as_numpy_iterator()) == [1, 2]
    leave.set()
    thread.join()
    assert seen == [True] and not runs_eagerly()


def test_the_way_is_as_before_after_an_error():
    with pytest.raises(KeyError), functions_run_eagerly(True):
        raise KeyError
    assert not runs_eagerly()


def test_what_tensorflow_compiles_for_itself_keeps_its_graph():
    with functions_run_eagerly(True):
        assert tf.vectorized_map(tf.square, tf.constant([1.0, 3.0])).numpy().tolist() == [1.0, 9.0]
    assert not tf.config.functions_run_eagerly()
