"""Snapshots are thinned, and go to disk when they do not fit."""

import explosions

from nanfix.model.snapshot import Snapshot, take
from nanfix.recorder._retention import Shelf, thin
from nanfix.recorder.snapshot_files import SnapshotStore, StoredTensors


def test_thin_keeps_ends_and_one_snapshot_for_each_doubling_of_age():
    snapshots = [Snapshot(0, step, step, (), ()) for step in range(0, 33)]
    kept = snapshots[:1]
    for snapshot in snapshots[1:]:
        kept = thin([*kept, snapshot], room=10)
    totals = [s.total for s in kept]
    assert totals[0] == 0 and totals[-1] == 32
    assert len(totals) <= 8
    assert len(thin(snapshots, room=3)) == 3


def nothing():
    return {}, []


def snapshots(count):
    model, *_ = explosions.healthy()
    return [take(model, total=total) for total in range(count)]


def test_snapshots_that_fit_stay_in_memory(tmp_path):
    shelf = Shelf(10**9, SnapshotStore(tmp_path / "store"))
    for snapshot in snapshots(3):
        shelf.put(snapshot, nothing)
    assert shelf.nbytes > 0 and not shelf.on_disk and not (tmp_path / "store").exists()


def test_files_are_no_more_than_the_snapshots_kept(tmp_path):
    shelf = Shelf(10, SnapshotStore(tmp_path))
    for snapshot in snapshots(40):
        shelf.put(snapshot, nothing)
    assert shelf.on_disk and shelf.nbytes == 0
    files = {
        snapshot.tensors.path
        for snapshot in shelf.snapshots
        if isinstance(snapshot.tensors, StoredTensors)
    }
    assert files == set(tmp_path.iterdir()) and len(files) == 4


def test_durable_shelf_writes_the_initial_and_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr("nanfix.recorder._retention.WRITING", 1e9)
    shelf = Shelf(10**9, SnapshotStore(tmp_path), durable=True)
    for snapshot in snapshots(9):
        assert shelf.put(snapshot, nothing) > 0.0
    assert [saved.total for saved in SnapshotStore(tmp_path).saved()] == [0, 8]
    assert not shelf.on_disk


def test_what_an_earlier_call_wrote_is_not_written_again_at_once(tmp_path):
    initial, newest, later = snapshots(3)
    store = SnapshotStore(tmp_path)
    shelf = Shelf(10**9, store, durable=True)
    shelf.begin_with(store.save(initial), store.save(newest))
    assert shelf.put(later, nothing) == 0.0
    assert [saved.total for saved in store.saved()] == [0, 1]
