"""The rules for rows: in exact numbers, and the same of numpy arrays and of tensors."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from nanfix.changes.maps import Affine
from nanfix.changes.rows import RowFilter
from nanfix.data.arrays import flat_arrays, unpacked
from nanfix.data.row_rules import (
    finite_in_training,
    keep,
    keep_tensors,
    relabeled,
    relabeled_tensors,
)

NAN, INF = np.nan, np.inf
FINITE = RowFilter(finite_inputs=True, finite_targets=True)
X = np.float32([[0, 0], [1, NAN], [2, 2], [3, 3], [4, 4], [INF, 5], [6, 6], [7, 7]])
Y = np.float32([[0], [1], [NAN], [3], [4], [5], [6], [7]])
ROWS = 6


def test_rows_are_kept_by_inputs_targets_and_labels():
    labels = np.int32([0, 1, 2, 3, -1, 1, 1, 1])
    assert np.flatnonzero(keep(FINITE, [X], [Y])).tolist() == [0, 3, 4, 6, 7]
    assert np.flatnonzero(keep(RowFilter(finite_inputs=True), [X], [Y])).tolist() == [
        0,
        2,
        3,
        4,
        6,
        7,
    ]
    shares = np.float32([[0, 1], [-0.5, 0.5], [2, 0], [np.nan, 1]])
    assert keep(RowFilter(shares=True), [X[:4]], [shares]).tolist() == [True, False, True, False]
    assert np.flatnonzero(keep(RowFilter(classes=3), [X], [labels])).tolist() == [0, 1, 2, 5, 6, 7]
    assert np.flatnonzero(keep(RowFilter(classes=3, first_label=1), [X], [labels])).tolist() == [
        1,
        2,
        3,
        5,
        6,
        7,
    ]
    assert keep(RowFilter(), [X], [Y]).all()


def test_rows_are_kept_by_weights_and_bands():
    weights = np.float32([1, 1, 0, NAN, 1, INF, 1, 1])
    assert np.flatnonzero(keep(RowFilter(finite_weights=True), [X], [Y], [weights])).tolist() == [
        0,
        1,
        2,
        4,
        6,
        7,
    ]
    # Of the inputs and of the targets.
    bands = ((0, Affine((3.0, 3.0), (3.0, 1.0))), (1, Affine((3.0,), (3.0,))))
    assert np.flatnonzero(keep(RowFilter(bands=bands[:1]), [X], [Y])).tolist() == [2, 3, 4]
    assert np.flatnonzero(keep(RowFilter(bands=bands), [X], [Y])).tolist() == [3, 4]


def test_labels_are_counted_from_zero_or_brought_to_shares():
    shift, scale = RowFilter(first_label=1), RowFilter(labels=Affine((-1.0,), (2.0,)))
    assert relabeled(shift, np.uint8([1, 2])).dtype == np.uint8 and relabeled(
        shift, np.uint8([1, 2])
    ).tolist() == [0, 1]
    assert relabeled(scale, np.int64([-1, 1])).tolist() == [0.0, 1.0]
    assert relabeled(shift, pd.Series([1, 2], index=[7, 9])).to_dict() == {7: 0, 9: 1}
    assert relabeled(scale, pd.Series([-1, 1], index=[7, 9])).to_dict() == {7: 0.0, 9: 1.0}
    assert relabeled(scale, pd.DataFrame({"a": [-1, 1]})).to_dict() == {"a": {0: 0.0, 1: 1.0}}


@pytest.mark.parametrize(
    ("width", "finite"), [("float16", [True, False, False]), ("bfloat16", [True, True, False])]
)
def test_cells_are_finite_as_wide_as_training_computes(width, finite):
    cells, before = np.float64([65504, 65520, 1e300]), keras.config.floatx()
    keras.config.set_floatx(width)
    try:
        assert finite_in_training(cells).tolist() == finite
    finally:
        keras.config.set_floatx(before)


SPECIAL = [
    NAN,
    INF,
    -INF,
    0.0,
    -0.0,
    1.0,
    -1.0,
    2.5,
    3.0,
    65504.0,
    65519.0,
    65520.0,
    3.3895e38,
    3.4e38,
    3.5e38,
    1e300,
    1e-300,
]
WIDTHS = ("float16", "bfloat16", "float32", "float64", "int32", "uint8", "bool")
KINDS = st.sampled_from(["dense", "dense", "sparse", "ragged", "absent", "scalar"])


@st.composite
def leaves(draw, shapes=((), (1,), (2,), (2, 3)), kinds=KINDS):
    """Return a tensor of any kind with ROWS rows, or what a batch may have in its place."""
    kind, width, shape = draw(kinds), draw(st.sampled_from(WIDTHS)), draw(st.sampled_from(shapes))
    if kind in ("absent", "scalar"):
        return None if kind == "absent" else tf.constant(0.5)
    values = draw(st.lists(st.sampled_from(SPECIAL), min_size=ROWS * 6, max_size=ROWS * 6))
    table = np.float64(values)[: ROWS * int(np.prod(shape))].reshape(ROWS, *shape)
    if width in ("int32", "uint8", "bool"):
        table = np.clip(np.nan_to_num(table), 0, 9)
    with np.errstate(over="ignore"):
        tensor = tf.cast(
            tf.constant(table.astype("float64" if width in ("float64", "bfloat16") else width)),
            width,
        )
    if kind == "dense" or len(shape) != 1 or width == "bool":
        return tensor
    return tf.sparse.from_dense(tensor) if kind == "sparse" else tf.RaggedTensor.from_tensor(tensor)


@st.composite
def batches(draw):
    x = {"a": draw(leaves(kinds=st.just("dense"))), "b": draw(leaves())}
    y = draw(leaves(shapes=((), (1,)), kinds=st.just("dense")))
    return x, y, draw(st.none() | leaves(shapes=((),), kinds=st.just("dense")))


@st.composite
def filters(draw, batch):
    """Return a filter with any of the rules; bands are those of arrays that have cells."""
    asked, arrays = st.booleans(), [*flat_arrays(batch[0]), *flat_arrays(batch[1])]
    bands = []
    for index, array in enumerate(arrays):
        width = array.shape[-1] if array.ndim > 1 else 1
        if array.size and array.dtype.kind == "f" and draw(asked):
            numbers = st.lists(
                st.sampled_from([0.1, 1.0, 2.0, 65504.0]), min_size=width, max_size=width
            ).map(tuple)
            bands.append((index, Affine(draw(numbers), draw(numbers))))
    return RowFilter(
        finite_inputs=draw(asked),
        finite_targets=draw(asked),
        finite_weights=draw(asked),
        classes=draw(st.none() | st.integers(1, 4)),
        first_label=draw(st.integers(0, 2)),
        bands=tuple(bands),
        shares=draw(asked),
    )


@given(st.data(), st.sampled_from(["float32", "float32", "float16", "bfloat16", "float64"]))
@settings(max_examples=60, deadline=None)
def test_arrays_and_tensors_keep_the_same_rows_and_get_the_same_labels(data, width):
    batch = data.draw(batches())
    rows = data.draw(filters(batch))
    before = keras.config.floatx()
    keras.config.set_floatx(width)
    try:
        x, y, weights = map(flat_arrays, unpacked(batch))
        expected = keep(rows, x, y, weights)
        assert keep_tensors(rows, batch).numpy().tolist() == expected.tolist()
        # Of which numpy computes neither as TensorFlow does.
        if batch[1].dtype not in (tf.bool, tf.bfloat16):
            np.testing.assert_array_equal(
                relabeled(rows, y)[0], relabeled_tensors(rows, batch[1]).numpy()
            )
    finally:
        keras.config.set_floatx(before)
