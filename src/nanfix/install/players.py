"""What the losses of a training step are with weights as they were before the training."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from nanfix.install._row_by_row import varies
from nanfix.model.logged_losses import losses_of
from nanfix.model.optimizers import base, trained_slots, updates_withheld
from nanfix.model.randomness import preserved_randomness
from nanfix.model.snapshot import Snapshot, read, restore, take_as_it_is
from nanfix.model.training_step import Batch, RecordingStep, recordable
from nanfix.model.undo import override
from nanfix.private.objects import direct_layers, updated_variables
from nanfix.private.tensorflow import functions_run_eagerly

if TYPE_CHECKING:
    import keras

Losses = list[dict[str, float]]  # of each batch, by their names


@dataclass(frozen=True)
class Player:
    """What one optimizer trains, called by the name of the optimizer.

    `moved` is how far its weights are from what they were before the training, as a share of their
    norm; `grown` how many times as large they are. `idle` are the losses with its weights as they
    were, and all others as they are now.
    """

    name: str
    moved: float
    grown: float
    idle: Losses


@dataclass(frozen=True)
class Played:
    """The losses of a trained model on the same few batches: as it is now, with each player as it
    was before, and with all of them.

    `lifeless` are the parts of the model that give the same for all rows, whatever they are given.
    """

    now: Losses
    untrained: Losses
    players: Sequence[Player]
    lifeless: Sequence[str] = ()


def players(model: "keras.Model") -> int:
    """Return how many optimizers train the model."""
    return len(trained_slots(model))


def untrained(model: "keras.Model", start: Snapshot, initial: Snapshot) -> Snapshot:
    """Return the state of a prepared model that has learned nothing, where its training begins from
    `start`, which may be later than `initial`.
    """
    return initial if start.total else take_as_it_is(model)


def play(
    model: "keras.Model", before: Snapshot, batches: Sequence[Batch], *, looked_at: bool = False
) -> Played | None:
    """Run the training step of a prepared model on batches, in each of these states; the model is
    left as it was. None where Keras does not run the step.

    Args:
        before: the state before the training.
        looked_at: whether to look for lifeless parts too, by a step that runs eagerly.
    """
    if not recordable(model) or not batches:
        return None
    known: Any = model.train_function
    step = known if isinstance(known, RecordingStep) else RecordingStep(model)
    now = take_as_it_is(model)
    was = before.held()
    trained = {
        _called(slot): [v for v in updated_variables(base(slot.optimizer)) if id(v) in was]
        for slot in trained_slots(model)
    }

    def losses_without(weights: Iterable[Any]) -> Losses:
        return list(_losses_without(model, step, now, [(v, was[id(v)]) for v in weights], batches))

    try:
        with preserved_randomness():
            each = [
                Player(name, *_distance(weights, was), losses_without(weights))
                for name, weights in trained.items()
            ]
            everything = [weight for weights in trained.values() for weight in weights]
            idle = each[0].idle if each else []
            untrained = losses_without(everything) if len(each) > 1 else idle
            restore(now)
            lifeless = _lifeless(model, batches[0]) if looked_at else ()
            return Played(losses_without(()), untrained, each, lifeless)
    finally:
        restore(now)


def _losses_without(
    model: "keras.Model",
    step: RecordingStep,
    now: Snapshot,
    changed: Sequence[tuple[Any, Any]],
    batches: Iterable[Batch],
) -> Iterator[dict[str, float]]:
    for batch in batches:
        restore(now)
        for variable, value in changed:
            variable.assign(value)
        model.reset_metrics()
        yield losses_of(step.replay(batch))


def _distance(weights: Sequence[Any], was: Mapping[int, Any]) -> tuple[float, float]:
    """Return how far weights are from what they were, and how many times as large."""
    pairs = [(np.asarray(read(v), "float64"), np.asarray(was[id(v)], "float64")) for v in weights]
    far, large, first = (
        float(np.sqrt(sum(np.square(each).sum() for each in of)))
        for of in ([a - b for a, b in pairs], [a for a, _ in pairs], [b for _, b in pairs])
    )
    return far / (first or 1.0), large / (first or large or 1.0)


def _lifeless(model: "keras.Model", batch: Batch) -> list[str]:
    """Return the parts of a model that give the same for all rows in every call of a step, though
    what they are given is not.
    """
    heard: dict[str, list[tuple[Any, Any]]] = {}
    with ExitStack() as during:
        for part in direct_layers(model):
            if part.trainable_variables:
                override(during, part, "call", _hearing(part, heard.setdefault(part.name, [])))
        during.enter_context(updates_withheld(model, lambda optimizer, gradients: None))
        during.enter_context(functions_run_eagerly(True))
        model.train_step(batch)
    return [
        name
        for name, calls in heard.items()
        if any(_varies(given) for given, _ in calls)
        and not any(_varies(given) and _varies(made) for given, made in calls)
    ]


def _hearing(part: Any, heard: list[tuple[Any, Any]]) -> Any:
    call = part.call

    def listened(*args, **kwargs):
        made = call(*args, **kwargs)
        heard.append(((args, kwargs), made))
        return made

    return listened


def _varies(nest: Any) -> bool:
    """Say whether rows differ; it is not known of what a guard computes in a graph of its own."""
    known = (leaf for leaf in tf.nest.flatten(nest) if tf.is_tensor(leaf))
    arrays = [np.asarray(leaf) for leaf in known if hasattr(leaf, "numpy")]
    return any(varies(array) for array in arrays if array.ndim and len(array) > 1)


def _called(slot: Any) -> str:
    return slot.name if slot.entry is None else f"{slot.name}[{slot.entry!r}]"
