"""House prices in dollars from raw columns: plain model.fit dies of NaN, nanfix.fit finishes.

Symptom: the loss is inf, then NaN, from the first steps on, and every prediction is NaN.
Cause:   prices of several hundred thousand dollars, areas in square feet and years of construction
         go into SGD as they are.
Remedy:  scale inputs and targets; nanfix finds it and the model still takes raw columns
         and answers in dollars.
"""

import keras
import numpy as np
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

import nanfix


def load():
    """Return made-up house sales: area (sq ft), rooms, year, lot (sq ft), distance
    (miles), and the price in dollars.
    """
    random = np.random.default_rng(0)
    n = 2000
    area = random.normal(1800, 500, n).clip(400)
    rooms = (area / 450 + random.normal(0, 0.7, n)).round().clip(1)
    year = random.integers(1920, 2024, n)
    lot = random.lognormal(8.7, 0.5, n)
    distance = random.uniform(0, 25, n)
    price = (
        40_000
        + 190 * area
        + 8_000 * rooms
        + 600 * (year - 1970)
        + 4 * lot
        - 35_000 * np.sqrt(distance)
    )
    price += random.normal(0, 25_000, n)
    x = np.stack([area, rooms, year, lot, distance], axis=1).astype("float32")
    return train_test_split(x, price.astype("float32"), test_size=0.25, random_state=0)


def make_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01), "mean_squared_error")
    return model


def held_out_r2(model, x, y):
    prediction = model.predict(x, verbose=0)[:, 0]
    return r2_score(y, prediction) if np.isfinite(prediction).all() else float("nan")


def main():
    x, x_test, y, y_test = load()

    model = make_model()
    history = model.fit(x, y, epochs=30, verbose=0)
    before = held_out_r2(model, x_test, y_test)
    print(f"model.fit:  final loss {history.history['loss'][-1]:.4g}, held-out R2 {before:.3f}\n")

    model = make_model()
    report = nanfix.fit(model, x, y, epochs=30, verbose=0, throw=False)
    after = held_out_r2(model, x_test, y_test)
    print(report)
    print(f"\nnanfix.fit: final loss {report.history['loss'][-1]:.4g}, held-out R2 {after:.3f}")


if __name__ == "__main__":
    main()
