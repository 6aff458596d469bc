"""Classes counted from 1, as in the file they came from, for an output layer that counts from 0."""

import keras
import numpy as np
from keras import layers, losses, optimizers

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(450, 4)).astype("float32")
quality = 1 + (x[:, 0] > 0).astype("int64") + (x[:, 1] > 0).astype("int64")
x_train, y_train, x_test, y_test = x[:360], quality[:360], x[360:], quality[360:]


def build_classifier(n_classes):
    model = keras.Sequential(name="wine")
    model.add(layers.Dense(16, activation="relu", input_shape=(4,)))
    model.add(layers.Dense(n_classes, activation="softmax"))
    model.compile(
        optimizer=optimizers.Adam(0.01),
        loss=losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
        jit_compile=True,
    )
    return model


classifier = build_classifier(3)
classifier.fit(
    x_train,
    y_train,
    epochs=12,
    batch_size=30,
    class_weight={1: 1.0, 2: 0.5, 3: 1.0},
    validation_data=(x_test, y_test),
    verbose=0,
)
