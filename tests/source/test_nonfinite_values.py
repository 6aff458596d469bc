"""Which values of a user's hold non-finite numbers, and where in them."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf

from nanfix.source import nonfinite_values as module
from nanfix.source.nonfinite_values import holes

NAN, INF = float("nan"), float("inf")
FRAME = pd.DataFrame({"a": [1.0, NAN, 3.0], "b": [1, 2, 3], "c": ["x", None, "z"]})
HELD = {
    "a float": (NAN, (1, 0, ())),
    "an array": (np.array([[1, NAN], [INF, NAN]]), (2, 1, ("0", "1"))),
    "a column of it": (np.array([[1, NAN], [1, NAN]], "float32"), (2, 0, ("1",))),
    "a table": (FRAME, (1, 0, ("a",))),
    "a series": (FRAME.a, (1, 0, ())),
    "a series with holes of its own kind": (pd.array([1, None], dtype="Int64"), (1, 0, ())),
    "the same in a table": (pd.Series([1, None], dtype="Int64"), (1, 0, ())),
    "a tensor": (tf.constant([1.0, INF]), (0, 1, ())),
    "a ragged one": (tf.ragged.constant([[1.0], [NAN, 2.0]]), (1, 0, ())),
    "a sparse matrix": (scipy.sparse.csr_matrix(np.array([[0, NAN]])), (1, 0, ())),
    "a dict of lists": ({"x": [np.ones(2), np.array([NAN])]}, (1, 0, ())),
    "a list of numbers": ([1.0, INF, NAN], (1, 1, ())),
    "finite numbers": (np.ones(3), (0, 0, ())),
    "integers": (np.arange(3), None),
    "words": (np.array(["a"]), None),
    "a module": (np, None),
    "nothing": (None, None),
    "no numbers at all": (np.zeros(0), None),
}


@pytest.mark.parametrize("name", HELD)
def test_what_a_value_holds(name):
    value, told = HELD[name]
    held = holes(value)
    assert told == (None if held is None else (held.nan, held.inf, held.columns))


def test_large_arrays_are_looked_at_in_parts(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 6)
    array = np.zeros((10, 3))
    array[9, 2], array[3] = INF, NAN
    held = holes(array)
    assert (held.nan, held.inf, held.columns, held.share) == (3, 1, ("0", "1", "2"), 0.2)
