"""A few wrong targets throw the weights away.

Symptom: the loss falls step by step, then is inf or NaN all at once.
Cause:   data are of unit scale and the rate is normal, but three targets were recorded as 10,000:
         the gradient of their batch throws the weights so far that the next step overflows.
Remedy:  clip the gradient's global norm at about what is usual, so that no batch moves the weights
         further than another. A lower rate, a bounded activation or scaled targets stay finite too,
         but learn nothing from the good rows.
"""

import keras
import numpy as np
from _show import show


def build():
    random = np.random.default_rng(4)
    x = random.normal(0, 1, (2500, 8)).astype("float32")
    y = np.sin(x[:, :1]) + 0.5 * x[:, 1:2]
    # The last 500 rows, for validation, are clean.
    y[random.choice(2000, 3, replace=False)] = 10_000
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.02), "mean_squared_error")
    return (
        model,
        x[:2000],
        y[:2000],
        {"validation_data": (x[2000:], y[2000:]), "epochs": 20, "batch_size": 32},
    )


if __name__ == "__main__":
    show(build)
