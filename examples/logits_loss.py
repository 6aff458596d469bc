"""The logarithm of a softmax, written by hand.

Symptom: the loss falls, accuracy is good, then the loss is NaN from one step to the next.
Cause:   a confident softmax underflows to exactly 0 for the other classes; log(0) is
         -inf and 0 * -inf is NaN.
Remedy:  compute the crossentropy from the logits (`CategoricalCrossentropy(from_logits=True)`).
"""

import keras
from _show import show
from keras import ops
from sklearn.datasets import load_digits


def negative_log_likelihood(y_true, p):
    return -ops.sum(y_true * ops.log(p), axis=-1)


def build():
    x, digits = load_digits(return_X_y=True)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), negative_log_likelihood, metrics=["accuracy"])
    return (
        model,
        (x / 16).astype("float32"),
        keras.utils.to_categorical(digits, 10),
        {"epochs": 30, "batch_size": 32},
    )


if __name__ == "__main__":
    show(build)
