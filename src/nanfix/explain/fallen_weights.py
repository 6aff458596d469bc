"""Weights that stood for a scale, a share or the like, and that training has made negative."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from nanfix.explain.replay import Replay
from nanfix.model.nonfinite_weights import own_weights
from nanfix.model.run import Run
from nanfix.recorder.recording import Recording
from nanfix.records.fallen_weight import FallenWeight

if TYPE_CHECKING:
    import keras


def fallen_weights(run: Run, recording: Recording, seen: Replay) -> Iterator[FallenWeight]:
    """Yield the weights of layers of the user's own, and of the model, that all began above 0, and
    one of whose numbers had come to 0 or below just before the failing step.

    Kernels begin on both sides of 0, and a layer of Keras bears whatever its weights become.
    """
    if seen.before is None:
        return
    first, last = (
        {id(v): np.asarray(tensor) for v, tensor in zip(s.variables, s.tensors, strict=True)}
        for s in (recording.initial, seen.before)
    )
    for address, layer in (("", run.model), *run.members.items()):
        for name, weight in _trainable(layer).items():
            before, after = first.get(id(weight)), last.get(id(weight))
            if before is None or after is None or not before.size:
                continue
            if before.min() > 0.0 >= after.min():
                yield FallenWeight(address, name, float(before.min()), float(after.min()))


def _trainable(layer: "keras.Layer") -> "dict[str, keras.Variable]":
    """Return the trainable weights of a layer itself, none of a layer of Keras."""
    if type(layer).__module__.startswith("keras."):
        return {}
    return {name: each for name, each in own_weights(layer).items() if each.trainable}
