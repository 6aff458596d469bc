"""When the recorder may take a snapshot or check the weights, so that a training is
hardly slower.
"""

import time

from nanfix.recorder._pace import Pace

# Shares of the training's time. Together they are a quarter of the 2 % by which a healthy training
# may be slower; the rest is for the hooks that Keras calls at every step.
SNAPSHOT_TIME_SHARE, CHECK_TIME_SHARE = 0.003, 0.002
# Seconds. What costs less is done at every epoch: Keras itself takes longer at the end of one.
ALWAYS_UNDER_SECONDS = 3e-4
# Weight of the newest steps in the usual time of a step: about ten steps are remembered.
NEWEST_STEP_WEIGHT = 0.1


class RecorderTiming:
    """Measures what recording costs, and says when it may cost something again.

    `seconds` is what it has cost so far.
    """

    def __init__(self):
        self.seconds = 0.0
        self._snapshots, self._checks = Pace(SNAPSHOT_TIME_SHARE), Pace(CHECK_TIME_SHARE)
        self._usual_step = 0.0  # seconds
        self._step_began = 0.0  # seconds of `time.perf_counter`
        self._after_snapshot = False

    def snapshot_due(self, *, epoch_begins: bool) -> bool:
        cheap = epoch_begins and self._snapshots.cost < ALWAYS_UNDER_SECONDS
        return cheap or self._snapshots.due(time.perf_counter())

    def check_due(self) -> bool:
        """Say whether the weights may be checked at the end of an epoch."""
        return self._checks.cost < ALWAYS_UNDER_SECONDS or self._checks.due(time.perf_counter())

    def snapshot_taken(self, begun: float, written: float, *, first: bool) -> None:
        """Charge a snapshot.

        Args:
            begun: when it was begun, in seconds of `time.perf_counter`.
            written: seconds of it that went into a file, which has a share of the time of its own.
            first: the step after the first snapshot is a slow one anyway, so it is not charged.
        """
        now = self._step_began = time.perf_counter()
        self.seconds += now - begun
        self._snapshots.done(now - begun - written, now)
        self._after_snapshot = not first

    def checked(self, begun: float) -> None:
        """Charge a check of the weights that was begun at this time."""
        now = time.perf_counter()
        self.seconds += now - begun
        self._checks.done(now - begun, now)

    def stepped(self, steps: int, *, first: bool) -> None:
        """Learn what a step takes, and charge a snapshot for the step after it, which has to copy.

        Args:
            steps: steps in this execution.
            first: whether these are the first of the training, which are slow.
        """
        now = time.perf_counter()
        seconds, self._step_began = now - self._step_began, now
        if self._after_snapshot:
            hidden = max(0.0, seconds - self._usual_step * steps)
            self._snapshots.cost += 0.5 * hidden  # smoothed, as `Pace` does
            self.seconds += hidden
            self._after_snapshot = False
        elif not first:
            newest, weight = seconds / steps, NEWEST_STEP_WEIGHT if self._usual_step else 1.0
            self._usual_step += weight * (newest - self._usual_step)
