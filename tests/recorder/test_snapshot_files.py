"""Snapshots on disk: bit for bit what was taken, whole or not there."""

import explosions
import keras
import numpy as np
import pytest

from nanfix.model.snapshot import restore, state_variables, take
from nanfix.recorder.snapshot_files import SnapshotStore
from nanfix.records.errors import RunDirError


def trained(dtype=None):
    keras.utils.set_random_seed(0)
    hidden = [
        keras.layers.Dense(4, "relu", dtype=dtype),
        keras.layers.Dropout(0.5),
        keras.layers.BatchNormalization(),
    ]
    model = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(*explosions.table(64), verbose=0)
    return model


def held(model):
    return [np.asarray(variable).copy() for variable in state_variables(model)]


def zeroed(model):
    for variable in state_variables(model):
        variable.assign(np.zeros(variable.shape, np.asarray(variable).dtype))


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_state_comes_back_from_disk_bit_for_bit(tmp_path, dtype):
    model = trained(dtype)
    before = held(model)
    written = SnapshotStore(tmp_path).save(take(model, epoch=2, step=3, total=7))
    assert written.nbytes == 0
    zeroed(model)
    restore(written)
    for left, right in zip(held(model), before, strict=True):
        np.testing.assert_array_equal(left, right)


def test_file_tells_where_the_run_stood_and_what_callbacks_knew(tmp_path):
    model, stopping = trained(), keras.callbacks.EarlyStopping(patience=3)
    stopping.best, stopping.wait, stopping.best_weights = np.float32(0.5), 2, model.get_weights()
    stopping.limit, stopping.seen, stopping.path = np.inf, [1, None, 0.1, "a"], "\udc80"
    snapshot = take(model, epoch=2, step=3, total=7, callbacks=[stopping])
    SnapshotStore(tmp_path).save(snapshot, {"loss": [3.0, 2.0]}, [0, 1])
    (saved,) = SnapshotStore(tmp_path).saved()
    assert (saved.epoch, saved.step, saved.total, saved.epochs) == (2, 3, 7, (0, 1))
    assert saved.history == {"loss": [3.0, 2.0]}
    again = keras.callbacks.EarlyStopping(patience=3)
    ((callback, state),) = saved.states([again])
    assert callback is again and (state["best"], state["wait"]) == (0.5, 2)
    assert (state["limit"], state["seen"]) == (np.inf, [1, None, 0.1, "a"]) and "path" not in state
    for left, right in zip(state["best_weights"], stopping.best_weights, strict=True):
        np.testing.assert_array_equal(left, right)


def test_files_are_listed_oldest_first_and_torn_ones_passed_over(tmp_path):
    model, store = trained(), SnapshotStore(tmp_path)
    for total in (20, 3):
        store.save(take(model, total=total))
    (tmp_path / "000000000030.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{torn")
    (tmp_path / ".000000000031.123.safetensors").write_bytes(b"half")
    assert [saved.total for saved in store.saved()] == [3, 20]
    store.clear()
    assert not tmp_path.exists()


def test_snapshot_of_another_model_is_refused(tmp_path):
    store = SnapshotStore(tmp_path)
    store.save(take(trained()))
    other, *_ = explosions.healthy()
    other.build()
    with pytest.raises(RunDirError, match=r"Expected: .* Received: "):
        store.saved()[0].bound(state_variables(other))
