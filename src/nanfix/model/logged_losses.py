"""Which of the numbers that Keras logs is the loss."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


def loss_of(logs: Any) -> float | None:
    """Return the loss in Keras' logs: what is called loss, else the sum of what has loss in its
    name, as a GAN has several.

    Of a training step that logs a single number, it is that. None where nothing says which number
    is the loss: an inf among others, as a signal-to-noise ratio may be, is no failure.
    """
    known = losses_of(logs)
    return sum(known.values()) if known else None


def losses_of(logs: Any) -> dict[str, float]:
    """Return the losses in Keras' logs, each by itself, of which `loss_of` is the sum."""
    names = _losses(logs)
    if not names and isinstance(logs, Mapping) and len(logs) == 1:
        names = list(logs)
    each = ((name, _number(logs[name])) for name in names)
    return {name: value for name, value in each if value is not None}


def named_loss(logs: Any) -> float | None:
    """Return the loss in the figures of an evaluation; None where none is called so,
    since more may be better then.
    """
    known = [
        value for value in (_number(logs[name]) for name in _losses(logs)) if value is not None
    ]
    return sum(known) if known else None


def is_running_mean(model: Any, logs: Any) -> bool:
    """Say whether the loss in the logs, after several steps, is the mean over them and not that of
    the last step alone.

    It is what a metric of the model gives, in a training step of the user's own too.
    """
    losses = [
        logs[name] for name in _losses(logs) or (list(logs) if isinstance(logs, Mapping) else [])
    ]
    means = {
        float(np.asarray(metric.result()))
        for metric in model.metrics
        if isinstance(metric, keras.metrics.Mean)
    }
    return bool(losses) and all(_number(value) in means for value in losses)


def _losses(logs: Any) -> list[str]:
    if not isinstance(logs, Mapping):
        return []
    return ["loss"] if "loss" in logs else [name for name in logs if "loss" in name.lower()]


def _number(value: object) -> float | None:
    """Return a logged value as a number, the mean of several; None for what is none."""
    if isinstance(value, float):
        return value
    array = np.asarray(value)
    return (
        None
        if array.dtype.kind in "OSUM" or not array.size
        else float(array.astype("float64").mean())
    )
