"""Judge a training whose normalization layers have statistics that are still those they began
with.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from nanfix.model.optimizers import trained_optimizers
from nanfix.model.randomness import preserved_randomness
from nanfix.model.running_statistics import keeping, measure_anew
from nanfix.model.snapshot import restore, take_as_it_is

if TYPE_CHECKING:
    import keras

LAGS = 0.1  # statistics that still hold this share of what they began with are not yet the data's


@contextmanager
def settled(model: "keras.Model", inputs: Callable[[], Iterable[Any]]) -> Iterator[None]:
    """Let running statistics be those of `inputs` inside the `with` block, where training was too
    short for them to be.

    With a momentum of 0.999, as MobileNet and EfficientNet have, it takes thousands of steps: until
    then a model that learns looks as if it did not.
    """
    layers = lagging(model)
    if not layers:
        yield
        return
    before = take_as_it_is(model)
    with preserved_randomness():
        measure_anew(model, layers, inputs(), before)
    try:
        yield
    finally:
        restore(before)


def lagging(model: "keras.Model") -> "list[keras.Layer]":
    """Return the layers whose statistics still hold much of what they began with."""
    optimizer = next(iter(trained_optimizers(model)), None)
    if optimizer is None or not optimizer.built:
        return []
    steps = int(np.asarray(optimizer.iterations))  # a number where gradients are accumulated
    return [
        layer
        for _, layer in keeping(model)
        if layer.trainable and 0 < layer.momentum < 1 and layer.momentum**steps > LAGS
    ]
