"""Rows left out of every form of data: what is fed afterwards, number by number."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from nanfix.changes.maps import Affine
from nanfix.changes.rows import RowFilter
from nanfix.data.row_filter import filtered, kept_batches, kept_sample, unfilterable
from nanfix.data.streams import Rewindable, feed
from nanfix.data.training_data import TrainingData
from nanfix.model.run import Sample
from nanfix.records.errors import NothingLeftError

NAN = np.nan
FINITE = RowFilter(finite_inputs=True, finite_targets=True)
X = np.float32([[0, 0], [1, NAN], [2, 2], [3, 3], [4, 4], [np.inf, 5], [6, 6], [7, 7]])
Y = np.float32([[0], [1], [NAN], [3], [4], [5], [6], [7]])
KEPT = [0, 3, 4, 6, 7]


def test_a_filter_that_keeps_all_leaves_the_data_as_they_are():
    data = TrainingData.of(X, Y, {})
    assert filtered(data, RowFilter()) is data


def test_arrays_keep_their_weights_and_their_share_for_validation():
    data = filtered(
        TrainingData.of(
            X, Y, {"sample_weight": np.arange(8.0), "validation_split": 0.5, "epochs": 2}
        ),
        FINITE,
    )
    assert (
        data.x[:, 1].tolist() == [0, 3]
        and data.y[:, 0].tolist() == [0, 3]
        and data.sample_weight.tolist() == [0, 3]
    )
    x, y, weight = data.validation_data
    assert (
        x[:, 1].tolist() == [4, 6, 7]
        and y[:, 0].tolist() == [4, 6, 7]
        and weight.tolist() == [4, 6, 7]
    )
    assert not data.validation_split and data.epochs == 2


def test_frames_and_named_inputs_are_filtered():
    frame = filtered(TrainingData.of(pd.DataFrame(X), pd.Series(Y[:, 0]), {}), FINITE)
    assert frame.x.index.tolist() == KEPT and frame.y.tolist() == [0, 3, 4, 6, 7]
    named = filtered(TrainingData.of({"a": X[:, :1], "b": X[:, 1:]}, Y, {}), FINITE)
    assert named.x["a"][:, 0].tolist() == KEPT and named.x["b"][:, 0].tolist() == KEPT


def test_labels_and_class_weights_are_counted_from_zero():
    labels = np.int32([1, 2, 3, 1, 2, 3, 1, 2])
    data = filtered(
        TrainingData.of(
            X,
            labels,
            {"class_weight": {1: 0.5, 2: 1.0, 3: 2.0}, "validation_data": (X[:3], labels[:3])},
        ),
        RowFilter(classes=3, first_label=1),
    )
    assert data.y.tolist() == [0, 1, 2, 0, 1, 2, 0, 1] and data.y.dtype == np.int32
    assert data.arguments["class_weight"] == {0: 0.5, 1: 1.0, 2: 2.0}
    assert data.validation_data[1].tolist() == [0, 1, 2]
    counted = TrainingData.of(X, labels, {"class_weight": {0: 0.5, 1: 1.0}})
    assert filtered(counted, RowFilter(classes=3, first_label=1)).arguments["class_weight"] == {
        0: 0.5,
        1: 1.0,
    }


def test_sample_is_filtered_like_the_data():
    sample = kept_sample(
        Sample((X,), (np.int32([1, 2, 3, 4, 1, 2, 3, 0]),), x=X),
        RowFilter(classes=3, first_label=1),
    )
    assert sample.targets[0].tolist() == [0, 1, 2, 0, 1, 2] and sample.x[:, 1].tolist()[2:] == [
        2,
        4,
        5,
        6,
    ]


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y, self.ended = x, y, 0

    def __len__(self):
        return len(self.x) // 2

    def __getitem__(self, index):
        rows = slice(2 * index, 2 * index + 2)
        return self.x[rows], self.y[rows]

    def on_epoch_end(self):
        self.ended += 1


def batches(x, y):
    return iter([Batches(x, y)[index] for index in range(len(x) // 2)])


def fed(data):
    """Return the second input feature and the target of each batch that training would draw."""
    source = feed(data.x)
    drawn = (
        [source[index] for index in range(len(source))]
        if isinstance(source, keras.utils.PyDataset)
        else list(source)
    )
    return [(np.asarray(x)[:, 1].tolist(), np.asarray(y)[:, 0].tolist()) for x, y in drawn]


# Of the second batch no row is kept.
EMPTY = np.where(np.arange(8)[:, None] // 2 == 1, np.float32(NAN), X)


def test_dataset_is_filtered_batch_by_batch():
    data = filtered(
        TrainingData.of(tf.data.Dataset.from_tensor_slices((X, Y)).batch(2), None, {}), FINITE
    )
    assert fed(data) == [([0], [0]), ([3], [3]), ([4], [4]), ([6, 7], [6, 7])]
    data = filtered(
        TrainingData.of(tf.data.Dataset.from_tensor_slices((EMPTY, Y)).batch(2), None, {}), FINITE
    )
    assert fed(data) == [([0], [0]), ([4], [4]), ([6, 7], [6, 7])]


def test_dataset_keeps_the_structure_of_its_elements():
    named = tf.data.Dataset.from_tensor_slices(
        ({"a": X, "b": np.arange(8)}, np.uint8([1, 2, 3, 9, 1, 2, 3, 0]), np.ones(8))
    )
    data = filtered(TrainingData.of(named.batch(8), None, {}), RowFilter(classes=3, first_label=1))
    x, y, weight = next(iter(data.x))
    assert (
        x["b"].numpy().tolist() == [0, 1, 2, 4, 5, 6]
        and y.numpy().tolist() == [0, 1, 2, 0, 1, 2]
        and len(weight) == 6
    )
    alone = filtered(
        TrainingData.of(tf.data.Dataset.from_tensor_slices(X).batch(8), None, {}), FINITE
    )
    assert next(iter(alone.x))[:, 1].numpy().tolist() == [0, 2, 3, 4, 6, 7]


def test_pydataset_is_filtered_batch_by_batch():
    source = Batches(EMPTY, Y)
    data = filtered(TrainingData.of(source, None, {}), FINITE)
    # The next one stands in for the second.
    assert fed(data) == [([0], [0]), ([4], [4]), ([4], [4]), ([6, 7], [6, 7])]
    data.x.on_epoch_end()
    assert source.ended == 1 and data.x.num_batches == 4


def test_generator_is_filtered_batch_by_batch_and_stays_rewindable():
    data = TrainingData.of(batches(EMPTY, Y), None, {})
    assert fed(filtered(data, FINITE)) == [([0], [0]), ([4], [4]), ([6, 7], [6, 7])]
    assert isinstance(data.x, Rewindable) and data.x.position == 4
    data.x.rewind(2)
    assert fed(filtered(data, FINITE)) == [([4], [4]), ([6, 7], [6, 7])]


def test_validation_streams_are_filtered_too():
    held = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    data = filtered(TrainingData.of(X, Y, {"validation_data": held}), FINITE)
    assert next(iter(data.validation_data))[0][:, 1].numpy().tolist() == KEPT


def endless():
    while True:
        yield np.full((2, 2), NAN, "float32"), Y[:2]


SCALED = RowFilter(finite_inputs=True, scaled=((0, Affine((1.0, 3.0), (2.0, 4.0))),))
WHOLE = np.arange(16).reshape(8, 2)  # integers, as pixels are


def test_what_is_kept_of_arrays_and_frames_is_scaled_in_training_and_validation():
    wanted = [(each - 3.0) / 4.0 for each in (0, 2, 3, 4, 6, 7)]
    for given in (X, pd.DataFrame(X)):
        data = filtered(TrainingData.of(given, Y, {"validation_data": (X, Y)}), SCALED)
        assert np.asarray(data.x)[:, 1].tolist() == wanted
        assert data.y[:, 0].tolist()[-1] == 7 and data.validation_data[0][1, 0] == 0.5
    sample = kept_sample(Sample((X,), (Y,), x=X), SCALED)
    assert sample.inputs[0][-1].tolist() == sample.x[-1].tolist() == [3.0, 1.0]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int32", "uint8"])
def test_batches_of_every_kind_are_scaled_alike(kind):
    rows, x = RowFilter(scaled=SCALED.scaled), WHOLE.astype(kind)
    wanted = (WHOLE - [1.0, 3.0]) / [2.0, 4.0]
    np.testing.assert_allclose(filtered(TrainingData.of(x, Y, {}), rows).x, wanted, rtol=1e-3)
    (batch,) = kept_batches([(x, Y)], rows)
    np.testing.assert_allclose(batch[0], wanted, rtol=1e-3)
    bare = tf.data.Dataset.from_tensor_slices(x).batch(8)
    (batch,) = filtered(TrainingData.of(bare, None, {}), rows).x
    np.testing.assert_allclose(batch, wanted, rtol=1e-3)
    assert batch.dtype.is_floating


def test_each_of_several_inputs_has_a_scaling_of_its_own():
    named = {"a": WHOLE[:, :1], "b": WHOLE[:, 1:]}
    rows = RowFilter(scaled=((1, Affine((1.0,), (2.0,))),))
    data = filtered(TrainingData.of(named, Y, {}), rows)
    assert data.x["a"][-1, 0] == 14 and data.x["b"][-1, 0] == 7


HOPELESS = {
    "arrays": np.full_like(X, NAN),
    "pydataset": Batches(np.full_like(X, NAN), Y),
    "generator": endless(),
}


@pytest.mark.parametrize("x", HOPELESS.values(), ids=HOPELESS)
def test_data_without_a_row_to_keep_are_refused(x):
    data = TrainingData.of(x, Y if isinstance(x, np.ndarray) else None, {})
    with pytest.raises(NothingLeftError, match="No row of the data is left"):
        fed(filtered(data, FINITE))


CELLS = np.float32([[1, 2], [NAN, 0], [0, 3], [4, np.inf]])
KINDS = {
    "sparse": lambda: tf.sparse.from_dense(CELLS),
    "ragged": lambda: tf.RaggedTensor.from_tensor(CELLS),
    "dense": lambda: tf.constant(CELLS),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", [False, True])
def test_rows_of_every_kind_are_left_out(kind, streamed):
    x, y = {"a": KINDS[kind](), "b": None}, np.arange(4.0)
    if not streamed:
        assert filtered(TrainingData.of(x, y, {}), FINITE).y.tolist() == [0, 2]
        return
    named = tf.data.Dataset.from_tensors((x, y, tf.constant(0.5)))
    ((kept, labels, scalar),) = filtered(TrainingData.of(named, None, {}), FINITE).x
    assert (
        labels.numpy().tolist() == [0, 2]
        and kept["a"].shape[0] == 2
        and kept["b"] is None
        and scalar == 0.5
    )


def test_rows_of_a_dataset_of_unknown_shape_are_left_out():
    shapeless = tf.data.Dataset.from_generator(
        lambda: iter([(X, Y)]), output_types=(tf.float32, tf.float32)
    )
    ((x, _),) = filtered(TrainingData.of(shapeless, None, {}), FINITE).x
    assert x[:, 1].numpy().tolist() == KEPT


def test_a_float64_beyond_float32_is_not_finite_in_training():
    wide = np.array([[1.0], [1e300]])
    assert filtered(TrainingData.of(wide, np.zeros(2), {}), FINITE).x.tolist() == [[1.0]]
    data = TrainingData.of(tf.data.Dataset.from_tensors((wide, np.zeros(2))), None, {})
    assert [x.numpy().tolist() for x, _ in filtered(data, FINITE).x] == [[[1.0]]]


def test_data_of_which_no_row_can_be_left_out_say_why():
    graph = {"nodes": tf.ones((5, 2)), "edges": tf.ones((8, 2))}
    assert "differ in their rows" in str(
        unfilterable(TrainingData.of(tf.data.Dataset.from_tensors(graph), None, {}), [graph])
    )
    assert unfilterable(TrainingData.of(X, Y, {}), []) is None
