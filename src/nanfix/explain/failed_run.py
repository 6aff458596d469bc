"""What is known of a run that failed: all that candidates for a repair are judged by."""

from collections.abc import Mapping
from dataclasses import dataclass

from nanfix.data.training_data import TrainingData
from nanfix.model.run import Run
from nanfix.model.snapshot import Snapshot
from nanfix.recorder.recording import SetAt


@dataclass(frozen=True)
class FailedRun:
    """What is known of a run that failed: verified snapshots, oldest first, what each epoch came
    to, and its length in steps.

    `set_at` says when callbacks have set numbers of the model, such as a temperature;
    `validation` are the data to judge on, `training_rows` some of those that are trained on.
    """

    run: Run
    data: TrainingData
    validation: TrainingData
    training_rows: TrainingData
    snapshots: tuple[Snapshot, ...]
    epoch_losses: Mapping[int, float]
    steps: int
    steps_per_epoch: int | None
    seed: int
    set_at: tuple[SetAt, ...] = ()
