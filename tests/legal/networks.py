"""Networks of stock layers: nested, recurrent, masked, convolutional, frozen, adapted."""

import keras
import numpy as np
from keras import layers

from legal.training import (
    ARGUMENTS,
    ROWS,
    SOUND,
    compiled,
    images,
    legal,
    series,
    table,
)


@legal(ends="REPAIRED")
def nested_models(explosive):
    block = keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, "relu"), layers.Dense(5, "relu")], name="block"
    )
    inputs = keras.Input((4,))
    inner = keras.Model(inputs, layers.Concatenate()([block(inputs), inputs]), name="inner")
    outer = keras.Input((4,))
    return (
        compiled(keras.Model(outer, layers.Dense(1)(inner(outer))), explosive),
        *table(),
        dict(ARGUMENTS),
    )


@legal()
def activations_as_layers(explosive):
    stack = [
        layers.Dense(6),
        layers.LeakyReLU(),
        layers.Dense(6),
        layers.PReLU(),
        layers.Dense(3),
        layers.Softmax(),
    ]
    model = keras.Sequential([keras.Input((4,)), *stack])
    model.compile(
        keras.optimizers.SGD(1e30 if explosive else 0.05),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    x, y = table()
    return model, x, np.digitize(y[:, 0], [-0.5, 0.5]), dict(ARGUMENTS)


@legal(ends="REPAIRED")
def lstm(explosive):
    model = keras.Sequential([keras.Input((4, 3)), layers.LSTM(4, dropout=0.2), layers.Dense(1)])
    return compiled(model, explosive), *series(), dict(ARGUMENTS)


@legal()
def gru_and_bidirectional(explosive):
    rnn = [
        layers.Bidirectional(layers.GRU(3, return_sequences=True)),
        layers.SimpleRNN(4, activation="relu"),
    ]
    return (
        compiled(keras.Sequential([keras.Input((None, 3)), *rnn, layers.Dense(1)]), explosive),
        *series(),
        dict(ARGUMENTS),
    )


@legal()
def conv_lstm(explosive):
    x, y = images(channels=1)
    movie = np.repeat(x[:, None].astype("float32") / 255.0, 2, axis=1)
    stack = [layers.ConvLSTM2D(2, 3), layers.Flatten(), layers.Dense(1)]
    return (
        compiled(keras.Sequential([keras.Input((2, 6, 6, 1)), *stack]), explosive),
        movie,
        y,
        dict(ARGUMENTS),
    )


@legal()
def masked_embedding(explosive):
    ids = np.random.default_rng(0).integers(0, 10, (ROWS, 6))
    ids[:, 4:] = 0
    stack = [layers.Embedding(10, 4, mask_zero=True), layers.LSTM(4), layers.Dense(1)]
    y = (ids[:, :1] / 5.0 - 1.0).astype("float32")
    return (
        compiled(keras.Sequential([keras.Input((6,), dtype="int32"), *stack]), explosive),
        ids,
        y,
        dict(ARGUMENTS),
    )


@legal()
def masking_layer(explosive):
    x, y = series()
    x[::2, 2:] = -1.0
    stack = [layers.Masking(-1.0), layers.GRU(4), layers.Dense(1)]
    return (
        compiled(keras.Sequential([keras.Input((4, 3)), *stack]), explosive),
        x,
        y,
        dict(ARGUMENTS),
    )


@legal(quick=True)
def attention(explosive):
    inputs = keras.Input((4, 3))
    seen = layers.MultiHeadAttention(2, 3)(inputs, inputs)
    hidden = layers.LayerNormalization()(layers.Add()([inputs, seen]))
    model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(hidden)))
    return compiled(model, explosive), *series(), dict(ARGUMENTS)


@legal()
def convolutions_on_bytes(explosive):
    scaled = layers.Rescaling(1 / 255.0)
    stack = [
        scaled,
        layers.Conv2D(3, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(1),
    ]
    return (
        compiled(keras.Sequential([keras.Input((6, 6, 3)), *stack]), explosive),
        *images(),
        dict(ARGUMENTS),
    )


@legal()
def raw_bytes(explosive):
    stack = [layers.Conv2D(3, 3, activation="relu"), layers.Flatten(), layers.Dense(1)]
    model = keras.Sequential([keras.Input((6, 6, 3)), *stack])
    model.compile(keras.optimizers.SGD(1e6 if explosive else 1e-7), "mse")
    return model, *images(), dict(ARGUMENTS)


@legal()
def backbone_frozen_then_compiled_again(explosive):
    backbone = keras.applications.MobileNetV3Small(
        (32, 32, 3), alpha=0.35, weights=None, include_top=False, minimalistic=True
    )
    for layer in backbone.layers[:-8]:
        layer.trainable = False
    inputs = keras.Input((32, 32, 3))
    hidden = layers.GlobalAveragePooling2D()(backbone(inputs, training=False))
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    compiled(model, False)
    x, y = images(rows=12, size=32)
    model.fit(x, y, epochs=1, batch_size=6, verbose=0)
    backbone.trainable = True
    for layer in backbone.layers[:-4]:
        layer.trainable = False
    model.compile(keras.optimizers.SGD(1e15 if explosive else SOUND), "mse")
    return model, x, y, {"epochs": 2, "batch_size": 4, "verbose": 0}


@legal()
def adapted_normalization(explosive):
    x, y = table()
    x = 100.0 + 30.0 * x
    normalization = layers.Normalization()
    normalization.adapt(x)
    model = keras.Sequential(
        [keras.Input((4,)), normalization, layers.Dense(6, "tanh"), layers.Dense(1)]
    )
    return compiled(model, explosive), x, y, dict(ARGUMENTS)


@keras.saving.register_keras_serializable("legal")
class Neighbours(layers.Layer):
    """Adds up what a layer makes of the neighbours of each node."""

    def __init__(self, units, **settings):
        super().__init__(**settings)
        self.inner = layers.Dense(units)

    def get_config(self):
        return {**super().get_config(), "units": self.inner.units}

    def build(self, nodes_shape, matrix_shape):
        self.inner.build(nodes_shape)

    def call(self, nodes, matrix):
        return keras.ops.matmul(matrix, self.inner(nodes))


@legal(quick=True)
def graph_in_one_batch(explosive):
    """The model takes all nodes or none: the matrix has a column for each."""
    count = 32  # as many as Keras takes into a batch of predictions
    nodes, matrix = keras.Input((4,)), keras.Input((count,))
    hidden = keras.ops.tanh(Neighbours(6)(nodes, matrix))
    model = keras.Model([nodes, matrix], Neighbours(1)(hidden, matrix))
    linked = np.random.default_rng(1).random((count, count)) < 0.05
    x, y = table(count)
    arguments = {**ARGUMENTS, "epochs": 8, "batch_size": count, "shuffle": False}
    return (
        compiled(model, explosive),
        [x, (linked | np.eye(count, dtype=bool)).astype("float32")],
        y,
        arguments,
    )
