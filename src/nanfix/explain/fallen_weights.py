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
    own = {
        (address, name): weight
        for address, layer in (("", run.model), *run.members.items())
        for name, weight in _trainable(layer).items()
    }
    if not own:
        return
    first, last = (state.held(own.values()) for state in (recording.initial, seen.before))
    for (address, name), weight in own.items():
        if id(weight) in first and id(weight) in last:
            before, after = (np.asarray(state[id(weight)]).min() for state in (first, last))
            if before > 0.0 >= after:
                yield FallenWeight(address, name, float(before), float(after))


def _trainable(layer: "keras.Layer") -> "dict[str, keras.Variable]":
    """Return the trainable weights of a layer itself, none of a layer of Keras."""
    if type(layer).__module__.startswith("keras."):
        return {}
    return {
        name: each
        for name, each in own_weights(layer).items()
        if each.trainable and all(each.shape)
    }
