"""Miles per gallon from what is known of a car; the horsepower of some is not."""

import keras
import numpy as np
from keras import layers

rng = np.random.default_rng(0)
cars = rng.normal(size=(800, 5)) * [1, 20, 300, 5, 2] + [6, 100, 3000, 15, 76]
cars = cars.astype("float32")
mileage = 50 - cars[:, 2:3] / 100 + cars[:, :1] + 0.3 * rng.normal(size=(800, 1))
cars[rng.random(800) < 0.02, 1] = np.nan  # "?" in the file

keras.utils.set_random_seed(0)
normalizer = layers.Normalization(axis=-1)
normalizer.adapt(np.array(cars))

model = keras.Sequential(
    [
        normalizer,
        layers.Dense(64, activation="relu"),
        layers.Dense(1),
    ]
)
model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mean_absolute_error")
history = model.fit(cars, mileage, epochs=12, validation_split=0.2, verbose=0)
print("mean absolute error", history.history["val_loss"][-1])
