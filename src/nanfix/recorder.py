"""The flight recorder: verified snapshots and the batches since the newest, kept while Keras trains."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import psutil

from nanfix.diagnosis import Onset
from nanfix.snapshot import Snapshot, nonfinite_variables, take
from nanfix.steps import RecordingStep, batch_bytes, recordable

SHARE_OF_TIME = 0.01  # snapshots may cost this share of the training
SHARE_OF_MEMORY = 0.1  # and this share of the memory that is free when the run begins


class Nonfinite(Exception):
    """Leaves `model.fit` at once when a run has become non-finite; carries where."""

    def __init__(self, detected: Onset, what: str):
        super().__init__(f"{what} at {detected}")
        self.detected = detected
        self.what = what


@dataclass(frozen=True)
class Recording:
    """What the recorder holds: snapshots, oldest first, and the batches drawn since the newest one."""

    snapshots: tuple[Snapshot, ...]
    batches: tuple[Any, ...]
    step: RecordingStep | None
    first_batch: Any = None

    @property
    def initial(self) -> Snapshot:
        return self.snapshots[0]

    @property
    def newest(self) -> Snapshot:
        return self.snapshots[-1]


@dataclass
class _Clock:
    """Mean seconds of a training step and of a snapshot, from which the distance between snapshots follows."""

    step_seconds: float = 0.0
    snapshot_seconds: float = 0.0
    _last: float = field(default_factory=time.perf_counter)

    _ticks: int = 0

    def tick(self, steps: int) -> None:
        now = time.perf_counter()
        seconds, self._last = (now - self._last) / max(steps, 1), now
        self._ticks += 1
        if self._ticks == 1:  # the first step is traced and compiled in this time
            return
        self.step_seconds = seconds if not self.step_seconds else 0.9 * self.step_seconds + 0.1 * seconds

    def distance(self) -> int:
        if not self.step_seconds:
            return 2
        return max(1, math.ceil(self.snapshot_seconds / (SHARE_OF_TIME * self.step_seconds)))


class FlightRecorder(keras.callbacks.Callback):
    """Watches one `model.fit`: tests every loss, verifies the state now and then, and keeps what a replay needs.

    Raises `Nonfinite` out of `fit` at the first non-finite loss, or at the first verification that finds a
    non-finite weight, optimizer slot or statistic. The initial state is always kept, older snapshots are thinned
    geometrically, and all of it stays within `memory_bytes` (by default a tenth of the free memory).
    """

    def __init__(self, callbacks: Sequence[Any] = (), memory_bytes: int | None = None):
        super().__init__()
        self.memory_bytes = memory_bytes or int(psutil.virtual_memory().available * SHARE_OF_MEMORY)
        self.validation_onset: Onset | None = None
        self.losses: list[float] = []
        self._user_callbacks = tuple(callbacks)
        self._snapshots: list[Snapshot] = []
        self._batches: list[Any] = []
        self._batch_bytes = 0
        self._first_batch: Any = None
        self._step: RecordingStep | None = None
        self._clock = _Clock()
        self._epoch = 0
        self._done = 0  # steps of the epoch
        self._total = 0
        self._since = 0  # steps since the newest snapshot
        self._training = False

    def attach(self, model: Any) -> None:
        """Make `model` hand out its batches; its compiled step stays Keras' own."""
        if recordable(model):
            installed = model.train_function
            self._step = installed if isinstance(installed, RecordingStep) else RecordingStep(model)
            self._step.sink = self._keep
            model.train_function = _Prepared(self._step, self)

    def detach(self, model: Any) -> None:
        """Stop recording; the traced step stays with the model, so that the next fit need not trace it again."""
        if self._step is not None:
            self._step.sink = None
            if isinstance(model.train_function, _Prepared):
                model.train_function = self._step

    def recording(self) -> Recording:
        return Recording(tuple(self._snapshots), tuple(self._batches), self._step, self._first_batch)

    @property
    def nbytes(self) -> int:
        """Bytes held: snapshots and batches."""
        return sum(snapshot.nbytes for snapshot in self._snapshots) + self._batch_bytes

    @property
    def total_steps(self) -> int:
        return self._total

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._done, self._training = epoch, 0, True

    def on_train_batch_begin(self, batch, logs=None):
        if self._step is None:
            self.keep_initial()

    def on_train_batch_end(self, batch, logs=None):
        steps = batch + 1 - self._done
        self._done = batch + 1
        self._total += steps
        self._since += steps
        self._clock.tick(steps)
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            raise Nonfinite(self._onset(), "the loss")
        if self._since >= self._clock.distance() or self._batch_bytes > self.memory_bytes // 2:
            self.snapshot()

    def on_test_begin(self, logs=None):
        self._verify_epoch()

    def on_epoch_end(self, epoch, logs=None):
        self._verify_epoch()
        self._training = False
        logs = logs or {}
        self.losses.append(logs.get("val_loss", logs.get("loss", math.nan)))
        if self.validation_onset is None and not math.isfinite(logs.get("val_loss", 0.0)):
            self.validation_onset = self._onset()

    def keep_initial(self) -> None:
        """Take the first snapshot, once the model has variables."""
        if not self._snapshots and getattr(self.model, "built", False):
            self.snapshot()

    def snapshot(self) -> None:
        """Verify the state and keep it. Raises Nonfinite, and keeps nothing, when it is not finite."""
        begun = time.perf_counter()
        snapshot = take(self.model, epoch=self._epoch, step=self._done, total=self._total, callbacks=self._user_callbacks)
        if snapshot is None:
            raise Nonfinite(self._onset(), nonfinite_variables(self.model)[0])
        room = max(2, (self.memory_bytes - self._batch_bytes) // max(snapshot.nbytes, 1))
        self._snapshots = thin([*self._snapshots, snapshot], int(room))
        self._batches, self._batch_bytes, self._since = [], 0, 0
        self._clock.snapshot_seconds = time.perf_counter() - begun
        self._clock._last = time.perf_counter()

    def _verify_epoch(self) -> None:
        """At an epoch's end, before validation and the user's callbacks see the weights: are they finite?"""
        if self._training and self._since:
            self.snapshot()

    def _keep(self, batches: list[Any]) -> None:
        if self._first_batch is None:
            self._first_batch = batches[0]
        self._batches += batches
        self._batch_bytes += sum(map(batch_bytes, batches))

    def _onset(self) -> Onset:
        return Onset(self._epoch + 1, max(self._done, 1))


class _Prepared:
    """The recording step, with the initial state kept before its first run."""

    def __init__(self, step: RecordingStep, recorder: FlightRecorder):
        self._step, self._recorder = step, recorder

    def __call__(self, iterator: Any) -> Any:
        if not self._recorder._snapshots:
            self._step.prepare(iterator)
            self._recorder.keep_initial()
        return self._step(iterator)


def thin(snapshots: list[Snapshot], room: int) -> list[Snapshot]:
    """Keep the initial and the newest snapshot and, between them, one for each doubling of age, at most `room`."""
    newest = snapshots[-1]
    ages: dict[int, Snapshot] = {}
    for snapshot in snapshots[1:-1]:
        ages.setdefault((newest.total - snapshot.total).bit_length(), snapshot)
    between = sorted(ages.values(), key=lambda snapshot: snapshot.total)
    kept = [snapshots[0], *between[max(0, len(between) - max(0, room - 2)) :]]
    return kept if newest is snapshots[0] else [*kept, newest]
