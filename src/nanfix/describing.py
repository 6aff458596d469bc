"""A training run as data: what the model is made of, what it is fed, and where the two meet."""

from typing import Any

import keras

from nanfix.adapted import fed_by, ruined
from nanfix.data import TrainingData, flat_arrays, take_rows
from nanfix.folding import Sites, find_sites
from nanfix.quiet import quiet
from nanfix.rebuild import can_rebuild, container
from nanfix.recording import Recording
from nanfix.replay import preserved_randomness
from nanfix.resumption import user_callbacks
from nanfix.setup import Sample, Setup, walk

WEIGHTED = (keras.layers.Dense, keras.layers.RNN, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@quiet()
def describe(model: Any, data: TrainingData, recorded: list[Any]) -> tuple[Setup, Sites]:
    """Return the run as data, and where its inputs and outputs meet the model's layers. The model is built if it was not."""
    rows = data.rows(recorded)
    inputs, targets = tuple(flat_arrays(rows.x)), tuple(flat_arrays(rows.y))
    with preserved_randomness():
        sites = find_sites(model, take_rows(rows.x, slice(0, 2)))
    rebuildable = can_rebuild(model)
    scalable = tuple(
        array.dtype.kind in "fiu" and not site.looked_up and (site.foldable or rebuildable)
        for array, site in zip(inputs, sites.inputs, strict=True)
    )
    imputable = tuple(array.dtype.kind == "f" and rebuildable for array in inputs)
    whole = tuple(tuple(flat_arrays(part)) for part in (data.x, data.y, data.sample_weight)) if data.is_arrays else None
    sample = Sample(inputs, targets, scalable, rows.x, imputable, whole, *_batch_sizes(data, recorded))
    steps = data.training_part().steps_per_epoch()
    planned = None if steps is None else steps * data.epochs
    entries = {id(layer) for site in sites.inputs for layer in site.layers}
    behind = tuple(position for position, layer in _normalizable(model) if id(layer) not in entries)
    members = tuple(layer for _, layer in walk(model))
    known = {"members": members, "normalizable": behind, "rebuildable": rebuildable, "planned_steps": planned}
    known["ruined"] = {position: fed_by(model, layer) for position, layer in ruined(model)}
    varies = any(isinstance(callback, keras.callbacks.LearningRateScheduler) for callback in user_callbacks(data))
    known["rate_varies"] = varies
    return Setup(model, sample, output_foldable=sites.output.foldable, **known), sites


def _normalizable(model: Any) -> list[tuple[int, Any]]:
    """Return position and layer of the layers of weights, the first apart, that another layer can be put in front of."""
    weighted = [(position, layer) for position, layer in walk(model) if isinstance(layer, WEIGHTED)]
    return [(position, layer) for position, layer in weighted[1:] if container(model, layer) is not None]


def _batch_sizes(data: TrainingData, recorded: list[Any]) -> tuple[int | None, int | None]:
    """Return the rows of a full batch, of a stream as far as recorded, and of all that is trained on, None for a stream."""
    if data.is_arrays:
        return int((data.arguments or {}).get("batch_size") or 32), len(flat_arrays(data.training_part().x)[0])
    batches = (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in recorded)
    return max((len(flat_arrays(x)[0]) for x in batches), default=None), None


def recorded_batches(data: TrainingData, recording: Recording) -> list[Any]:
    """Return the batches of a stream that are still at hand; arrays need none."""
    kept = [step.whole_batch for step in recording.steps] or [recording.first_batch]
    return [] if data.is_arrays else [batch for batch in kept if batch is not None]
