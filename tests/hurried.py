"""What lets a suite of tiny trainings go faster and has no part in what it tests.

In a suite that traces much and trains little TensorFlow works most of the time at what only pays
in a long training, and Keras at datasets that are the same each time.
"""

import gc
import os
import threading

import keras
import tensorflow as tf
from tensorflow.python.data.ops import structured_function
from tensorflow.python.eager import context

from nanfix.private.keras import ArrayDataAdapter


def untune():
    """Let the epochs of small data end at once: the thread that tunes a dataset wakes up only after
    0.3 s, then 0.6 s, and so on.
    """
    tuned, options = ArrayDataAdapter.get_tf_dataset, tf.data.Options()
    options.autotune.enabled = False
    ArrayDataAdapter.get_tf_dataset = lambda adapter: tuned(adapter).with_options(options)


def trace_datasets_once():
    """Let Keras trace what a dataset of arrays does once for all arrays of the same form.

    The functions depend on the number of rows, the batch size, shuffling, the seed and the form of
    what comes in, and on nothing else. The arrays themselves come in too.
    """
    built, traced = ArrayDataAdapter.get_tf_dataset, structured_function.StructuredFunctionWrapper
    once, building = {}, threading.local()

    def get_tf_dataset(adapter):
        building.how = (adapter._num_samples, adapter._batch_size, adapter._shuffle)
        try:
            return built(adapter)
        finally:
            building.how = None

    def known(function, transformation, dataset=None, **settings):
        how = getattr(building, "how", None)
        if how is None or settings.get("use_legacy_function") or not context.executing_eagerly():
            return traced(function, transformation, dataset=dataset, **settings)
        seed, spec = context.global_seed(), repr(dataset.element_spec)
        key = (how, function.__name__, transformation, spec, seed)
        if key not in once:
            once[key] = traced(function, transformation, dataset=dataset, **settings)
            once[key]._func = None  # it knows the adapter, and that the arrays
        return once[key]

    ArrayDataAdapter.get_tf_dataset = get_tf_dataset
    structured_function.StructuredFunctionWrapper = known


def rewrite_no_graphs():
    """Let TensorFlow run graphs as they were traced: it rewrites each of them first otherwise."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def wait_for_no_disk():
    """Let files be written without waiting until they are on disk: a search writes some 50, and no
    test is there when a machine loses its power.
    """
    os.fsync = lambda number: None


def freeze():
    """Let the collector of garbage pass over what TensorFlow and Keras have made by being loaded: a
    million objects that stay, looked through again and again while graphs are traced. And let it
    look seldom: what tests leave behind is small.
    """
    assert keras and tf
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 20, 100)
