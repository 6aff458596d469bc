"""The rules of a `RowFilter`, which rows it keeps, what labels it makes and how it scales: of
numpy arrays, and of tensors in a graph.

A rule is written once, in `_checks`. What numpy and TensorFlow compute it with stands in two
classes, one under the other, both as wide as training computes: a row of an array and the same row
of a dataset are kept or left out alike. TensorFlow is loaded by what is called, not with the
module, which strategies import.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from nanfix.changes.maps import Affine
from nanfix.changes.rows import RowFilter

if TYPE_CHECKING:
    import tensorflow as tf

    from nanfix.data.arrays import Leaf
    from nanfix.model.training_step import Batch


def keep(
    rows: RowFilter,
    inputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    weights: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Return for each row whether it is kept. Shapes: arrays (rows, ...); labels as the
    user has them.
    """
    kept = np.ones(len([*inputs, *targets][0]), bool)
    for check in _checks(rows, _Arrays, inputs, targets, weights):
        kept &= check.reshape(len(check), -1).all(axis=1)
    return kept


def keep_tensors(rows: RowFilter, batch: "Batch") -> "tf.Tensor":
    """Return for each row of a batch of tensors, as a dataset gives it, whether it is
    kept, in a graph.
    """
    import tensorflow as tf
    from keras import tree

    from nanfix.data.arrays import unpacked

    x, y, weights = (tree.flatten(part) if part is not None else [] for part in unpacked(batch))
    kept = tf.ones([rows_of(batch)], tf.bool)
    for check in _checks(rows, _Tensors, x, y, weights):
        kept &= tf.reduce_all(check, axis=tf.range(1, tf.rank(check)))
    return kept


def relabeled(rows: RowFilter, y: Any) -> Any:
    """Return arrays of labels as the loss takes them: class indices counted from 0, or
    shares between 0 and 1.
    """
    from keras import tree

    if hasattr(y, "iloc"):
        return _relabeled(rows, _Arrays, y)
    return tree.map_structure(lambda leaf: _relabeled(rows, _Arrays, np.asarray(leaf)), y)


def relabeled_tensors(rows: RowFilter, y: Any) -> Any:
    """Return tensors of labels as the loss takes them, in a graph."""
    from keras import tree

    return tree.map_structure(lambda leaf: _relabeled(rows, _Tensors, leaf), y)


def rescaled(rows: RowFilter, x: Any) -> Any:
    """Return inputs, arrays or tensors in a graph, as the rules scale them."""
    from keras import tree

    if not rows.scaled:
        return x
    leaves = tree.flatten(x)
    for index, scaling in rows.scaled:
        leaves[index] = _rescaled(scaling, leaves[index])
    return tree.pack_sequence_as(x, leaves)


def finite_in_training(array: np.ndarray) -> np.ndarray:
    """Return where the cells are finite in the width that Keras trains in: a float64 of
    1e300 is inf in float32.
    """
    return np.isfinite(_Arrays.cast(array, _width()))


def _checks(
    rows: RowFilter,
    form: Any,
    inputs: Sequence[Any],
    targets: Sequence[Any],
    weights: Sequence[Any],
) -> Iterator[Any]:
    """Yield for each rule and each array that it is for where the cells keep to it, of
    the shape of the array.
    """
    finite = (
        (inputs, rows.finite_inputs),
        (targets, rows.finite_targets),
        (weights, rows.finite_weights),
    )
    for array in (
        array for arrays, asked in finite if asked for array in arrays if form.is_floating(array)
    ):
        yield form.is_finite(form.cast(array, _width()))
    for index, band in rows.bands:
        yield _within(band, form.cast([*inputs, *targets][index], "float32"))
    if rows.shares:
        yield from (form.cast(y, "float64") >= 0 for y in targets if form.has_rows(y))
    if rows.classes is not None:
        for label in (form.cast(label, "float64") for label in targets if form.has_rows(label)):
            yield (label >= rows.first_label) & (label < rows.first_label + rows.classes)


def _width() -> str:
    """Return the name of the numbers that Keras trains with."""
    import keras

    return keras.config.floatx()


def _within(band: Affine, values: Any) -> Any:
    """Return where values lie at most `scale` away from the center. Without a division, which a
    graph may compute otherwise.
    """
    return abs(values - np.asarray(band.center, "float32")) <= np.asarray(band.scale, "float32")


def _relabeled(rows: RowFilter, form: Any, labels: Any) -> Any:
    if rows.labels is not None:
        (center,), (scale,) = rows.labels.center, rows.labels.scale
        return (form.cast(labels, "float32") - np.float32(center)) / np.float32(scale)
    return labels - form.like(rows.first_label, labels)


def _rescaled(scaling: Affine, leaf: Any) -> Any:
    import tensorflow as tf

    if tf.is_tensor(leaf):
        kind = leaf.dtype if leaf.dtype.is_floating else _width()
        center, scale = (tf.cast(each, kind) for each in (scaling.center, scaling.scale))
        return (tf.cast(leaf, kind) - center) / scale
    return scaling(leaf if hasattr(leaf, "iloc") else np.asarray(leaf))


class _Arrays:
    """What numpy computes the rules with. What has no numbers comes as an array without columns,
    which keeps to every rule.
    """

    is_finite = staticmethod(np.isfinite)

    @staticmethod
    def has_rows(array: np.ndarray) -> bool:
        return True

    @staticmethod
    def is_floating(array: np.ndarray) -> bool:
        return array.dtype.kind == "f"

    @staticmethod
    def cast(array: np.ndarray, width: str) -> np.ndarray:
        with np.errstate(over="ignore"):  # beyond the width is inf
            kind = np.dtype(ml_dtypes.bfloat16 if width == "bfloat16" else width)
            return array if getattr(array, "dtype", None) == kind else array.astype(kind)

    @staticmethod
    def like(number: int, array: np.ndarray) -> int:
        return number


class _Tensors:
    """What TensorFlow computes the rules with. A leaf may be absent, or a scalar, which belongs to
    the batch as a whole.
    """

    @staticmethod
    def is_finite(leaf: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        return tf.math.is_finite(leaf)

    @staticmethod
    def has_rows(leaf: "Leaf") -> bool:
        return not is_single(leaf)

    @staticmethod
    def is_floating(leaf: "Leaf") -> bool:
        return not is_single(leaf) and leaf.dtype.is_floating

    @staticmethod
    def cast(leaf: "Leaf", width: str) -> "tf.Tensor":
        import tensorflow as tf

        from nanfix.data.arrays import is_dense, largest

        return tf.cast(leaf if is_dense(leaf) else largest(leaf), width)

    @staticmethod
    def like(number: int, leaf: "tf.Tensor") -> "tf.Tensor":
        import tensorflow as tf

        return tf.cast(number, leaf.dtype)


def is_single(leaf: "Leaf") -> bool:
    """Say whether a leaf belongs to the batch as a whole: None, or a scalar."""
    return leaf is None or leaf.shape.rank == 0


def rows_of(batch: "Batch") -> "tf.Tensor":
    """Return the number of rows of a batch of tensors, an int64 in a graph."""
    import tensorflow as tf
    from keras import tree

    leaf = next(leaf for leaf in tree.flatten(batch) if not is_single(leaf))
    if isinstance(leaf, tf.RaggedTensor):
        return leaf.nrows()
    return (
        tf.cast(leaf.dense_shape[0], tf.int64)
        if isinstance(leaf, tf.SparseTensor)
        else tf.shape(leaf, tf.int64)[0]
    )
