"""Settings every test shares: a quiet TensorFlow on the CPU, and the same random
numbers each time.
"""

import gc
import os

# Before anything imports TensorFlow, which reads both when it is loaded.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["NANFIX_DEBUG"] = "1"  # a fault of nanfix fails the test in which it shows

import pytest

# Files that take longest. They begin, since a worker that gets one last works on while the other
# has nothing left to do.
LONGEST = (
    "test_legal.py",
    "test_fit.py",
    "test_faults.py",
    "test_users_exceptions.py",
    "test_scripts.py",
    "test_parent.py",
    "test_child.py",
    "test_modes.py",
    "test_causes.py",
    "test_generated.py",
    "test_data_forms.py",
    "test_pool.py",
    "test_composed.py",
)


def pytest_collection_modifyitems(config, items):
    """Leave the long tests to `make soak`, which sets NANFIX_SOAK; let the longest files begin."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if not os.environ.get("NANFIX_SOAK"):
        long = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(autouse=True)
def seed():
    """Seed Python, numpy and TensorFlow; imported here, so that collecting tests loads
    no TensorFlow.
    """
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture
def under_the_net(monkeypatch):
    """Let faults be caught, as they are at a user's, and let `put` break a piece of nanfix."""
    monkeypatch.setenv("NANFIX_DEBUG", "0")
    return monkeypatch.setattr


@pytest.fixture(autouse=True, scope="session")
def untuned():
    """Let the epochs of small data end at once: the thread that tunes a dataset wakes up only after
    0.3 s, then 0.6 s, and so on.

    That is a third of the time of a suite of tiny trainings, and nothing in it depends on it.
    """
    import tensorflow as tf

    from nanfix.private.keras import ArrayDataAdapter

    tuned, options = ArrayDataAdapter.get_tf_dataset, tf.data.Options()
    options.autotune.enabled = False
    ArrayDataAdapter.get_tf_dataset = lambda adapter: tuned(adapter).with_options(options)
    yield
    ArrayDataAdapter.get_tf_dataset = tuned


@pytest.fixture(autouse=True, scope="session")
def unoptimized():
    """Let TensorFlow run graphs as they were traced: that it rewrites each of them first is a
    quarter of the time of a suite that traces much and trains little. `make soak`, the scripts of
    users and the benchmarks run with its rewriting.
    """
    import tensorflow as tf

    rewriting = bool(os.environ.get("NANFIX_SOAK"))
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not rewriting})


@pytest.fixture(autouse=True, scope="session")
def frozen():
    """Let the collector of garbage pass over what TensorFlow and Keras have made by being loaded: a
    million objects that stay, looked through again and again while graphs are traced, are a fifth
    of the time.
    """
    import keras
    import tensorflow

    assert keras and tensorflow
    gc.collect()
    gc.freeze()
