"""A failed run that worker processes take up, as long as they can."""

from pathlib import Path

from nanfix.explain.failed_run import FailedRun
from nanfix.remedies.fix import Fix
from nanfix.search.space import Space
from nanfix.search.verdict import Baselines
from nanfix.search.workers._worker_input import CannotShare, hand_out, share
from nanfix.search.workers.pool import ALONE, WorkerPool, Workers


class SharedRun:
    """Hands a failed run to workers. Where that cannot be, `notes` get the reason, and
    one process searches alone.
    """

    def __init__(self, workers: Workers, notes: list[str]):
        self._workers, self._notes = workers, notes
        self._folder: Path | None = None

    def share(self, folder: Path, failed: FailedRun) -> None:
        """Write the model and its snapshots into `folder`, before the model is changed."""
        if self._workers == ALONE:
            return
        try:
            share(folder, failed)
        except CannotShare as reason:
            self._go_on_alone(reason)
        else:
            self._folder = folder

    def pool(
        self, failed: FailedRun, space: Space, base_fix: Fix, baselines: Baselines, directory: Path
    ) -> WorkerPool | None:
        """Return the workers of the search that is kept in `directory`; None where this
        process searches alone.
        """
        if self._folder is None:
            return None
        try:
            hand_out(self._folder, failed, space, base_fix, baselines, directory)
        except CannotShare as reason:
            self._go_on_alone(reason)
            return None
        return WorkerPool(self._workers, self._folder)

    def give_up(self, error: Exception) -> None:
        """Search alone from now on, since the workers failed."""
        self._notes.append(f"Searched by one process in the end, since the workers failed: {error}")
        self._folder = None

    def _go_on_alone(self, reason: CannotShare) -> None:
        self._notes.append(f"Searched by one process, since {reason}.")
        self._folder = None
