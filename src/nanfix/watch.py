"""Train with the user's own `model.fit` while the flight recorder listens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from nanfix.data import TrainingData, feed
from nanfix.recorder import FlightRecorder, Nonfinite


@dataclass(frozen=True)
class Watched:
    """A finished or broken-off training: its history, what was recorded, and the incident, if there was one."""

    history: Mapping[str, list[float]]
    epoch: list[int]
    params: Mapping[str, Any]
    recorder: FlightRecorder
    incident: Nonfinite | None


def watch(model: Any, data: TrainingData, *, extra: Sequence[Any] = (), initial_epoch: int | None = None) -> Watched:
    """Run `model.fit` on `data` until it ends or turns non-finite.

    Args:
        extra: callbacks to run after the user's own.
        initial_epoch: the epoch to begin with, for a training that goes on from a snapshot.
    """
    resumed = initial_epoch is not None
    callbacks = user_callbacks(data, resumed=resumed)
    recorder = FlightRecorder(callbacks)
    arguments = {**data.fit_arguments(), "x": feed(data.x), "callbacks": [recorder, *callbacks, *extra]}
    if resumed:
        arguments["initial_epoch"] = initial_epoch
    recorder.attach(model)
    incident = None
    try:
        model.fit(**arguments)
    except Nonfinite as nonfinite:
        incident = nonfinite
    finally:
        recorder.detach(model)
    kept = model.history
    return Watched(dict(kept.history), list(kept.epoch), dict(kept.params or {}), recorder, incident)


def user_callbacks(data: TrainingData, *, resumed: bool = False) -> list[Any]:
    """Return the user's callbacks. A resumed training leaves BackupAndRestore out: it would load an older state."""
    given = (data.arguments or {}).get("callbacks")
    flat = keras.tree.flatten(getattr(given, "callbacks", given) or [])
    return [c for c in flat if not (resumed and isinstance(c, keras.callbacks.BackupAndRestore))]


def merged_history(before: Watched, after: Watched, start_epoch: int) -> tuple[dict[str, list[float]], list[int]]:
    """Return one history: the epochs before the rollback and those trained after it."""
    kept = [index for index, epoch in enumerate(before.epoch) if epoch < start_epoch]
    names = list(dict.fromkeys([*before.history, *after.history])) if kept else list(after.history)
    history = {
        name: [before.history[name][i] for i in kept if name in before.history] + after.history.get(name, []) for name in names
    }
    return history, [before.epoch[i] for i in kept] + after.epoch
