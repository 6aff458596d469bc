"""The mean and variance that normalization layers should go by, where with those that they have
nothing finite can be computed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np

from nanfix.data.arrays import as_keras, rows_in, take_rows
from nanfix.install.sites import callable_alone
from nanfix.model.normalization import fed_by, finite_statistics, ruined
from nanfix.model.randomness import preserved_randomness
from nanfix.model.run import Sample, Statistics
from nanfix.model.running_statistics import estimated, faults, keeping
from nanfix.model.snapshot import restore, take_as_it_is
from nanfix.model.undo import override, put
from nanfix.records.features import short

ROWS, BATCHES = 64, 32  # that frozen layers are measured on


def fitting_statistics(model: keras.Model, sample: Sample) -> dict[str, Statistics | None]:
    """Return by address the layers that training goes by the statistics of, where these are not
    finite or cannot be; each with those of the data, None where they cannot be had.

    They are Normalization layers that were adapted to data with holes, and frozen layers with a
    moving mean and variance, as of a model that was loaded; of the latter all as soon as one is at
    fault, since they were set together.
    """
    found: dict[str, Statistics | None] = {}
    unknown: dict[str, Any] = {}
    for address, layer in ruined(model):
        name = fed_by(model, layer)
        if name is None:
            unknown[address] = layer
        else:
            given = sample.inputs[sample.names.index(name)]
            found[address] = finite_statistics(layer, given)
    if unknown:
        found |= _passing(model, unknown, sample)
    frozen = {address: layer for address, layer in keeping(model) if not layer.trainable}
    at_fault = {id(layer) for layer, _ in faults(model)}
    if not any(id(layer) in at_fault for layer in frozen.values()):
        return found
    if sample.x is None or not callable_alone(model):
        return {**found, **dict.fromkeys(frozen)}
    return {**found, **_measured(model, frozen, sample.x)}


def _passing(
    model: keras.Model, layers: Mapping[str, Any], sample: Sample
) -> dict[str, Statistics | None]:
    """Return the statistics of what goes into layers that were adapted to data with holes, as the
    model calls them in code; None of one that it does not call.
    """
    given: dict[str, list[np.ndarray]] = {address: [] for address in layers}
    if sample.x is not None and callable_alone(model):
        with ExitStack() as during, preserved_randomness():
            for address, layer in layers.items():
                override(during, layer, "call", _listening(layer.call, given[address]))
            for batch in _batches(sample.x):
                model(batch, training=False)
    return {
        address: finite_statistics(layer, np.concatenate(given[address]))
        if given[address]
        else None
        for address, layer in layers.items()
    }


def _listening(call: Callable[..., Any], given: list[np.ndarray]) -> Callable[..., Any]:
    def listening(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        given.append(np.asarray(keras.ops.convert_to_numpy(inputs)))
        return call(inputs, *args, **kwargs)

    return listening


def _batches(x: Any) -> Iterator[Any]:
    starts = range(0, max((rows_in(x) or 0) - ROWS, 0) + 1, ROWS)[:BATCHES]
    return (as_keras(take_rows(x, slice(start, start + ROWS))) for start in starts)


def _measured(model: keras.Model, frozen: dict[str, Any], x: Any) -> dict[str, Statistics | None]:
    """Return the statistics of what goes through frozen layers; None of one that the model holds to
    those it has, whatever it is told.
    """
    state, layers = take_as_it_is(model), list(frozen.values())
    before = [_statistics(layer) for layer in layers]
    try:
        with ExitStack() as during, preserved_randomness():
            for layer in layers:
                put(during, layer, "trainable", True)
            estimated(model, layers, _batches(x))
        after = [_statistics(layer) for layer in layers]
    finally:
        restore(state)
    given = zip(frozen, before, after, strict=True)
    return {address: None if old == new else new for address, old, new in given}


def _statistics(layer: Any) -> Statistics:
    return list(short(np.array(layer.moving_mean))), list(short(np.array(layer.moving_variance)))
