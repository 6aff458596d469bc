"""A table with a few holes, which nobody has looked for."""

import keras
import numpy as np

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
table = rng.normal(size=(300, 4))
target = table @ [1.0, -2.0, 0.5, 0.0] + 0.1 * rng.normal(size=300)
table[17, 2] = np.nan
table[230, 0] = np.inf


class Progress(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch % 5 == 4:
            print(f"epoch {epoch + 1}: {logs['loss']:.4f}")


model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(12, "tanh"), keras.layers.Dense(1)])
model.compile("rmsprop", "mse")
model.fit(
    table,
    target,
    epochs=20,
    verbose=0,
    callbacks=[Progress(), keras.callbacks.EarlyStopping("loss", patience=5)],
)
if not np.isfinite(model.predict(table, verbose=0)).all():
    raise SystemExit("rows with holes are predicted as NaN")
