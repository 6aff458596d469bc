"""What a model that has learned nothing reaches: the baselines a repair has to beat."""

import numpy as np

from nanfix.data.arrays import flat_arrays
from nanfix.data.training_data import TrainingData
from nanfix.model.activations import activation_name
from nanfix.model.crossentropies import (
    PROBABILITIES,
    Targets,
    crossentropy_of,
    loss_name,
    takes_logits,
)
from nanfix.model.run import Run
from nanfix.private.keras import CompileLoss

# The best constant prediction under a loss.
CENTERS = {"mean_squared_error": np.mean, "mean_absolute_error": np.median}


def constant_loss(run: Run, held: TrainingData) -> float | None:
    """Return the loss on the held data of always predicting the same: mean, median, or
    class frequencies.

    None where no such prediction is known: several outputs, no targets, or a loss for which the
    best constant is not one of these.
    """
    truth = flat_arrays(held.y) if held.is_arrays else []
    output, name = getattr(run.model, "output_shape", None), loss_name(run.user_loss)
    crossentropy = crossentropy_of(run.user_loss)
    probabilities = (
        bool(run.activations) and activation_name(run.activations[-1][1]) in PROBABILITIES
    )
    # Then those of the classes are the best constant.
    shares = crossentropy is not None and not crossentropy.focal
    known = name in CENTERS or shares or probabilities
    if (
        not known
        or len(truth) != 1
        or len(run.sample.targets) != 1
        or not isinstance(output, tuple)
        or None in output[1:]
    ):
        return None
    targets, y = run.sample.targets[0], truth[0]
    indices = crossentropy is not None and crossentropy.targets is Targets.CLASS
    if indices:
        targets = np.eye(output[-1])[np.clip(targets.reshape(-1).astype(int), 0, output[-1] - 1)]
    targets = targets[_finite_rows(targets)]
    if not len(targets):
        return None
    constant = CENTERS.get(name, np.mean)(targets, axis=0).reshape(-1)
    if takes_logits(run.user_loss):
        if crossentropy is None:
            return None
        constant = crossentropy.logits(constant)
    elif crossentropy is not None and not probabilities:
        return None
    kept = _finite_rows(y)
    y, weights = y[kept], flat_arrays(held.sample_weight)
    if indices and not ((y >= 0) & (y < output[-1])).all():
        return None
    prediction = np.broadcast_to(constant, (len(y), constant.size))
    if constant.size != int(np.prod(output[1:])):
        return None
    prediction = prediction.reshape(len(y), *output[1:]).astype("float32")
    if y.ndim == prediction.ndim - 1 and not indices:
        y = y[..., None]
    loss = float(
        CompileLoss(loss=run.user_loss)(y, prediction, weights[0][kept] if weights else None)
    )
    return loss if np.isfinite(loss) else None


def _finite_rows(array: np.ndarray) -> np.ndarray:
    return np.asarray(np.isfinite(array.astype("float64").reshape(len(array), -1)).all(axis=1))
