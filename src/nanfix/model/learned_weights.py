"""Which layers hold what was learned before: by an earlier training, or as a pretrained model."""

from collections.abc import Mapping

import keras
import numpy as np

from nanfix.model.activations import activations_of_kernels
from nanfix.model.addresses import Member
from nanfix.model.run import Run
from nanfix.private.objects import direct_layers

AT_FIRST = (0.0, 1.0)  # what biases and statistics begin as; 1 for the gate that forgets
TOLD_BY = ("bias", "beta", "moving_mean")


def learned(members: Mapping[str, Member]) -> frozenset[str]:
    """Return the addresses of the layers whose weights were learned before this training: biases,
    or the means of a normalization, are no longer what they are at first. A layer that has none of
    these counts as those beside it, and a frozen one as learned.
    """
    told = {address: _tells(layer) for address, layer in members.items()}
    found = {address for address, tells in told.items() if tells}
    for address, tells in told.items():
        if tells is None and _has_own_weights(members[address]):
            owner = address.rpartition("/")[0]
            beside = {told[each] for each in told if each.rpartition("/")[0] == owner}
            frozen = not members[address].trainable_weights
            if frozen or (True in beside and False not in beside):
                found.add(address)
    return frozenset(found)


def drawable(run: Run) -> list[tuple[str, str]]:
    """Return the address of every layer whose kernel can be drawn anew, with its activation: where
    some were drawn by chance these alone.
    """
    found = activations_of_kernels(list(run.members.items()))
    return [(address, name) for address, name in found if address not in run.learned] or found


def _has_own_weights(layer: Member) -> bool:
    return isinstance(layer, keras.Layer) and bool(layer.weights) and not direct_layers(layer)


def _tells(layer: Member) -> bool | None:
    """Return whether the weights of a layer itself show that they were learned before; None where
    they do not tell.
    """
    if not _has_own_weights(layer):
        return None
    at_first = [
        bool(np.isin(np.asarray(weight), AT_FIRST).all())
        for weight in layer.weights
        if weight.name in TOLD_BY
        and isinstance(getattr(layer, f"{weight.name}_initializer", None), keras.initializers.Zeros)
    ]
    return not all(at_first) if at_first else None
