"""Whose a line of code is."""

import keras
import numpy as np
import tensorflow as tf

from nanfix import frames


def test_libraries_are_not_the_users_own_wherever_they_are_installed(monkeypatch):
    monkeypatch.setattr(frames, "_LIBRARIES", ())  # as if installed by `pip install --target`, outside site-packages
    assert not any(frames.is_users(module.__file__) for module in (keras, keras.layers, np, tf))
    assert frames.is_users(__file__)
