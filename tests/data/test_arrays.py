"""Arrays of every kind: their rows, their numbers, and batches joined."""

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf

from nanfix.data.arrays import as_keras, flat_arrays, joined, repacked, rows_in, take_rows, unpacked

NAN = np.nan
CELLS = np.float32([[0, 2], [NAN, 0], [0, 0], [-3, 1]])
KINDS = {
    "array": CELLS,
    "frame": pd.DataFrame(CELLS),
    "tensor": tf.constant(CELLS),
    "variable": tf.Variable(CELLS),
    "sparse tensor": tf.sparse.from_dense(CELLS),
    "scipy": scipy.sparse.coo_matrix(CELLS),
    "ragged": tf.RaggedTensor.from_tensor(CELLS),
}


def cells(kept):
    if scipy.sparse.issparse(kept):
        return kept.toarray()
    if isinstance(kept, tf.SparseTensor):
        return tf.sparse.to_dense(kept).numpy()
    return kept.to_tensor().numpy() if isinstance(kept, tf.RaggedTensor) else np.asarray(kept)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "rows",
    [slice(1, 3), np.array([3, 0]), np.array([True, False, False, True])],
    ids=["slice", "rows", "mask"],
)
def test_rows_are_taken(kind, rows):
    kept = take_rows({"a": KINDS[kind], "b": None}, rows)
    np.testing.assert_array_equal(cells(kept["a"]), CELLS[rows])
    assert kept["b"] is None and rows_in(kept) == 2


@pytest.mark.parametrize("kind", ["sparse tensor", "scipy", "ragged"])
def test_rows_with_cells_of_their_own_number_are_seen_by_their_largest(kind):
    (seen,) = flat_arrays(KINDS[kind])
    np.testing.assert_array_equal(seen, [[2], [NAN], [0], [3]])


def test_nested_rows_are_seen_by_their_largest():
    (seen,) = flat_arrays(tf.ragged.constant([[[1.0, -2.0], []], [], [[3.0]]]))
    np.testing.assert_array_equal(seen, [[2], [0], [3]])


def test_what_has_no_numbers_keeps_its_place():
    seen = flat_arrays(
        {"a": np.ones((3, 2)), "b": None, "c": tf.constant(7.0), "d": tf.ones((3, 1), tf.bfloat16)}
    )
    assert [array.shape for array in seen] == [(3, 2), (3, 0), (3, 0), (3, 1)] and seen[
        3
    ].dtype == np.float32
    assert flat_arrays(None) == []


def test_keras_makes_a_column_of_a_series_and_its_own_floats():
    x, y = as_keras((pd.DataFrame({"a": [1.0, 2.0], "b": [True, False]}), pd.Series([1.0, 2.0])))
    assert x.dtype == y.dtype == np.float32 and y.shape == (2, 1)
    np.testing.assert_array_equal(x, [[1, 1], [2, 0]])
    assert as_keras(None) is None


def test_batches_of_the_commonest_shape_are_joined():
    batches = [(tf.ones((2, length, 1)), tf.fill((2,), float(length))) for length in (3, 5, 3)]
    x, y = joined([*batches, (tf.ones((0, 5, 1)), tf.ones(0))], 4096)
    assert x.shape == (4, 3, 1) and y.tolist() == [3, 3, 3, 3]
    assert len(joined(batches, 3)[1]) == 3


def test_sparse_ragged_and_scalar_leaves_are_joined():
    batch = {
        "s": tf.sparse.from_dense(CELLS),
        "r": tf.ragged.constant([[1.0], [], [2.0, 3.0], [4.0]]),
        "t": tf.constant(0.5),
    }
    whole = joined([batch, batch], 4096)
    assert whole["s"].shape == (8, 2) and whole["r"].nrows() == 8 and whole["t"] == 0.5


def test_a_batch_whose_leaves_differ_in_rows_stays_as_it_is():
    graph = {"nodes": tf.ones((5, 2)), "edges": tf.ones((8, 2))}
    assert joined([graph, graph], 4096) is graph and rows_in(graph) is None


@pytest.mark.parametrize(
    "batch", [np.ones(3), (np.ones(3),), (np.ones(3), np.ones(3)), {"x": np.ones(3)}, (1, 2, 3, 4)]
)
def test_a_batch_comes_apart_and_together_as_it_was(batch):
    again = repacked(batch, *unpacked(batch))
    assert type(again) is type(batch) and len(keras.tree.flatten(again)) == len(
        keras.tree.flatten(batch)
    )
    assert again is batch or all(one is other for one, other in zip(again, batch, strict=True))
