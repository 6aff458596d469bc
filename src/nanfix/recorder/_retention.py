"""The snapshots of a run, in memory or on disk, within a limit."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nanfix.model.snapshot import Snapshot, held_bytes
from nanfix.recorder._pace import Pace
from nanfix.recorder.snapshot_files import SnapshotStore

log = logging.getLogger("nanfix")

WRITING = 0.005  # share of the training's time that files for a later call may take
GUESS = 0.01  # seconds that a file takes, until one has been written
ROOM_ON_DISK = 4  # snapshots, when they do not fit into memory

Past = Callable[[], tuple[Mapping[str, Any], Sequence[int]]]


class Shelf:
    """Keeps the initial snapshot, the newest, and between them one for each doubling of age.

    Args:
        memory_bytes: what they may hold; when two do not fit, they go to `store`.
        store: where snapshots on disk are kept; None for never.
        durable: write the newest to the store now and then in any case, for a run that
            is killed to go on from.
    """

    def __init__(
        self, memory_bytes: int, store: SnapshotStore | None = None, durable: bool = False
    ):
        self.snapshots: list[Snapshot] = []
        self.on_disk = False
        self._memory_bytes, self._store, self._durable = (
            memory_bytes,
            store,
            durable and store is not None,
        )
        self._writing = Pace(WRITING, warm_up=0.0)
        self._written: Snapshot | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return held_bytes(self.snapshots)

    def begin_with(self, initial: Snapshot, newest: Snapshot) -> None:
        """Take over what an earlier call wrote."""
        self.snapshots, self._written = [initial], newest
        self._writing.done(GUESS, time.perf_counter())  # what is there need not be written again

    def put(self, snapshot: Snapshot, past: Past) -> float:
        """Keep a snapshot, and drop what it makes superfluous; `past` gives history and
        epochs for its file.

        Returns:
            The seconds spent on a file that is only there for a later call.
        """
        begun = time.perf_counter()
        shared = snapshot.nbytes - snapshot.tensor_bytes
        room = (self._memory_bytes - shared) // max(snapshot.tensor_bytes, 1)
        self.on_disk = self._store is not None and (self.on_disk or room < 2)
        durably = self._durable and not self.on_disk and self._writing.due(begun)
        written = self._write(snapshot, past) if self.on_disk or durably else None
        if self.on_disk and written is not None:
            snapshot, room = written, ROOM_ON_DISK
        before, self.snapshots = self.snapshots, thin([*self.snapshots, snapshot], max(room, 2))
        kept = {id(snapshot) for snapshot in self.snapshots}
        for dropped in before:
            if self._store is not None and id(dropped) not in kept:
                self._store.discard(dropped)
        return time.perf_counter() - begun if durably else 0.0

    def _write(self, snapshot: Snapshot, past: Past) -> Snapshot | None:
        """Write a snapshot to the store; a run does not die of a full disk, it is told."""
        assert self._store is not None
        begun = time.perf_counter()
        try:
            written = self._store.save(snapshot, *past())
        except OSError as error:
            log.warning(
                "nanfix: snapshots cannot be written to %s (%s). The newest stay in memory; a "
                "killed run cannot be gone on with.",
                self._store.folder,
                error,
            )
            self._store, self._durable, self.on_disk = None, False, False
            return None
        if (
            self._written is not None
            and 0 < self._written.total < snapshot.total
            and not self.on_disk
        ):
            self._store.discard(self._written)
        self._written = written
        now = time.perf_counter()
        self._writing.done(now - begun, now)
        return written


def thin(snapshots: list[Snapshot], room: int) -> list[Snapshot]:
    """Keep the initial and the newest snapshot and, between them, one for each doubling
    of age, at most `room`.
    """
    newest = snapshots[-1]
    ages: dict[int, Snapshot] = {}
    for snapshot in snapshots[1:-1]:
        ages.setdefault((newest.total - snapshot.total).bit_length(), snapshot)
    between = sorted(ages.values(), key=lambda snapshot: snapshot.total)
    kept = [snapshots[0], *between[max(0, len(between) - max(0, room - 2)) :]]
    return kept if newest is snapshots[0] else [*kept, newest]
