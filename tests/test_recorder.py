"""The recorder: healthy runs untouched, onsets seen, snapshots thinned."""

import explosions
import keras
import numpy as np
import pytest

from nanfix.data import TrainingData
from nanfix.recorder import FlightRecorder, thin
from nanfix.recording import Nonfinite
from nanfix.snapshot import Snapshot
from nanfix.watch import watch


def state(model):
    return [np.asarray(v) for v in model.variables + model.optimizer.variables]


def deep_model(**compiled):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse", metrics=["mae"], **compiled)
    return model


@pytest.mark.parametrize(
    "compiled",
    [{}, {"steps_per_execution": 3}, {"jit_compile": True}, {"run_eagerly": True}],
    ids=["plain", "steps_per_execution", "jit_compile", "run_eagerly"],
)
def test_healthy_run_is_bit_identical(compiled):
    x, y = explosions.table(100)
    arguments = {"epochs": 2, "batch_size": 16, "verbose": 0, "validation_split": 0.2}
    plain = deep_model(**compiled)
    history = plain.fit(x, y, **arguments).history
    watched_model = deep_model(**compiled)
    watched = watch(watched_model, TrainingData.of(x, y, arguments))
    assert watched.incident is None
    assert watched.history == history
    for left, right in zip(state(plain), state(watched_model), strict=True):
        np.testing.assert_array_equal(left, right)


def test_batches_since_the_newest_snapshot_are_kept():
    model, x, y, arguments = explosions.learning_rate()
    watched = watch(model, TrainingData.of(x, y, arguments))
    recording = watched.recorder.recording()
    assert isinstance(watched.incident, Nonfinite)
    kept = watched.recorder.total_steps - recording.newest.total
    assert len(recording.steps) == kept > 0
    assert recording.initial.total == 0


def test_silent_nan_is_seen_before_the_epoch_is_validated():
    """A ReLU kernel turns NaN into 0, so the weights are NaN while the loss stays finite."""
    model, x, y, arguments = explosions.mlp("adam"), *explosions.table(), dict(explosions.ARGUMENTS)
    x[4, 0] = np.nan
    plain = explosions.mlp("adam").fit(x, y, **arguments).history
    assert np.isfinite(plain["loss"]).all()
    watched = watch(model, TrainingData.of(x, y, arguments))
    assert watched.incident is not None and watched.incident.detected.epoch == 1
    assert watched.history.get("loss", []) == []


def test_infinite_metric_is_no_incident():
    def one_over_zero(y_true, y_pred):
        return keras.ops.sum(y_true) / 0.0

    x, y = explosions.table()
    model = explosions.mlp("adam", metrics=[one_over_zero])
    watched = watch(model, TrainingData.of(x, y, dict(explosions.ARGUMENTS)))
    assert watched.incident is None


def test_step_is_traced_once_for_several_fits():
    x, y = explosions.table()
    model = explosions.mlp("adam")
    data = TrainingData.of(x, y, dict(explosions.ARGUMENTS))
    watch(model, data)
    first = model.train_function
    watch(model, data)
    assert model.train_function is first


def test_user_callbacks_never_see_the_nonfinite_step():
    seen = []
    model, x, y, arguments = explosions.learning_rate()
    spy = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
    watch(model, TrainingData.of(x, y, {**arguments, "callbacks": [spy]}))
    assert np.isfinite(seen).all()


def test_thin_keeps_ends_and_one_snapshot_for_each_doubling_of_age():
    snapshots = [Snapshot(0, step, step, (), ()) for step in range(0, 33)]
    kept = snapshots[:1]
    for snapshot in snapshots[1:]:
        kept = thin([*kept, snapshot], room=10)
    totals = [s.total for s in kept]
    assert totals[0] == 0 and totals[-1] == 32
    assert len(totals) <= 8
    assert len(thin(snapshots, room=3)) == 3


def test_recorder_is_a_callback_with_a_bounded_memory():
    recorder = FlightRecorder(memory_bytes=1_000)
    model, x, y, arguments = explosions.healthy()
    recorder.attach(model)
    model.fit(x, y, **{**arguments, "callbacks": [recorder]})
    recorder.detach()
    assert len(recorder.recording().snapshots) == 2  # the initial and the newest are always kept
    assert recorder.recording().steps_per_epoch == 8
