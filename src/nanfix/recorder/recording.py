"""What a flight recorder leaves behind: snapshots, and the batches since the newest of them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from nanfix.model.snapshot import Snapshot, take_as_it_is
from nanfix.model.training_step import Batch, Drawn, RecordingStep, whole
from nanfix.records.diagnosis import Onset

EXPLODED = 10.0  # times what the training began with or had gained, a loss has exploded
TIMES_THE_FIRST = 1e4  # a loss that is so much greater shows that a training has diverged,
GREW = 10.0  # if the weights are so many times as large as they were, too
NONFINITE, DIVERGED = "became non-finite", "has diverged"  # what happens to a loss
OUTGROWN = 100.0  # times their first norm, weights have
# So begins what TensorFlow says of a label without a class.
REFUSED_LABEL = "Received a label value of"


# Variables that callbacks set, such as learning rates, with what they held.
Settings = tuple[tuple[keras.Variable | tf.Variable, Any], ...]
SetAt = tuple[int, Settings]  # and after how many steps of the run


class Nonfinite(Exception):
    """Leaves `model.fit` at once when a run has become non-finite; carries where, and whether the
    logs of the step show it.

    `refused` is what TensorFlow said where it would not compute a step, as some devices
    do where others give NaN. `happened` says that a training which stayed finite has diverged,
    `ended` that it had come to its end with finite weights, and callbacks had been told.
    """

    def __init__(
        self,
        detected: Onset,
        what: str,
        *,
        logged: bool = False,
        refused: str = "",
        happened: str = NONFINITE,
        ended: bool = False,
    ):
        super().__init__(f"{what} {happened} at {detected}")
        self.detected = detected
        self.happened = happened
        self.ended = ended
        self.logged = logged
        self.refused = refused


def refuses_label(error: object) -> bool:
    """Say whether TensorFlow refused to compute the loss of a class label that has no class."""
    return REFUSED_LABEL in str(error)


def refused_label(error: object) -> str:
    """Return what TensorFlow says of such a label, in one line and without the labels
    of the whole batch.
    """
    return (
        (REFUSED_LABEL + str(error).partition(REFUSED_LABEL)[2].partition("Label values")[0])
        .strip()
        .rstrip(".")
        .strip()
    )


@dataclass(frozen=True)
class Execution:
    """One call of the training function: `step` (from 1) of `epoch` (from 0) was the
    first step in it.

    `settings` pairs the variables that a callback may have set before it, with what they held.
    """

    epoch: int
    step: int
    settings: Settings
    drawn: Drawn


@dataclass(frozen=True)
class RecordedStep:
    """One step of training: its batch as it was drawn, and where in the run it stood
    (epoch and step from 1).
    """

    at: Onset
    batch: Batch
    settings: Settings = ()

    @property
    def whole_batch(self) -> Batch:
        """The batch of all replicas together."""
        return whole(self.batch)


@dataclass(frozen=True)
class Recording:
    """Snapshots, oldest first; the steps since the newest; and the series the recorder kept.

    `losses` are those of the last steps, `loss_at` that of each snapshot by its number of steps,
    `epoch_losses` what each epoch came to (validation, where there was one), `steps_per_epoch` the
    steps of the last whole one, `set_at` when callbacks have set the model's own numbers, from the
    beginning on. A training whose loss rises above the `ceiling` has diverged.
    """

    snapshots: tuple[Snapshot, ...]
    steps: tuple[RecordedStep, ...]
    step_of_keras: RecordingStep | None
    first_batch: Batch = None
    losses: tuple[float, ...] = ()
    epoch_losses: Mapping[int, float] = field(default_factory=dict)
    steps_per_epoch: int | None = None
    loss_at: Mapping[int, float] = field(default_factory=dict)
    ceiling: float = math.inf
    set_at: tuple[SetAt, ...] = ()

    def failed(self, loss: float) -> bool:
        """Say whether this loss of a step shows that the training has failed."""
        return not math.isfinite(loss) or loss > self.ceiling

    @property
    def initial(self) -> Snapshot:
        return self.snapshots[0]

    @property
    def newest(self) -> Snapshot:
        return self.snapshots[-1]

    @property
    def start_of_epoch(self) -> Snapshot:
        """The newest snapshot at which an epoch began."""
        return [snapshot for snapshot in self.snapshots if snapshot.step == 0][-1]

    @property
    def grown(self) -> tuple[float, float] | None:
        """The first and the last loss of a training that has diverged, None of any other: the last
        is thousands of times the first.
        """
        if not self.snapshots or not self.losses:
            return None
        first, last = self.loss_at.get(self.initial.total, math.nan), self.losses[-1]
        return (first, last) if first > 0.0 and last > TIMES_THE_FIRST * first else None

    @property
    def good(self) -> Snapshot:
        """The newest snapshot of a model that is still of use: its loss has not exploded and its
        weights are of a usual size.
        """
        return next(
            (snapshot for snapshot in reversed(self.snapshots[1:]) if self.is_good(snapshot)),
            self.initial,
        )

    def is_good(self, snapshot: Snapshot) -> bool:
        """Say whether a model in the state of a snapshot is still of use."""
        ended = self.epoch_losses.get(snapshot.epoch - 1, math.nan)
        first, loss = (
            self.loss_at.get(self.initial.total, math.nan),
            self.loss_at.get(snapshot.total, math.nan if snapshot.step else ended),
        )
        best = min(
            (known for known in (*self.loss_at.values(), *self.losses) if math.isfinite(known)),
            default=math.nan,
        )
        exploded = loss - best > EXPLODED * max(first - best, abs(best))
        outgrown = snapshot.weight_norm > OUTGROWN * self.initial.weight_norm > 0
        return not (exploded or outgrown)


def has_diverged(recording: Recording, model: Any) -> bool:
    """Say whether a finite training has diverged: its loss and the weights of its model have grown
    by orders of magnitude.
    """
    grown = recording.grown is not None
    return grown and take_as_it_is(model).weight_norm > GREW * recording.initial.weight_norm


@dataclass(frozen=True)
class RecorderUsage:
    """What recording cost: snapshots kept, the most bytes held in memory and the bytes allowed,
    seconds, and the folder of the snapshots that did not fit into memory (None when all did)."""

    snapshots: int
    peak_bytes: int
    memory_bytes: int
    seconds: float
    folder: Path | None = None

    def __str__(self):
        memory = f"{self.peak_bytes / 1e6:.1f} of {self.memory_bytes / 1e6:.0f} MB of memory"
        words = (
            f"Flight recorder: {self.snapshots} snapshots in {self.seconds:.2f} s, at most {memory}"
        )
        return words + (
            f"; they did not fit and were kept on disk in {self.folder}." if self.folder else "."
        )


def recorded_steps(executions: list[Execution]) -> Iterator[RecordedStep]:
    """Yield the single steps of executions, in order."""
    for execution in executions:
        for index, batch in enumerate(execution.drawn.batches()):
            at = Onset(execution.epoch + 1, execution.step + index)
            yield RecordedStep(at, batch, execution.settings if index == 0 else ())
