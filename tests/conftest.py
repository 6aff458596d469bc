"""Settings every test shares: a quiet TensorFlow on the CPU, and the same random numbers each time."""

import os

# Before anything imports TensorFlow, which reads both when it is loaded.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import pytest


@pytest.fixture(autouse=True)
def seed():
    """Seed Python, numpy and TensorFlow; imported here, so that collecting tests loads no TensorFlow."""
    import keras

    keras.utils.set_random_seed(0)
