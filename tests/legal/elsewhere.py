"""Run by the harness in a process of its own, without nanfix: load a repaired model and
compare what it predicts.
"""

import sys
from pathlib import Path

import keras
import numpy as np

import legal


class Absent:
    """Says of nanfix, wherever it lies, that it is not there."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "nanfix":
            raise ModuleNotFoundError("No module named 'nanfix'", name="nanfix")


def compare(name, folder):
    keras.utils.set_random_seed(0)  # as `harness.predictions` does
    _, x, _, arguments = legal.TABLE[name].build(False)
    model = keras.models.load_model(folder / "model.keras")
    steps, rows = arguments.get("steps_per_epoch"), arguments.get("batch_size")
    predicted = keras.tree.flatten(model.predict(x, verbose=0, steps=steps, batch_size=rows))
    with np.load(folder / "before.npz") as before:
        for number, after in enumerate(predicted):
            np.testing.assert_allclose(
                np.asarray(after, "float64"), before[f"arr_{number}"], rtol=1e-5, atol=1e-6
            )


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())
    compare(sys.argv[1], Path(sys.argv[2]))
