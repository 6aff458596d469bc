"""Raw feature columns in the thousands.

Symptom: the loss overflows within the first few steps.
Cause:   the gradient of the first layer grows with the square of the inputs' size; a rate of 0.01
         is normal for unit scale and ten thousand times too high for these columns.
Remedy:  standardize the columns. Lowering the rate until it holds leaves the small
         columns unlearned.
"""

import keras
from _show import show
from sklearn.datasets import load_wine


def build():
    x, wine = load_wine(return_X_y=True)  # proline runs up to 1680, other columns stay below 1
    y = (wine == 0)[:, None].astype("float32") * 2 - 1
    model = keras.Sequential(
        [
            keras.Input((13,)),
            keras.layers.Dense(32, activation="leaky_relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01), "mean_squared_error")
    return model, x.astype("float32"), y, {"epochs": 50, "batch_size": 16}


if __name__ == "__main__":
    show(build)
