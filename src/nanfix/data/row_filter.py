"""Feed training without the rows that `row_rules` leaves out, scaled and labeled as it says,
whatever form the user's data have.
"""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf
from keras import tree

from nanfix.changes.rows import RowFilter
from nanfix.data.arrays import flat_arrays, gathered, repacked, rows_in, take_rows, unpacked
from nanfix.data.row_rules import (
    is_single,
    keep,
    keep_tensors,
    relabeled,
    relabeled_tensors,
    rescaled,
    rows_of,
)
from nanfix.data.streams import Rewindable, as_dataset
from nanfix.data.training_data import TrainingData
from nanfix.model.run import Sample
from nanfix.records.errors import NothingLeftError

if TYPE_CHECKING:
    from nanfix.model.training_step import Batch

# Batches in a row without a row to keep, after which a generator counts as having none.
PATIENCE = 1000


def filtered(data: TrainingData, rows: RowFilter) -> TrainingData:
    """Return the same data, training and validation, without the rows that `rows`
    leaves out, with its labels and its scaling of the inputs.

    Arrays and frames are filtered now, a stream batch by batch as it is drawn; a batch of which no
    row is kept is skipped. A share of the rows that the user set apart for validation stays that
    share of their rows.

    Raises:
        NothingLeftError: no row is kept.
    """
    if rows == RowFilter():
        return data
    arguments = dict(data.arguments or {})
    if arguments.get("class_weight"):
        weights = {**arguments["class_weight"], **dict(rows.class_weights)}
        arguments["class_weight"] = _renumbered(weights, rows.first_label)
    if not data.is_arrays:
        validation = _validation(data.validation_data, rows)
        return replace(
            data, x=_stream(data.x, rows), validation_data=validation, arguments=arguments
        )
    part = data.training_part()
    validation = data.validation_data
    if validation is None and data.validation_split:
        last = slice(rows_in(part.x), None)
        validation = tuple(take_rows(given, last) for given in (data.x, data.y, data.sample_weight))
    x, y, weight = _full(_kept((part.x, part.y, part.sample_weight), rows), rows.batch_rows)
    return replace(
        part,
        x=x,
        y=y,
        sample_weight=weight,
        validation_data=_validation(validation, rows),
        arguments=arguments,
    )


def judged(data: TrainingData, rows: RowFilter) -> TrainingData:
    """Return data to judge on without the rows that `rows` leaves out, incomplete batches included.

    Data of which nothing is left stay as they are.
    """
    try:
        return filtered(data, replace(rows, batch_rows=None))
    except NothingLeftError:
        return data


@contextlib.contextmanager
def unknown_length(rows: RowFilter) -> Iterator[None]:
    """Keep Keras from warning at the end of every epoch that a filtered dataset, of which it knows
    no length, has ended.
    """
    if rows == RowFilter():
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")
        yield


def kept_sample(sample: Sample, rows: RowFilter) -> Sample:
    """Return the sample without the rows left out, with its labels counted anew and its inputs
    scaled.
    """
    kept = keep(rows, sample.inputs, sample.targets)
    targets = tuple(array[kept] for array in sample.targets)
    if rows.first_label or rows.labels:
        targets = relabeled(rows, targets)
    return replace(
        sample,
        inputs=rescaled(rows, tuple(array[kept] for array in sample.inputs)),
        targets=targets,
        x=rescaled(rows, take_rows(sample.x, kept)),
    )


def _full(kept: Any | None, batch_rows: int | None) -> Any:
    """Return the arrays without the rows that do not fill a batch. Raises
    NothingLeftError when there are none.
    """
    count = 0 if kept is None else rows_in(kept[0]) or 0
    whole = count - count % (batch_rows or 1)
    if not whole:
        raise _nothing_left()
    return kept if whole == count else tuple(take_rows(part, slice(0, whole)) for part in kept)  # pyright: ignore


def unfilterable(data: TrainingData, batches: "list[Batch]") -> str | None:
    """Return why no rows can be left out, None where they can; of data that come in batches, some
    `batches` are given.
    """
    if isinstance(data.x, tf.distribute.DistributedDataset):
        return (
            "the data are spread over devices before nanfix sees them, so no rows can be left out"
        )
    if any(rows_in(batch) is None for batch in batches):
        return "the arrays of a batch differ in their rows, so none can be left out of all of them"
    return None


def _validation(given: Any, rows: RowFilter) -> Any:
    """Return filtered validation data, incomplete batches included; data of which
    nothing is left stay as they are.
    """
    if given is None:
        return None
    rows = replace(rows, batch_rows=None)
    if not isinstance(given, tuple | list):
        return _stream(given, rows)
    if rows_in(given[0]) is None:  # a stream in a tuple of its own
        return (_stream(given[0], rows), *given[1:])
    return _kept(tuple(given), rows) or given


def _stream(x: Any, rows: RowFilter) -> Any:
    if isinstance(x, Rewindable):
        return kept_batches(x.feed(), rows)
    if isinstance(x, keras.utils.PyDataset):
        return _FilteredPyDataset(x, rows)
    if isinstance(x, Iterator) and not isinstance(x, tf.data.Dataset):
        return kept_batches(x, rows)
    return _filtered_dataset(as_dataset(x), rows)


def _kept(batch: "Batch", rows: RowFilter, *, in_batches: bool = False) -> Any | None:
    """Return an (x, y, sample_weight), or as much of it as there is, without the rows left out.

    None where no row is left, and where what is left of a batch, of a stream
    `in_batches`, is not a full one.
    """
    inputs, targets, weights = map(flat_arrays, unpacked(batch))
    kept = keep(rows, inputs, targets, weights)
    if kept.sum() < (rows.batch_rows if in_batches and rows.batch_rows else 1):
        return None
    if not kept.all():
        batch = take_rows(batch, kept)
    x, y, weight = unpacked(batch)
    if targets and (rows.first_label or rows.labels):
        y = relabeled(rows, y)
    return repacked(batch, rescaled(rows, x), y, weight)


def kept_batches(batches: "Iterable[Batch]", rows: RowFilter) -> "Iterator[Batch]":
    """Yield batches as `filtered` gives them, those without a row to keep left out."""
    skipped = 0
    for batch in batches:
        kept = _kept(batch, rows, in_batches=True)
        skipped = skipped + 1 if kept is None else 0
        if skipped >= PATIENCE:
            raise _nothing_left()
        if kept is not None:
            yield kept


class _FilteredPyDataset(keras.utils.PyDataset):
    """Gives the batches of another one. Its length is fixed, so the next batch stands
    in for one without rows.
    """

    def __init__(self, source: Any, rows: RowFilter):
        super().__init__(source.workers, source.use_multiprocessing, source.max_queue_size)
        self._source, self._rows = source, rows

    @property
    def num_batches(self):
        return self._source.num_batches

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        count = self.num_batches
        for step in range(min(count or PATIENCE, PATIENCE)):
            kept = _kept(
                self._source[(index + step) % count if count else index + step],
                self._rows,
                in_batches=True,
            )
            if kept is not None:
                return kept
        raise _nothing_left()

    def on_epoch_begin(self):
        self._source.on_epoch_begin()

    def on_epoch_end(self):
        self._source.on_epoch_end()


def _filtered_dataset(dataset: tf.data.Dataset, rows: RowFilter) -> tf.data.Dataset:
    """Return a dataset of the same batches without the rows left out, and without the
    batches that are empty then.
    """
    tupled = isinstance(dataset.element_spec, tuple)

    def without(*parts):
        batch: Batch = parts if tupled else parts[0]
        kept = tf.where(keep_tensors(rows, batch))[:, 0]
        batch = tree.map_structure(
            lambda leaf: leaf if is_single(leaf) else gathered(leaf, kept), batch
        )
        x, y, weight = unpacked(batch)
        if rows.first_label or rows.labels:
            y = relabeled_tensors(rows, y)
        return repacked(batch, rescaled(rows, x), y, weight)

    def is_filled(*parts):
        return rows_of(parts) >= (rows.batch_rows or 1)

    return dataset.map(without).filter(is_filled)


def _renumbered(class_weight: Mapping[int, float], first_label: int) -> Mapping[int, float]:
    """Return class weights for labels counted from 0; weights that name a label 0 are
    counted so already.
    """
    if any(label < first_label for label in class_weight):
        return class_weight
    return {label - first_label: weight for label, weight in class_weight.items()}


def _nothing_left() -> NothingLeftError:
    return NothingLeftError(
        "No row of the data is left for training. Expected: at least one row without NaN, inf or a "
        "label outside the classes. Received: none. Fill the holes or find the data again."
    )
