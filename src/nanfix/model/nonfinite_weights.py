"""Weights that hold NaN or inf: which layer they belong to, and what they could begin with."""

from typing import Any

import keras
import numpy as np

from nanfix.model.addresses import walk
from nanfix.model.snapshot import meant_statistics, nonfinite_variables
from nanfix.records.features import short


def own_weights(layer: keras.Layer) -> dict[str, keras.Variable]:
    """Return the weights that a layer holds itself, by their names; not those of layers in it."""
    below = {id(weight) for _, each in walk(layer) for weight in getattr(each, "weights", ())}
    own = [weight for weight in getattr(layer, "weights", ()) if id(weight) not in below]
    return {weight.name: weight for weight in own}


def nonfinite_weights(model: keras.Model) -> dict[str, dict[str, tuple[float, float]]]:
    """Return by the address of their layer the weights that hold NaN or inf: by name, the mean and
    the deviation of numbers that suit these entries.

    What no training changes may begin with inf, as a minimum does, but not beside other numbers, as
    a logarithm of class shares may hold it.
    """
    ruined = {
        *nonfinite_variables(model),
        *(each.path for each in meant_statistics(model) if is_at_fault(np.asarray(each))),
    }
    if not ruined:
        return {}
    found = {
        address: {
            name: _fitting_start(layer, name)
            for name, weight in own_weights(layer).items()
            if weight.path in ruined
        }
        for address, layer in walk(model)
    }
    return {address: starts for address, starts in found.items() if starts}


def is_at_fault(numbers: np.ndarray) -> bool:
    """Say whether some of the numbers that no training changes are not finite by mistake: NaN, or
    infinities beside finite numbers. Infinities alone, or beside nothing but 0, are meant, as in a
    mask or a minimum to begin with.
    """
    numbers = numbers.astype("float64")
    finite = numbers[np.isfinite(numbers)]
    return bool(np.isnan(numbers).any() or (finite.size < numbers.size and finite.any()))


def _fitting_start(layer: keras.Layer, name: str) -> tuple[float, float]:
    """Return the mean and the deviation of numbers that suit the non-finite entries of a weight.

    They are those of its finite entries. Entries of a vector get one number: the mean of the finite
    ones, or the least of them in the place of -inf, as is the log of a class that never occurred.
    A weight without a finite entry goes by what its layer draws.
    """
    values = np.asarray(own_weights(layer)[name], "float64")
    finite = values[np.isfinite(values)]
    if not finite.size:
        finite = _drawn(layer, name, values.shape)
    elif values.ndim < 2:
        only_negative = (values[~np.isfinite(values)] == -np.inf).all()
        return short([finite.min() if only_negative else finite.mean()])[0], 0.0
    mean, deviation = short([finite.mean(), finite.std()])
    return mean, deviation


def _drawn(layer: keras.Layer, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return what a layer draws for a weight, or Keras' default for its shape where that is not
    finite or not known.
    """
    stem = name.removesuffix("kernel").rstrip("_")
    names = (f"{name}_initializer", f"{stem}_initializer", f"{stem}s_initializer")
    own: Any = next((getattr(layer, each) for each in names if hasattr(layer, each)), None)
    if isinstance(own, keras.Initializer):
        drawn = np.asarray(own(shape), "float64")
        if np.isfinite(drawn).all():
            return drawn
    usual: Any = keras.initializers.get("glorot_uniform" if len(shape) > 1 else "zeros")
    return np.asarray(usual(shape), "float64")
