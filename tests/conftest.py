"""Settings every test shares: a quiet TensorFlow on the CPU, and the same random
numbers each time.
"""

import os

# Before anything imports TensorFlow, which reads these when it is loaded.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_NUM_INTRAOP_THREADS"] = "1"  # tiny trainings have nothing to share out
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
    "test_adoption.py",
    "test_flight_recorder.py",
    "test_drop_incomplete_batch.py",
    "test_validation_repair.py",
    "test_structures.py",
    "test_verdicts.py",
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
def hurried():
    """Leave out what only costs time. `make soak`, the scripts of users and the benchmarks run with
    TensorFlow's rewriting of graphs.
    """
    import hurried

    hurried.untune()
    hurried.trace_datasets_once()
    hurried.wait_for_no_disk()
    if not os.environ.get("NANFIX_SOAK"):
        hurried.rewrite_no_graphs()
    hurried.freeze()
