"""Small trainings, one for each form in which Keras takes data: model and data by name,
all of the same numbers.
"""

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
import scipy.sparse
import tensorflow as tf
from keras import layers

ROWS, BATCH = 48, 16
_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(ROWS, 3)).astype("float32")
Y = (X[:, :1] * 2 - X[:, 1:2]).astype("float32")
SPARSE = np.where(np.abs(X) > 0.5, X, 0).astype("float32")
LENGTHS = np.arange(ROWS) % 3 + 1
RAGGED = np.repeat(X[:, 0], LENGTHS)
WORDS = np.where(X[:, 0] > 0, "up", "down")
WEIGHTS = np.linspace(0.1, 1.0, ROWS)
NAMED = {"a": X[:, :2], "b": X[:, 2:]}


def dense():
    return keras.Sequential(
        [keras.Input((3,)), layers.Dense(8, activation="relu"), layers.Dense(1)]
    )


def named():
    a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b")
    return keras.Model(
        {"a": a, "b": b},
        layers.Dense(1)(layers.Concatenate()([layers.Dense(8, activation="relu")(a), b])),
    )


def optional():
    a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b", optional=True)
    return keras.Model({"a": a, "b": b}, layers.Dense(1)(layers.Dense(8, activation="relu")(a)))


def of_sparse():
    inputs = keras.Input((3,), sparse=True)
    return keras.Model(inputs, layers.Dense(1)(layers.Dense(8, activation="relu")(inputs)))


def of_words():
    inputs = keras.Input((1,), dtype="string")
    shares = layers.StringLookup(vocabulary=["up", "down"], output_mode="one_hot")(inputs)
    return keras.Model(inputs, layers.Dense(1)(layers.Dense(8, activation="relu")(shares)))


def of_sequences():
    inputs = keras.Input((None, 2))
    return keras.Model(
        inputs,
        layers.Dense(1)(
            layers.GlobalAveragePooling1D()(layers.Dense(8, activation="relu")(inputs))
        ),
    )


class Pooled(keras.Model):
    """Takes rows of any length."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = layers.Dense(8, activation="relu"), layers.Dense(1)

    def call(self, inputs):
        return self.out(
            self.hidden(tf.ensure_shape(tf.reduce_sum(inputs, axis=1)[:, None], (None, 1)))
        )


class Own(keras.Model):
    """Trains by a step of its own, which is given batches in whatever form; `parts`
    says how it takes them apart.
    """

    def __init__(self, parts: Callable[[Any], tuple[Any, Any, Any]]):
        super().__init__()
        self.hidden, self.out = layers.Dense(8, activation="relu"), layers.Dense(1)
        self.parts, self.tracker = parts, keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.tracker]

    def call(self, inputs):
        return self.out(self.hidden(inputs))

    def train_step(self, data):
        x, y, scale = self.parts(data)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(scale * tf.square(self(x, training=True) - y))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


def _halves(x):
    assert isinstance(x, tf.Tensor) and x.shape.rank == 2
    return x, x[:, :1] * 2 - x[:, 1:2], 1.0


def bare():
    return Own(_halves)


def in_a_tuple():
    return Own(lambda data: _halves(data[0]))


def in_a_dictionary():
    return Own(lambda data: (data["image"], data["label"], data.get("scale", 1.0)))


def of_four():
    return Own(lambda data: (data[0], data[1], data[2]))


def of_unknown_rank():
    return Own(
        lambda data: (tf.ensure_shape(data[0], (None, 3)), tf.ensure_shape(data[1], (None, 1)), 1.0)
    )


def generator(forever=False, part=lambda rows: (X[rows], Y[rows])):
    while True:
        for start in range(0, ROWS, BATCH):
            yield part(slice(start, start + BATCH))
        if not forever:
            return


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return ROWS // BATCH

    def __getitem__(self, index):
        rows = slice(BATCH * index, BATCH * (index + 1))
        return X[rows], Y[rows]


class Loader:
    """What Keras needs of torch.utils.data.DataLoader."""

    batch_size, dataset = BATCH, range(ROWS)

    def __len__(self):
        return ROWS // BATCH

    def __iter__(self):
        return (tuple(map(_Torch, batch)) for batch in generator())


class _Torch(np.ndarray):
    """A numpy array with the one method of a torch tensor on the CPU that Keras calls."""

    def __new__(cls, array):
        return np.asarray(array).view(cls)

    def cpu(self):
        return np.asarray(self)


def with_torch(monkeypatch):
    """Let Keras find a torch whose only DataLoader is ours."""
    torch: Any = types.ModuleType("torch")
    loader = type("DataLoader", (Loader,), {"__module__": "torch.utils.data"})
    torch.utils = types.SimpleNamespace(data=types.SimpleNamespace(DataLoader=loader))
    monkeypatch.setitem(sys.modules, "torch", torch)


def slices(*parts):
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])


def ragged():
    return tf.RaggedTensor.from_row_lengths(RAGGED, LENGTHS)


def padded():
    spec = tf.TensorSpec((None, 2)), tf.TensorSpec((1,))
    rows = ((X[i : i + 1 + i // 8 % 4, :2], Y[i]) for i in range(ROWS))
    kept = list(rows)
    return tf.data.Dataset.from_generator(lambda: iter(kept), output_signature=spec).padded_batch(8)


def with_empty():
    return slices(X, Y).batch(BATCH).concatenate(tf.data.Dataset.from_tensors((X[:0], Y[:0])))


def unknown_rank():
    return tf.data.Dataset.from_generator(generator, output_types=(tf.float32, tf.float32))


def mixed_frame():
    return pd.DataFrame(
        {"a": X[:, 0].astype("float64"), "b": X[:, 1] > 0, "c": np.int64(X[:, 2] * 4)}
    )


@dataclass(frozen=True)
class Form:
    """A model, and what gives the data anew: x, y and further arguments of fit."""

    model: Callable[[], Any]
    data: Callable[[], tuple[Any, ...]]
    arguments: Callable[[], dict[str, Any]] = dict
    loss: str | None = "mse"

    def compiled(self, optimizer):
        model = self.model()
        model.compile(optimizer, None if isinstance(model, Own) else self.loss)
        return model

    def fit(self):
        """Return the data and the arguments of one call of fit."""
        data, arguments = self.data(), {"epochs": 2, "verbose": 0, **self.arguments()}
        if len(data) > 1 or isinstance(data[0], np.ndarray):
            arguments["batch_size"] = BATCH
        return data, arguments


def split():
    return {"validation_split": 0.25}


FORMS = {
    "arrays": Form(dense, lambda: (X, Y), split),
    "float64": Form(dense, lambda: (X.astype("float64"), Y.astype("float64"))),
    "float16": Form(dense, lambda: (X.astype("float16"), Y.astype("float16"))),
    "bfloat16": Form(dense, lambda: (tf.cast(X, tf.bfloat16), Y)),
    "bytes": Form(dense, lambda: (np.uint8(np.abs(X) * 2), Y)),
    "integers": Form(dense, lambda: (np.int64(X * 4), np.int32(Y))),
    "frame and series": Form(dense, lambda: (pd.DataFrame(X), pd.Series(Y[:, 0])), split),
    "mixed frame": Form(dense, lambda: (mixed_frame(), pd.DataFrame(Y)), split),
    "tensors": Form(dense, lambda: (tf.constant(X), tf.constant(Y)), split),
    "variable": Form(dense, lambda: (tf.Variable(X), Y)),
    "scipy": Form(of_sparse, lambda: (scipy.sparse.csr_matrix(SPARSE), Y), split),
    "scipy into dense": Form(dense, lambda: (scipy.sparse.coo_matrix(SPARSE), Y)),
    "sparse tensor": Form(of_sparse, lambda: (tf.sparse.from_dense(SPARSE), Y)),
    "ragged tensor": Form(Pooled, lambda: (ragged(), Y), split),
    "dictionary": Form(named, lambda: (NAMED, Y), split),
    "extra key": Form(named, lambda: ({**NAMED, "id": np.arange(ROWS)}, Y)),
    "dictionary of frames": Form(
        named, lambda: ({"a": pd.DataFrame(X[:, :2]), "b": pd.Series(X[:, 2])}, pd.Series(Y[:, 0]))
    ),
    "left out": Form(optional, lambda: ({"a": X[:, :2], "b": None}, Y), split),
    "words": Form(of_words, lambda: (tf.constant(WORDS[:, None]), Y)),
    "objects": Form(of_words, lambda: (WORDS.astype(object), Y)),
    "sample weights": Form(dense, lambda: (X, Y), lambda: {"sample_weight": pd.Series(WEIGHTS)}),
    "class weights": Form(
        dense, lambda: (X, np.float32(Y > 0)), lambda: {"class_weight": {0: 1.0, 1: 2.0}}
    ),
    "held frame": Form(
        dense, lambda: (X, Y), lambda: {"validation_data": (pd.DataFrame(X), pd.Series(Y[:, 0]))}
    ),
    "held dataset": Form(
        dense, lambda: (X, Y), lambda: {"validation_data": slices(X, Y).batch(BATCH)}
    ),
    "held generator": Form(dense, lambda: (X, Y), lambda: {"validation_data": generator()}),
    "held endless": Form(
        dense, lambda: (X, Y), lambda: {"validation_data": generator(True), "validation_steps": 2}
    ),
    "held batches": Form(dense, lambda: (X, Y), lambda: {"validation_data": Batches()}),
    "dataset": Form(dense, lambda: (slices(X, Y).batch(BATCH),)),
    "repeated": Form(
        dense, lambda: (slices(X, Y).batch(BATCH).repeat(),), lambda: {"steps_per_epoch": 3}
    ),
    "cached": Form(
        dense, lambda: (slices(X, Y).cache().shuffle(ROWS, seed=1).batch(BATCH).prefetch(2),)
    ),
    "padded": Form(of_sequences, lambda: (padded(),)),
    "unknown rank": Form(of_unknown_rank, lambda: (unknown_rank(),)),
    "empty batch": Form(dense, lambda: (with_empty(),)),
    "ragged dataset": Form(Pooled, lambda: (slices(ragged(), Y).batch(BATCH),)),
    "sparse dataset": Form(
        of_sparse, lambda: (slices(tf.sparse.from_dense(SPARSE), Y).batch(BATCH),)
    ),
    "bare array": Form(bare, lambda: (X,)),
    "bare dataset": Form(bare, lambda: (slices(X).batch(BATCH),)),
    "tuple of one": Form(in_a_tuple, lambda: (slices(X).batch(BATCH).map(lambda x: (x,)),)),
    "all in a dictionary": Form(
        in_a_dictionary, lambda: (slices({"image": X, "label": Y}).batch(BATCH),)
    ),
    "scalar": Form(
        in_a_dictionary,
        lambda: (slices({"image": X, "label": Y}).batch(BATCH).map(lambda d: {**d, "scale": 1.0}),),
    ),
    "tuple of four": Form(
        of_four,
        lambda: (slices(X, Y, WEIGHTS.astype("float32")[:, None], np.arange(ROWS)).batch(BATCH),),
    ),
    "generator": Form(dense, lambda: (generator(),), lambda: {"epochs": 1}),
    "endless": Form(dense, lambda: (generator(True),), lambda: {"steps_per_epoch": 3}),
    "generator leaves out": Form(
        optional,
        lambda: (generator(True, lambda rows: ({"a": X[rows, :2], "b": None}, Y[rows])),),
        lambda: {"steps_per_epoch": 3},
    ),
    "batches": Form(dense, lambda: (Batches(),)),
    "batches by workers": Form(dense, lambda: (Batches(workers=2),)),
    "torch": Form(dense, lambda: (sys.modules["torch"].utils.data.DataLoader(),)),
}
