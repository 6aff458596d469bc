"""Arrays in every form that Keras takes: count their rows, take some, look at their
numbers, join batches.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from keras import tree
from scipy.sparse import issparse

from nanfix.private.keras import (
    TensorflowSparseWrapper,
    can_convert_arrays,
    convert_to_sliceable,
    slice_tensorflow_sparse_wrapper,
    to_tensorflow_sparse_wrapper,
)

if TYPE_CHECKING:
    from nanfix.model.training_step import Batch

# Of what Keras takes: an array of numpy, pandas or scipy, a tensor of any kind, or None.
Leaf = Any
NUMERIC = "fiu"  # kinds of numpy types whose numbers mean a quantity
PARTS = 3  # x, y and sample weights


def are_arrays(*parts: Any) -> bool:
    """Say whether Keras takes these parts for arrays held in memory, rather than for a
    stream of batches.
    """
    return can_convert_arrays(parts) and any(leaf is not None for leaf in tree.flatten(parts))


def rows_in(part: Any) -> int | None:
    """Return the number of rows of a structure of arrays; None where it has none, or
    its leaves differ.
    """
    lengths = {length for length in map(length_of, tree.flatten(part)) if length is not None}
    return lengths.pop() if len(lengths) == 1 else None


def length_of(leaf: Leaf) -> int | None:
    """Return the rows of one array; None of None, of a scalar, and of what has no shape."""
    shape: Any = getattr(leaf, "shape", None)
    if shape is None or (isinstance(shape, tf.TensorShape) and shape.rank is None):
        return None
    return int(shape[0]) if len(shape) else None  # pyright: ignore[reportArgumentType]


def is_sparse(leaf: object) -> bool:
    return isinstance(leaf, tf.SparseTensor) or issparse(leaf)


def is_dense(leaf: object) -> bool:
    """Say whether an array has a value in every cell: it is neither sparse, nor ragged,
    nor absent.
    """
    return leaf is not None and not is_sparse(leaf) and not isinstance(leaf, tf.RaggedTensor)


def holds_numbers(leaf: Leaf) -> bool:
    """Say whether a tensor has a number in every cell, and not a truth value or a text."""
    return is_dense(leaf) and (leaf.dtype.is_floating or leaf.dtype.is_integer)


def take_rows(part: Any, rows: slice | np.ndarray | list[int]) -> Any:
    """Return the given rows of a structure of arrays: a slice, indices, or a mask. None
    and scalars stay as they are.
    """
    return tree.map_structure(lambda leaf: _taken(leaf, rows), part)


def _taken(leaf: Leaf, rows: slice | np.ndarray | list[int]) -> Leaf:
    count = length_of(leaf)
    if count is None:
        return leaf
    if hasattr(leaf, "iloc"):
        return leaf.iloc[rows]
    if issparse(leaf):
        return leaf.tocsr()[rows]
    if tf.is_tensor(leaf) or isinstance(leaf, tf.Variable):
        return gathered(leaf, np.arange(count)[rows])
    return np.asarray(leaf)[rows]


def gathered(leaf: Leaf, indices: np.ndarray | tf.Tensor) -> Leaf:
    """Return rows of a tensor of any kind, also in a graph."""
    if isinstance(leaf, tf.SparseTensor):
        return slice_tensorflow_sparse_wrapper(
            to_tensorflow_sparse_wrapper(leaf), tf.convert_to_tensor(indices)
        )
    return tf.gather(leaf, indices)


def as_keras(part: Any) -> Any:
    """Return what Keras makes of arrays before it cuts them into batches: floats of its own width,
    a Series as a column.

    Numbers come as numpy arrays, strings, ragged and sparse ones as tensors.

    Raises:
        ValueError, TypeError: Keras takes no such data.
    """
    # Of a float64 beyond float32, of which Keras warns when it trains.
    with np.errstate(over="ignore"):
        converted = convert_to_sliceable(part, target_backend="tensorflow")
    plain = tree.traverse(
        lambda leaf: leaf.sparse if isinstance(leaf, TensorflowSparseWrapper) else None, converted
    )
    return tree.map_structure(_plain, tree.lists_to_tuples(plain))


def _plain(leaf: Leaf) -> Leaf:
    if leaf is None or not is_dense(leaf):
        return leaf
    array = np.asarray(leaf)
    return tf.convert_to_tensor(leaf) if array.dtype.kind in "OSU" else array


def flat_arrays(part: Any) -> list[np.ndarray]:
    """Return a numpy array for every leaf of a structure, in the order Keras flattens
    it, to look at its numbers.

    Ragged and sparse arrays of numbers are seen by the largest magnitude of each row, shape (rows,
    1), NaN where a cell is not finite. What has no numbers, a leaf that is None or a scalar, has no
    columns: shape (rows, 0).
    """
    if part is None:
        return []
    rows = rows_in(part) or 0
    return [_numbers(leaf, rows) for leaf in tree.flatten(part)]


def _numbers(leaf: Leaf, rows: int) -> np.ndarray:
    if length_of(leaf) is None:
        return np.zeros((rows, 0), bool)
    if hasattr(leaf, "iloc"):
        return np.asarray(as_keras(leaf))
    if issparse(leaf):
        cells = leaf.tocoo()
        leaf = tf.SparseTensor(np.stack([cells.row, cells.col], axis=1), cells.data, cells.shape)
    if not is_dense(leaf):
        numeric = leaf.dtype.is_floating or leaf.dtype.is_integer
        return np.asarray(largest(leaf)) if numeric else np.zeros((rows, 0), bool)
    array = np.asarray(leaf)
    # bfloat16, which numpy knows nothing of.
    return array.astype("float32") if array.dtype.kind == "V" else array


def largest(leaf: tf.SparseTensor | tf.RaggedTensor) -> tf.Tensor:
    """Return the largest magnitude in each row of a ragged or sparse tensor, shape (rows, 1); NaN
    where a cell is not finite.
    """
    if isinstance(leaf, tf.SparseTensor):
        rows, owners, values = leaf.dense_shape[0], leaf.indices[:, 0], leaf.values
    else:
        rows, owners, values = leaf.nrows(), leaf.value_rowids(), leaf.values
        while isinstance(values, tf.RaggedTensor):
            owners, values = tf.gather(owners, values.value_rowids()), values.values
    values = tf.abs(tf.cast(values, tf.float32))
    finite = tf.math.is_finite(values)
    inner = tf.range(1, tf.rank(values))
    peaks = tf.reduce_max(tf.where(finite, values, 0.0), axis=inner)
    holes = tf.cast(tf.reduce_any(~finite, axis=inner), tf.float32)
    # A row without cells has a peak of 0.
    peak = tf.maximum(tf.math.unsorted_segment_max(peaks, owners, rows), 0.0)
    ruined = tf.math.unsorted_segment_max(holes, owners, rows) > 0.0
    return tf.where(ruined, float("nan"), peak)[:, None]


def unpacked(batch: "Batch") -> tuple[Any, Any, Any]:
    """Return x, y and sample weights of a batch as Keras takes them; a batch that only an own
    training step knows is all x.
    """
    if not isinstance(batch, tuple | list) or not 1 <= len(batch) <= PARTS:
        return batch, None, None
    return (*batch, *(None,) * (PARTS - len(batch)))  # pyright: ignore[reportReturnType]


def repacked(batch: "Batch", x: Any, y: Any, weight: Any) -> "Batch":
    """Return the parts in the form that `batch` has: a bare x stays bare."""
    if not isinstance(batch, tuple | list) or not 1 <= len(batch) <= PARTS:
        return x
    return (x, y, weight)[: len(batch)]


def joined(batches: "Sequence[Batch]", most_rows: int) -> "Batch":
    """Return batches as one of up to `most_rows` rows.

    Only those that have the commonest shape, apart from their rows, can stand under each other: of
    padded batches of differing lengths, those of one length. Scalars are those of the first batch.
    A batch whose leaves differ in rows, as the nodes and edges of a graph do, stays as it is.
    """
    if all(rows_in(batch) is None for batch in batches):
        return batches[0]
    filled = [batch for batch in batches if rows_in(batch)] or list(batches)
    shapes = [_shape(batch) for batch in filled]
    rows = Counter[Any]()
    for batch, shape in zip(filled, shapes, strict=True):
        rows[shape] += max(rows_in(batch) or 0, 1)
    (commonest, _), *_ = rows.most_common(1)
    alike: list[Batch] = []
    for batch, shape in zip(filled, shapes, strict=True):
        if shape == commonest and sum(rows_in(one) or 0 for one in alike) < most_rows:
            alike.append(batch)
    return take_rows(
        tree.map_structure(lambda *leaves: _stacked(leaves), *alike), slice(0, most_rows)
    )


def last_axes(batches: "Iterable[Batch]") -> list[set[int | None]]:
    """Return for each leaf of batches the lengths that its last axis has; of a ragged one, None."""
    leaves = zip(*(tree.flatten(batch) for batch in batches), strict=True)
    return [
        {tuple(leaf.shape)[-1] for leaf in alike if length_of(leaf) is not None} for alike in leaves
    ]


def _shape(batch: "Batch") -> tuple[tuple[object, ...], ...]:
    """Return what of the shapes and kinds of a batch has to agree."""
    return tuple(
        (type(leaf).__name__, *tuple(getattr(leaf, "shape", ()))[1:])
        for leaf in tree.flatten(batch)
    )


def _stacked(leaves: Sequence[Leaf]) -> Leaf:
    first = leaves[0]
    if length_of(first) is None or len(leaves) == 1:
        return first
    if isinstance(first, tf.SparseTensor):
        return tf.sparse.concat(0, list(leaves))
    if isinstance(first, tf.RaggedTensor):
        return tf.concat(list(leaves), axis=0)
    return np.concatenate([np.asarray(leaf) for leaf in leaves])
