"""Train with the user's own `model.fit` while the flight recorder listens."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nanfix.data.training_data import TrainingData
from nanfix.model.faults import Net
from nanfix.model.object_state import plain_state
from nanfix.model.quiet import heard
from nanfix.model.snapshot import Snapshot, nonfinite_variables, restore
from nanfix.recorder._flight_recorder import FlightRecorder
from nanfix.recorder.callbacks import (
    broken_off,
    put_off_end,
    resumed,
    still_training,
    user_callbacks,
    without_writers,
)
from nanfix.recorder.outset import outset
from nanfix.recorder.recording import Nonfinite, Recording
from nanfix.recorder.snapshot_files import SnapshotStore, joined
from nanfix.records.diagnosis import Onset

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Watching:
    """How a training is to be watched: bytes of memory, where snapshots go on disk, and whether to
    write some there in any case so that a killed run can be gone on with.

    `writes` is False for a training that is only there to fail again, since a later one has written
    its files already. With `stop_diverged` a training that has diverged is left like one that
    turned non-finite, but at its end, as it may recover. `earlier` says how many lines of a
    CSVLogger's file, by its name, are of trainings before this one. `net` keeps what nanfix itself
    fails of.
    """

    memory_bytes: int | None = None
    store: SnapshotStore | None = None
    durable: bool = False
    writes: bool = True
    stop_diverged: bool = False
    earlier: Mapping[str, int] = field(default_factory=dict)
    net: Net = field(default_factory=Net)


@dataclass(frozen=True)
class Watched:
    """A finished or broken-off training: its history, what was recorded, and the
    incident, if there was one.

    `begun` are the callbacks of the user's to which a training has begun and not ended: after an
    incident, and in a training with a fix, which may not be the last. `knew` is what callbacks
    remembered when an incident ended the training.
    """

    history: Mapping[str, list[float]]
    epoch: list[int]
    params: Mapping[str, Any]
    recorder: FlightRecorder
    incident: Nonfinite | None
    seconds: float
    notes: tuple[str, ...] = field(default=())
    begun: "tuple[keras.callbacks.Callback, ...]" = ()
    knew: "tuple[tuple[keras.callbacks.Callback, dict[str, Any]], ...]" = ()


def watch(  # long: a third is its docstring, a fifth its answer
    model: "keras.Model",
    data: TrainingData,
    watching: Watching | None = None,
    *,
    adapt: "Callable[[list[keras.callbacks.Callback]], list[keras.callbacks.Callback]]" = list,
    start: Snapshot | None = None,
    begun: "Sequence[keras.callbacks.Callback]" = (),
    judged: bool = True,
    through: bool = False,
) -> Watched:
    """Run `model.fit` on `data` until it ends or turns non-finite.

    A durable run that was killed goes on from the newest snapshot in the store.

    Args:
        adapt: makes of the user's callbacks those to train with.
        start: the snapshot that a rolled-back training goes on from; its state is the
            model's already.
        begun: the callbacks that went through the training that was rolled back: to
            them this is still the same one.
        through: whether to train on as Keras does where the loss turns non-finite; nothing is
            recorded then.
        judged: whether a training that goes on from a snapshot is judged before it counts; else
            callbacks hear of its end at once.

    Raises:
        Whatever the user's own code raises, and KeyboardInterrupt. The model is left as Keras
        leaves it or, where that is non-finite, in its last verified state.
    """
    watching = watching or Watching()
    saved = watching.store.saved() if watching.store is not None and watching.durable else []
    resume = (saved[0], saved[-1]) if saved else None
    callbacks = user_callbacks(data)
    recorder = FlightRecorder(
        callbacks,
        watching.memory_bytes,
        watching.store,
        watching.durable,
        resume,
        watching.net,
        stop_diverged=watching.stop_diverged,
    )
    recorder.failed = through
    arguments = data.fit_arguments()
    taking_part = callbacks if watching.writes else without_writers(callbacks)
    origin = (start.epoch, start.callbacks) if start is not None else None
    if resume is not None:
        origin = (resume[1].epoch, resume[1].states(callbacks))
    time_begun = time.perf_counter()
    with ExitStack() as during:
        listeners = taking_part
        if origin is not None:
            arguments["initial_epoch"], states = origin
            listeners = resumed(
                taking_part,
                states,
                origin[0],
                rolled_back=start and start.taken,
                begun=begun,
                during=during,
                earlier=watching.earlier,
            )
        if start is not None and judged:
            put_off_end(taking_part, during)
        arguments["callbacks"] = [recorder, *adapt(listeners)]
        recorder.attach(model)
        during.callback(recorder.detach)
        incident = _fit(model, arguments, recorder) or _ruined_at_the_end(model, recorder)
        knew = (
            tuple((callback, plain_state(callback)) for callback in taking_part)
            if incident is not None
            else ()
        )
        if incident is not None:
            recorder.abandon()
            broken_off(listeners)
    outset(model, recorder.recording(steps=False))
    kept = model.history
    history, epochs = joined(resume[1] if resume else None, kept.history, kept.epoch)
    broken = incident is not None and not incident.ended
    in_training = broken or (start is not None and judged)
    return Watched(
        history=history,
        epoch=epochs,
        params=dict(kept.params or {}),
        recorder=recorder,
        incident=incident,
        seconds=time.perf_counter() - time_begun,
        notes=(str(resume[1]),) if resume else (),
        begun=still_training((*begun, *taking_part)) if in_training else (),
        knew=knew,
    )


def _fit(
    model: "keras.Model", arguments: dict[str, Any], recorder: FlightRecorder
) -> Nonfinite | None:
    """Run `model.fit`, and return what it was left for; None when it came to its end."""
    incident = None
    try:
        with heard():
            model.fit(**arguments)
    except Nonfinite as nonfinite:
        incident = nonfinite.with_traceback(None)
    except BaseException as failed:
        incident = recorder.refused(failed)
        if incident is None:
            recorder.abandon()
            restore_if_ruined(model, recorder.recording())
            raise
    return incident or recorder.incident  # a `fit` of the user's own may have swallowed it


def _ruined_at_the_end(model: "keras.Model", recorder: FlightRecorder) -> Nonfinite | None:
    """Return the incident of weights that were finite when the training had ended, and are not
    since callbacks were told. None where they are, or that is not known.
    """
    recording, epochs = recorder.recording(steps=False), model.history.epoch
    watched = recording.snapshots and recording.steps_per_epoch and epochs and not recorder.failed
    ruined = nonfinite_variables(model) if watched else []
    if not ruined:
        return None
    return Nonfinite(Onset(epochs[-1] + 1, recording.steps_per_epoch or 1), ruined[0], ended=True)


def restore_if_ruined(model: "keras.Model", recording: Recording) -> None:
    """Put the model back to its last verified state when a training that somebody else
    ended has left it non-finite.
    """
    if recording.snapshots and nonfinite_variables(model):
        restore(recording.good)


def merged_history(
    before: Watched, after: Watched, start_epoch: int
) -> tuple[dict[str, list[float]], list[int]]:
    """Return one history: the epochs before the rollback and those trained after it."""
    kept = [index for index, epoch in enumerate(before.epoch) if epoch < start_epoch]
    names = list(dict.fromkeys([*before.history, *after.history])) if kept else list(after.history)
    history = {
        name: [before.history[name][i] for i in kept if name in before.history]
        + list(after.history.get(name, []))
        for name in names
    }
    return history, [before.epoch[i] for i in kept] + after.epoch
