"""Operations of eager computations: the switch that lets functions run as plain Python."""

import threading

import tensorflow as tf

from nanfix.model.operations import functions_compiled, functions_inlined


def test_the_switch_is_back_when_blocks_of_two_threads_have_overlapped():
    entered, leave = threading.Event(), threading.Event()

    def other():
        with functions_inlined():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with functions_inlined():
        thread.start()
        entered.wait()
    assert tf.config.functions_run_eagerly()  # the other block goes on
    leave.set()
    thread.join()
    assert not tf.config.functions_run_eagerly()


def test_functions_are_compiled_inside_and_the_switch_of_the_user_stays():
    with functions_inlined():
        with functions_compiled():
            assert not tf.config.functions_run_eagerly()
        assert tf.config.functions_run_eagerly()
    assert not tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        with functions_inlined(), functions_compiled():
            assert not tf.config.functions_run_eagerly()
        assert tf.config.functions_run_eagerly()
        with functions_compiled():
            assert not tf.config.functions_run_eagerly()
        assert tf.config.functions_run_eagerly()
    finally:
        tf.config.run_functions_eagerly(False)
