"""Scaling and imputation in the source of a model with a `call` of its own."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nanfix.changes.layer_source import (
    TOO_NARROW,
    WrittenLayers,
    filling_layer,
    numbers_as_written,
    scaling_layers,
)
from nanfix.model.outputs import OUTPUT
from nanfix.records.source_changes import CallChange, CallInput, NoPlace
from nanfix.source.fit_call import own_call

if TYPE_CHECKING:
    from nanfix.changes.scaling import Scaling
    from nanfix.model.run import Run
    from nanfix.records.source_changes import SourceChange
    from nanfix.source.fit_call import FitCall

BY_COLUMN = (
    "compile has no weight for the loss of a single column: scale the columns of the targets "
    "before fit, and the predictions back"
)
NESTED = (
    "the call of {} takes or gives arrays in a structure: fill and scale what it takes, and scale "
    "back what it gives, in its own code"
)


def in_call(wanted: "Scaling", run: "Run", call: "FitCall") -> "Iterator[SourceChange]":
    """Yield what a subclassed model has to do in its own `call`."""
    if not (wanted.inputs or wanted.targets or wanted.fills):
        return
    own, target, places = own_call(call.model), call.places.of(call.model), _places(run)
    unknown = {*wanted.inputs, *wanted.fills} - {*places} or {*wanted.targets} - {OUTPUT}
    if target is None or unknown:
        yield NoPlace(reason=NESTED.format(type(call.model).__name__))
        return
    inputs = []
    for name in {**wanted.fills, **wanted.inputs}:
        written = _written_for(wanted, name)
        if written is None:
            yield NoPlace(reason=TOO_NARROW)
            return
        inputs.append(
            CallInput(
                key=places[name],
                layers=written.layers,
                numbers=written.numbers,
                definitions=written.definitions,
            )
        )
    back = wanted.targets.get(OUTPUT)
    if back is not None and back.width > 1 and back.degree:
        yield NoPlace(reason=BY_COLUMN)
        back = None
    outputs = (
        None if back is None else (numbers_as_written(back.scale), numbers_as_written(back.center))
    )
    file, line = call.places.of_code(own)
    yield CallChange(
        file=file,
        line=line,
        target=target,
        inputs=inputs,
        count=len(places),
        outputs=outputs,
    )


def _places(run: "Run") -> dict[str, str | int | None]:
    """Return by name where each input is in what the model takes: its key or number, None for the
    only one; nothing of a structure in a structure.
    """
    if any(len(path) > 1 for path in run.sample.paths):
        return {}
    named = zip(run.sample.names, run.sample.paths, strict=True)
    return {name: path[0] if path else None for name, path in named if name is not None}


def _written_for(wanted: "Scaling", name: str) -> WrittenLayers | None:
    """Return the layers that fill and scale an input; None where none can."""
    written, scaling = WrittenLayers([]), wanted.inputs.get(name)
    if name in wanted.fills:
        written = filling_layer(wanted.fills[name], wanted.missing_values.get(name))
    if scaling is None:
        return written
    scaled = scaling_layers(scaling, built=False)
    return None if scaled is None else written + scaled
