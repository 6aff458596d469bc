"""The statistics that Normalization layers were adapted to: constants of a model, which data with
holes make NaN for good.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from nanfix.model.addresses import declared_inputs, walk
from nanfix.private.objects import all_layers, graph_of
from nanfix.records.features import short


def constants(model: keras.Model) -> set[int]:
    """Return the ids of the variables that `adapt` has set and no training changes."""
    layers = [layer for layer in all_layers(model) if _is_adapted(layer)]
    return {
        id(variable) for layer in layers for variable in (layer.adapt_mean, layer.adapt_variance)
    }


def ruined(model: keras.Model) -> list[tuple[str, keras.layers.Normalization]]:
    """Return address and layer of each Normalization that holds a non-finite mean or variance."""
    layers = [(address, layer) for address, layer in walk(model) if _is_adapted(layer)]
    return [
        (address, layer)
        for address, layer in layers
        if not all(np.isfinite(a).all() for a in statistics(layer))
    ]


def statistics(layer: keras.Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the variance that a layer was adapted to, or that it keeps."""
    mean, variance = _variables(layer)
    return np.array(mean), np.array(variance)


def fed_by(model: keras.Model, layer: keras.Layer) -> str | None:
    """Return the name of the input of the model that goes straight into the layer; None
    where that is not known.
    """
    try:
        given = layer.input
    except (AttributeError, ValueError):  # it is called in code, or in several places
        return None
    named = zip(declared_inputs(model), getattr(graph_of(model), "inputs", ()), strict=True)
    return next((name for name, tensor in named if tensor is given), None)


def finite_statistics(
    layer: keras.layers.Normalization, array: np.ndarray
) -> tuple[list[float], list[float]]:
    """Return mean and variance of the finite values of `array`, shape (rows, ...), as `adapt`
    would; 0 and 1 of none.
    """
    finite = np.ma.masked_invalid(array.astype("float64"))
    kept = {axis % array.ndim for axis in layer.axis}
    others = tuple(axis for axis in range(array.ndim) if axis not in kept)
    mean, variance = finite.mean(axis=others), finite.var(axis=others)
    return list(short(np.ravel(np.ma.filled(mean, 0.0)))), list(
        short(np.ravel(np.ma.filled(variance, 1.0)))
    )


def adapt_to(
    layer: keras.Layer,
    mean: Sequence[float] | np.ndarray,
    variance: Sequence[float] | np.ndarray,
) -> None:
    """Give a layer these statistics."""
    for variable, values in zip(_variables(layer), (mean, variance), strict=True):
        variable.assign(np.reshape(values, variable.shape))
    if isinstance(layer, keras.layers.Normalization):
        layer.finalize_state()


def _variables(layer: Any) -> tuple[keras.Variable, keras.Variable]:
    if _is_adapted(layer):
        return layer.adapt_mean, layer.adapt_variance
    return layer.moving_mean, layer.moving_variance


def _is_adapted(layer: object) -> bool:
    return isinstance(layer, keras.layers.Normalization) and hasattr(layer, "adapt_mean")
