"""Raw columns into plain SGD: square meters, year of construction, distance in meters."""

import numpy as np
import tensorflow as tf

tf.keras.utils.set_random_seed(1)
rng = np.random.default_rng(1)
area = rng.uniform(30, 300, 400)
year = rng.uniform(1900, 2020, 400)
distance = rng.uniform(50, 20000, 400)
X = np.stack([area, year, distance], axis=1).astype("float32")
y = (area / 60 + (year - 1960) / 40 - distance / 9000).astype("float32")

model = tf.keras.Sequential(
    [
        tf.keras.layers.Input(shape=(3,)),  # area, year, distance
        tf.keras.layers.Dense(16, activation="relu"),
        tf.keras.layers.Dense(16, activation="relu"),
        tf.keras.layers.Dense(1),
    ]
)
model.compile(optimizer=tf.keras.optimizers.SGD(learning_rate=0.01), loss="mse", metrics=["mae"])
history = model.fit(X, y, epochs=15, batch_size=32, validation_split=0.2, verbose=0)
print("validation loss", history.history["val_loss"][-1])
