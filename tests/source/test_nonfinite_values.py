"""Which values of a user's hold non-finite numbers, and where in them."""

import ast
import weakref

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf

from nanfix.source import nonfinite_values as module
from nanfix.source._origin_memory import Memory, Origin
from nanfix.source._statements import value_of
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
    "integers": (np.arange(3), (0, 0, ())),
    "words": (np.array(["a"]), None),
    "a module": (np, None),
    "nothing": (None, None),
    "no numbers at all": (np.zeros(0), None),
}


class Raises:
    def __getattr__(self, name):
        raise RuntimeError(name)


class Lazy:
    @property
    def dtype(self):
        raise RuntimeError("loaded")


class Proxy:
    @property
    def __class__(self):  # pyright: ignore[reportIncompatibleMethodOverride]
        raise RuntimeError("bound to nothing")


class Hides:
    @property
    def __dict__(self):
        raise RuntimeError("run")


OWN_NAMES = pd.DataFrame({name: [1, 2] for name in ("columns", "items", "to_numpy", "dtype")})
HOURS = pd.Series([1.0, 2.0], pd.date_range("2024", periods=2, freq="h"))
ITSELF: list[object] = [1.0]
ITSELF.append(ITSELF)
# What has some attributes of an array and not the others, and what runs code when it is asked.
NO_NUMBERS = {
    "a point in time": pd.Timestamp("2024-01-01"),
    "a time": pd.Timedelta(1),
    "no point in time": pd.NaT,
    "numpy's": np.datetime64("NaT"),
    "nothing of pandas": pd.NA,
    "a period": pd.Period("2024-01"),
    "an interval": pd.Interval(0, 1),
    "categories": pd.Categorical([1.0, None]),
    "dates": HOURS.index,
    "an index of tuples": pd.MultiIndex.from_tuples([(1, 2)]),
    "strings": pd.array(["a", None]),
    "truths": pd.array([True, None]),
    "groups": OWN_NAMES.groupby("columns"),
    "groups of a column": OWN_NAMES.groupby("columns")["items"],
    "windows": OWN_NAMES.rolling(2),
    "hours to be summed": HOURS.resample("D"),
    "objects": np.array([None, NAN], object),
    "a record": np.zeros(1, [("a", float)]),
    "a variable of TensorFlow's": tf.Variable([NAN]),
    "words of TensorFlow's": tf.ragged.constant([["a"], []]),
    "a pipeline": tf.data.Dataset.range(3),
    "a module that loads itself": tf.keras,
    "a set": {NAN},
    "a string": "nan",
    "a generator": (number for number in (NAN,)),
    "what raises": Raises(),
    "what is computed when it is read": Lazy(),
    "what stands for another": Proxy(),
    "what stands for nothing any more": weakref.proxy(Raises()),
    "what hides what it holds": Hides(),
}
NUMBERS = {
    "a sparse column": pd.arrays.SparseArray([1.0, NAN]),
    "a table of them": pd.DataFrame({"a": pd.arrays.SparseArray([1.0, NAN])}),
    "an index": pd.Index([1.0, NAN]),
    "a single one": np.array(NAN),
    "a masked one": np.ma.array([1.0, NAN], mask=[True, False]),
    "a sparse tensor": tf.SparseTensor([[0]], [NAN], [2]),
    "a sparse array": scipy.sparse.coo_array(np.array([[0, NAN]])),
}
PARTS = ["value", "value.dtype", "value.a.b", "value[0]", "value['a']", "held[value]"]


@pytest.mark.parametrize("name", [*NO_NUMBERS, *NUMBERS])
def test_a_value_is_not_asked_for_what_it_need_not_have(name):
    value = NO_NUMBERS.get(name, NUMBERS.get(name))
    held = holes(value)
    assert (held is None) is (name in NO_NUMBERS)
    assert held is None or (held.nan, held.inf) == (1, 0)
    memory, origin = Memory(), Origin(0, None)  # pyright: ignore[reportArgumentType]
    memory.remember([("a row", value)], origin)
    assert memory.of(value) is (origin if name in NUMBERS else None)
    for part in PARTS:
        value_of(ast.parse(part, mode="eval").body, {"value": value, "held": [1.0]}, {})


def test_a_list_that_holds_itself_is_opened_a_few_times():
    assert holes(ITSELF) == holes([1.0] * module.DEPTH)


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
