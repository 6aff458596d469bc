"""What was not finite before the first step: weights, and what the optimizer remembers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from nanfix.model.nonfinite_weights import own_weights
from nanfix.model.run import Run
from nanfix.model.snapshot import nonfinite_variables
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Finding

if TYPE_CHECKING:
    import keras


def nonfinite_start(run: Run) -> Iterator[Finding]:
    """Yield what of the state that a training began with was non-finite; the model is in it."""
    weights = [
        (f"{name} in layer {address}", own_weights(run.members[address])[name])
        for address, names in run.nonfinite.items()
        for name in names
    ]
    if weights:
        yield Finding(Cause.NONFINITE_START, 0.98, _words(weights))
    ruined = set(nonfinite_variables(run.model))
    moments = [
        (each.path, each)
        for optimizer in run.optimizers
        for each in optimizer.variables
        if each.path in ruined
    ]
    if moments:
        yield Finding(Cause.STALE_MOMENTS, 0.97, _words(moments))


def _words(named: "list[tuple[str, keras.Variable]]") -> str:
    name, values = named[0][0], np.asarray(named[0][1])
    more = f", and some in {len(named) - 1} more" if len(named) > 1 else ""
    count = np.sum(~np.isfinite(values))
    return f"{count} of the {values.size} numbers in {name} are not finite before training{more}"
