"""What a model that has learned nothing reaches: the marks a repair has to beat."""

import numpy as np
from keras import tree
from keras.src.trainers.compile_utils import CompileLoss

from nanfix.data import TrainingData
from nanfix.setup import Setup, loss_name

DISTRIBUTIONS = {"softmax", "sigmoid"}


def constant_loss(setup: Setup, held: TrainingData) -> float | None:
    """Return the loss of always predicting the mean of the training targets, on the held data.

    None where such a prediction has no meaning: several outputs, no targets, outputs that are no values or
    probabilities, or a hand-written loss that cannot take it.
    """
    truth = [np.asarray(leaf) for leaf in tree.flatten(held.y)] if held.y is not None and held.is_arrays else []
    output = getattr(setup.model, "output_shape", None)
    if len(truth) != 1 or len(setup.sample.targets) != 1 or not isinstance(output, tuple) or None in output[1:]:
        return None
    targets, name = setup.sample.targets[0], loss_name(setup.user_loss)
    last = setup.activations[-1][1].activation.__name__ if setup.activations else "linear"
    if name == "sparse_categorical_crossentropy":
        targets = np.eye(output[-1], dtype="float32")[np.clip(targets.reshape(-1).astype(int), 0, output[-1] - 1)]
    elif last not in DISTRIBUTIONS and name not in ("mean_squared_error", "mean_absolute_error"):
        return None
    if "crossentropy" in name and last not in DISTRIBUTIONS:
        return None
    center = np.median if name == "mean_absolute_error" else np.mean
    rows = np.isfinite(targets.reshape(len(targets), -1)).all(axis=1)
    if not rows.any():
        return None
    constant = center(targets[rows].reshape(int(rows.sum()), -1), axis=0)
    prediction = np.broadcast_to(constant.astype("float32"), (len(truth[0]), constant.size)).reshape(len(truth[0]), *output[1:])
    truth_rows = np.isfinite(truth[0].astype("float64").reshape(len(truth[0]), -1)).all(axis=1)
    y = truth[0][truth_rows]
    if y.ndim == prediction.ndim - 1 and name != "sparse_categorical_crossentropy":
        y = y[..., None]
    loss = float(CompileLoss(loss=setup.user_loss)(y, prediction[truth_rows]))
    return loss if np.isfinite(loss) else None
