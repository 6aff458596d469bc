"""A learning rate that is too high, and nothing else wrong.

Symptom: the loss grows from the first steps on and overflows within the first epoch.
Cause:   SGD with momentum at a rate of 1.0: every step overshoots the minimum by more
         than it approached it.
Remedy:  lower the rate by one or two orders of magnitude; data and model are fine.
"""

import keras
from _show import show
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler


def build():
    x, y = load_diabetes(return_X_y=True)
    x = StandardScaler().fit_transform(x).astype("float32")
    y = StandardScaler().fit_transform(y[:, None]).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(1.0, momentum=0.9), "mean_squared_error")
    return model, x, y, {"epochs": 30, "batch_size": 32}


if __name__ == "__main__":
    show(build)
