"""Refuse what cannot be trained, before anything is changed."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from nanfix.records.budget import Budget
from nanfix.records.errors import InputError
from nanfix.remedies.fix import Fix
from nanfix.search.workers.pool import Workers


def check_arguments(
    *,
    budget: object,
    strategies: object,
    forbid: object,
    seed: object,
    workers: Any,
    fix: object,
    repair_divergence: object,
) -> None:
    """Raise InputError for an argument of nanfix's own that is of the wrong kind."""
    count = "a number of processes, at least 1, or nanfix.Workers(...)"
    names = 'a list of names, for instance ["scale-inputs"], or None for all'
    for name, value, fits, expected in (
        (
            "budget",
            budget,
            budget is None or isinstance(budget, Budget),
            "nanfix.Budget(trials=30, seconds=None)",
        ),
        ("strategies", strategies, strategies is None or _are_names(strategies), names),
        ("forbid", forbid, _are_names(forbid), "a list of names of strategies"),
        ("seed", seed, seed is None or _is_whole(seed), "a whole number, or None"),
        (
            "workers",
            workers,
            isinstance(workers, Workers) or (_is_whole(workers) and workers >= 1),
            count,
        ),
        (
            "fix",
            fix,
            fix is None or isinstance(fix, Fix),
            "a nanfix.Fix, as nanfix.read_fix(path) returns it",
        ),
        (
            "repair_divergence",
            repair_divergence,
            isinstance(repair_divergence, bool),
            "True or False",
        ),
    ):
        if not fits:
            received = f"{name}={value!r}"
            raise InputError(
                f"{name} is not what nanfix.fit takes. Expected: {expected}. Received: {received}."
            )


def _are_names(value: object) -> bool:
    return (
        isinstance(value, Iterable)
        and not isinstance(value, str | bytes)
        and all(isinstance(name, str) for name in value)
    )


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_model(model: keras.Model) -> None:
    """Raise InputError for what is not a compiled Keras model."""
    if not isinstance(model, keras.Model):
        raise InputError(
            "nanfix.fit trains Keras models. Expected: a keras.Model. "
            f"Received: {type(model).__module__}.{type(model).__name__}. "
            "Models of the legacy package tf_keras have to be made with keras."
        )
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            "nanfix repairs Keras on TensorFlow. Expected: the backend tensorflow. "
            f"Received: {keras.backend.backend()}. Set KERAS_BACKEND=tensorflow before Keras is "
            "imported."
        )
    if not model.compiled:
        raise InputError(
            "The model is not compiled. Expected: a compiled model. Received: one without "
            "optimizer and loss. Call model.compile first."
        )


def check_memory(memory_bytes: int | None) -> None:
    """Raise InputError for a limit that leaves no memory."""
    if memory_bytes is not None and memory_bytes <= 0:
        raise InputError(
            "The flight recorder needs memory. Expected: memory_bytes > 0, or None for a tenth of "
            f"what is free. Received: memory_bytes={memory_bytes}. Leave it out, or allow some."
        )
