"""The statistics that normalization layers keep while they train, for inference to go by."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from nanfix.model.addresses import walk
from nanfix.model.run import fades
from nanfix.model.snapshot import Snapshot, restore
from nanfix.model.undo import put

if TYPE_CHECKING:
    import keras

EXCHANGED = (
    ", and its moving mean for none: they may have been set in each other's place, where Keras "
    "takes gamma, beta, mean and variance in this order"
)


def keeping(model: "keras.Model") -> "list[tuple[str, keras.Layer]]":
    """Return address and layer of each that keeps a moving mean and variance."""
    return [(address, layer) for address, layer in walk(model) if _keeps(layer)]


def faults(model: "keras.Model") -> "list[tuple[keras.Layer, str]]":
    """Return the layers with whose statistics nothing finite can be computed in inference, and
    what is wrong with them; reads the statistics and runs nothing.
    """
    found = [(layer, _fault(layer)) for _, layer in keeping(model)]
    return [(layer, fault) for layer, fault in found if fault]


def remarks(model: "keras.Model") -> list[str]:
    """Return a sentence for each layer whose statistics are finite, but not those of the data,
    since its momentum lets them run away or stand still.
    """
    layers = [layer for _, layer in keeping(model) if layer.trainable and not _fault(layer)]
    return [
        f"Layer {layer.name} predicts with statistics that are not those of the data: "
        f"{_of_momentum(layer)}. The loss in training does not show it. Keras' default is 0.99."
        for layer in layers
        if not 0 <= layer.momentum <= 1 or (layer.momentum == 1 and _unmoved(layer))
    ]


def estimated(
    model: "keras.Model", layers: "list[keras.Layer]", inputs: Iterable[Any]
) -> "list[tuple[keras.Variable, np.ndarray]]":
    """Return the statistics of `layers`, each variable with its mean over what goes through the
    model in training; changes the state of the model.

    Args:
        inputs: batches, in the structure that the model takes.
    """
    with ExitStack() as during:
        for layer in layers:
            put(during, layer, "momentum", layer.momentum)
        for count, given in enumerate(inputs):
            for layer in layers:
                layer.momentum = count / (count + 1)  # every batch counts the same
            model(given, training=True)
    statistics = [each for layer in layers for each in (layer.moving_mean, layer.moving_variance)]
    return [(variable, np.array(variable)) for variable in statistics]


def measure_anew(
    model: "keras.Model", layers: "list[keras.Layer]", inputs: Iterable[Any], state: Snapshot
) -> None:
    """Put the model into `state`, with these layers' statistics those of the inputs."""
    measured = estimated(model, layers, inputs)
    restore(state)
    for variable, value in measured:
        variable.assign(value)


def _keeps(layer: "keras.Layer") -> bool:
    statistics = (getattr(layer, name, None) for name in ("moving_mean", "moving_variance"))
    return all(each is not None for each in statistics) and isinstance(
        getattr(layer, "momentum", None), float | int
    )


def _fault(layer: "keras.Layer") -> str:
    variance = np.asarray(layer.moving_variance).astype("float64")
    mean = np.asarray(layer.moving_mean).astype("float64")
    because = "" if fades(layer.momentum) else f"; {_of_momentum(layer)}"
    for name, values in (("mean", mean), ("variance", variance)):
        if not np.isfinite(values).all():
            count = np.sum(~np.isfinite(values))
            return (
                f"the moving {name} of layer {layer.name} is not finite for {count} of "
                f"{values.size} features{because}"
            )
    negative = variance + float(getattr(layer, "epsilon", 0.0)) < 0
    if negative.any():
        exchanged = "" if because or (mean < 0).any() else EXCHANGED
        return (
            f"the moving variance of layer {layer.name} is negative for {negative.sum()} of "
            f"{variance.size} features, down to {variance.min():.3g}{because}{exchanged}"
        )
    return ""


def _of_momentum(layer: "keras.Layer") -> str:
    words = f"with a momentum of {layer.momentum:g} they "
    if layer.momentum == 1:
        return f"{words}never move"
    return (
        f"{words}{'run away from' if abs(layer.momentum) > 1 else 'swing around'} those of the data"
    )


def _unmoved(layer: "keras.Layer") -> bool:
    return bool((np.asarray(layer.moving_mean) == 0).all()) and bool(
        (np.asarray(layer.moving_variance) == 1).all()
    )
