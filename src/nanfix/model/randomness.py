"""The random states of Python, numpy and TensorFlow, put back after what nanfix
computes for itself.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from nanfix.private.tensorflow import eager_randomness


@contextmanager
def preserved_randomness() -> Iterator[None]:
    """Put the random states of Python, numpy and eager TensorFlow back afterwards."""
    eager = eager_randomness()
    states = (
        random.getstate(),
        np.random.get_state(),
        eager.getstate() if eager is not None else None,
    )
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if eager is not None:
            eager.setstate(states[2])
