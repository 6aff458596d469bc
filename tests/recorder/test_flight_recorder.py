"""The recorder: healthy runs untouched, onsets seen, snapshots thinned."""

import math

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf

import nanfix
from nanfix import Outcome
from nanfix.data.training_data import TrainingData
from nanfix.explain.replay import replay
from nanfix.model.logged_losses import loss_of
from nanfix.model.snapshot import nonfinite_variables, take
from nanfix.private.tensorflow import is_let_go
from nanfix.recorder._flight_recorder import FlightRecorder
from nanfix.recorder._pace import Pace
from nanfix.recorder.recording import Nonfinite
from nanfix.recorder.snapshot_files import SnapshotStore
from nanfix.recorder.watch import Watching, watch
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Onset


def state(model):
    return [np.asarray(v) for v in model.variables + model.optimizer.variables]


def test_batches_since_the_newest_snapshot_are_kept():
    model, x, y, arguments = explosions.learning_rate()
    watched = watch(model, TrainingData.of(x, y, arguments))
    recording = watched.recorder.recording()
    assert isinstance(watched.incident, Nonfinite)
    kept = watched.recorder.total_steps - recording.newest.total
    assert len(recording.steps) == kept > 0
    assert recording.initial.total == 0


def test_silent_nan_is_seen_before_the_epoch_is_validated():
    """The rectifier turns NaN into 0, so the weights are NaN while the loss stays finite."""
    make = lambda: explosions.mlp("adam", activation=explosions.rectified)  # noqa: E731
    model, x, y, arguments = make(), *explosions.table(), dict(explosions.ARGUMENTS)
    x[4, 0] = np.nan
    plain = make().fit(x, y, **arguments).history
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
    spy = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(logs["loss"])
    )
    watch(model, TrainingData.of(x, y, {**arguments, "callbacks": [spy]}))
    assert np.isfinite(seen).all()


def test_recorder_is_a_callback_with_a_bounded_memory():
    recorder = FlightRecorder(memory_bytes=1_000)
    model, x, y, arguments = explosions.healthy()
    recorder.attach(model)
    model.fit(x, y, **{**arguments, "callbacks": [recorder]})
    recorder.detach()
    assert len(recorder.recording().snapshots) == 2  # the initial and the newest are always kept
    assert recorder.recording().steps_per_epoch == 8


def test_snapshots_that_do_not_fit_go_to_disk_and_the_report_says_so(tmp_path):
    model, x, y, arguments = explosions.healthy()
    report = nanfix.fit(model, x, y, run_dir=tmp_path / "run", memory_bytes=3_000, **arguments)
    assert report.recorder.folder == tmp_path / "run" / "snapshots"
    # One snapshot on its way to disk, and the batches.
    assert report.recorder.peak_bytes < 2 * 3_000
    assert "kept on disk" in str(report)
    assert not (tmp_path / "run" / "snapshots").exists()  # a finished run needs them no more


def test_run_is_repaired_from_snapshots_on_disk():
    model, x, y, arguments = explosions.unscaled_inputs()
    report = nanfix.fit(model, x, y, memory_bytes=3_000, strategies=["scale-inputs"], **arguments)
    assert report.outcome is Outcome.REPAIRED and report.recorder.folder is not None


def test_full_disk_does_not_end_a_healthy_run(tmp_path, caplog):
    class Full(SnapshotStore):
        def save(self, *args):
            raise OSError("No space left on device")

    model, x, y, arguments = explosions.healthy()
    watched = watch(model, TrainingData.of(x, y, arguments), Watching(3_000, Full(tmp_path)))
    assert watched.incident is None and len(watched.epoch) == arguments["epochs"]
    assert "No space left" in caplog.text


def test_batches_beyond_their_share_of_memory_make_snapshots_closer():
    model, x, y, arguments = explosions.healthy()
    model.optimizer.build(model.trainable_variables)
    model.train_on_batch(x[:16], y[:16])
    batch_bytes = 16 * 5 * 4
    recorder = FlightRecorder(memory_bytes=6 * take(model).nbytes)
    recorder._timing._snapshots = Pace(1e-9)  # by the clock alone, none would be due
    used = []
    recorder.drawn, plain = (
        lambda batches: (plain(batches), used.append(recorder.nbytes)),
        recorder.drawn,
    )
    recorder.attach(model)
    model.fit(x, y, **{**arguments, "epochs": 40, "callbacks": [recorder]})
    recorder.detach()
    assert recorder.usage().snapshots > 1
    assert max(used) <= recorder.memory_bytes + batch_bytes


def test_learning_rates_set_by_callbacks_are_replayed():
    """Each step has its own rate, set between steps; the replay has to use them all to meet the
    overflow where it was.
    """

    class Ramp(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate = 0.001 * 3.0 ** (8 * self.params["epoch"] + batch)

        def on_epoch_begin(self, epoch, logs=None):
            self.params["epoch"] = epoch

    class Oracle(keras.callbacks.Callback):
        first = None

        def on_train_batch_end(self, batch, logs=None):
            if self.first is None and (
                not np.isfinite(logs["loss"]) or nonfinite_variables(self.model)
            ):
                self.first = Onset(self.params["epoch"] + 1, batch + 1)

    model, x, y, arguments = explosions.healthy()
    oracle = Oracle()
    explosions.mlp("sgd").fit(
        x, y, **{**arguments, "shuffle": False, "callbacks": [Ramp(), oracle]}
    )
    model = explosions.mlp("sgd")
    watched = watch(
        model, TrainingData.of(x, y, {**arguments, "shuffle": False, "callbacks": [Ramp()]})
    )
    recording = watched.recorder.recording()
    assert oracle.first is not None
    assert replay(model, recording, watched.incident.detected).onset == oracle.first


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_train_batch_begin", "on_train_batch_end"])
def test_numbers_of_the_model_set_by_callbacks_are_replayed(hook):
    """The newest snapshot is from before the temperature was 0."""
    layer, calls = explosions.Cooled(), []

    def cool(*_, **__):
        calls.append(layer)
        layer.temperature.assign(max(4.0 - len(calls), 0.0))

    x, y = explosions.table(64)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Dense(4), layer, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    callback = keras.callbacks.Callback()
    setattr(callback, hook, cool)
    arguments = {"epochs": 8, "batch_size": 16, "verbose": 0, "callbacks": [callback]}
    watched = watch(model, TrainingData.of(x, y, arguments))
    replayed = replay(model, watched.recorder.recording(), watched.incident.detected)
    detected = watched.incident.detected
    assert replayed.onset == detected
    assert replayed.failing.operation == "RealDiv"


def test_series_of_losses_is_that_of_the_steps():
    seen = []
    model, x, y, arguments = explosions.healthy()

    class Each(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.reset_metrics()

        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs["loss"])

    model.fit(x, y, **{**arguments, "shuffle": False, "callbacks": [Each()]})
    watched = watch(explosions.healthy()[0], TrainingData.of(x, y, {**arguments, "shuffle": False}))
    np.testing.assert_allclose(watched.recorder.recording().losses, seen, rtol=1e-3)


def test_stopped_run_goes_on_where_it_was(tmp_path, monkeypatch):
    # So that every snapshot of so short a run is written.
    monkeypatch.setattr("nanfix.recorder._retention.WRITING", 1e9)
    # and there is one at each epoch.
    monkeypatch.setattr("nanfix.recorder._timing.ALWAYS_UNDER_SECONDS", 1e9)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    x, y = explosions.table()
    arguments = {**explosions.ARGUMENTS, "epochs": 5, "shuffle": False, "run_dir": tmp_path / "run"}
    whole = explosions.mlp("adam")
    whole.fit(x, y, **{**explosions.ARGUMENTS, "epochs": 5, "shuffle": False})
    with pytest.raises(KeyboardInterrupt):
        nanfix.fit(explosions.mlp("adam"), x, y, callbacks=[Stop()], **arguments)
    (_, newest) = SnapshotStore(tmp_path / "run" / "snapshots").saved()
    model = explosions.mlp("adam")
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is Outcome.HEALTHY and report.epoch == list(range(5))
    assert f"Went on at epoch {newest.epoch + 1}" in report.notes[0]
    if newest.step == 0:  # at an epoch's beginning: nothing is trained twice
        for left, right in zip(state(whole), state(model), strict=True):
            np.testing.assert_array_equal(left, right)


def test_data_are_let_go_of_when_a_training_ends():
    """An iterator that lives on is ended late, and then waits for seconds for a thread
    of its own.
    """
    model, x, y, arguments = explosions.healthy()
    watch(model, TrainingData.of(x, y, arguments))
    assert model.train_function._iterator() is None
    model, x, y, arguments = explosions.learning_rate()
    watch(model, TrainingData.of(x, y, arguments))
    iterator = model.train_function._iterator()
    assert iterator is None or is_let_go(iterator)


STEPS = [1.0, 4.0, 2.0]


@pytest.mark.parametrize(
    ("logs", "loss"),
    [
        ({"loss": 1.0, "kl_loss": np.nan}, 1.0),
        ({"d_loss": 1.0, "g_loss": 2.0, "psnr": np.inf}, 3.0),
        ({"lossD": np.float32(1.0)}, 1.0),
        ({"total": np.nan}, np.nan),
        ({"total": 1.0, "psnr": np.inf}, None),
        ({"loss": np.asarray([1.0, 3.0])}, 2.0),
        ({"loss": "none"}, None),
        ({}, None),
        (None, None),
    ],
    ids=str,
)
def test_loss_is_found_under_whatever_name(logs, loss):
    np.testing.assert_equal(loss_of(logs), loss)


class Logging(keras.Model):
    """Gives the losses in `STEPS`, by name of the form: of each step, or the mean over them."""

    def __init__(self, form):
        super().__init__()
        self.form, self.tracker, self.scale = (
            form,
            keras.metrics.Mean(name="error"),
            keras.layers.Dense(1, use_bias=False),
        )

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(y) + 0.0 * keras.ops.mean(self.scale(x))
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        self.tracker.update_state(loss)
        return {self.form: self.tracker.result() if "mean" in self.form else loss}


@pytest.mark.parametrize("form", ["mean_loss", "mean", "raw_loss", "raw"])
@pytest.mark.parametrize("at_once", [1, 3])
def test_losses_of_steps_are_told_from_their_running_mean(form, at_once):
    model = Logging(form)
    model.compile("sgd", steps_per_execution=at_once)
    x = np.ones((6, 2), "float32")
    recorder = FlightRecorder()
    recorder.attach(model)
    y = np.repeat(np.float32(STEPS), 2)[:, None]
    model.fit(x, y, batch_size=2, shuffle=False, verbose=0, callbacks=[recorder])
    expected = STEPS if at_once == 1 else [np.mean(STEPS) if "mean" in form else STEPS[-1]]
    assert recorder.recording().losses == pytest.approx(expected)


def series_of(loss, targets):
    """Return the losses of the steps that the recorder knows, of a model that always gives 0."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.0), loss)
    recorder = FlightRecorder()
    recorder.attach(model)
    x, y = np.ones((len(targets), 1), "float32"), np.float32(targets)[:, None]
    model.fit(x, y, batch_size=1, shuffle=False, verbose=0, callbacks=[recorder])
    return recorder.recording().losses


@pytest.mark.parametrize("great", [1e4, 1e8, 1e12])
def test_a_loss_beside_a_great_one_is_not_made_negative_by_rounding(great):
    """Keras logs the running mean, in float32."""
    targets = np.random.default_rng(0).uniform(0.5, 2.0, 40)
    targets[3] = great
    losses = series_of("mse", targets)
    assert min(losses) >= 0.0 and max(losses) == pytest.approx(great**2, rel=1e-5)


def test_a_loss_below_0_is_one():
    losses = [2.0, 1.0, -1.0, -30.0, -4000.0, -4000.0]
    seen = series_of(lambda y, p: y + 0.0 * p, losses)
    np.testing.assert_allclose(seen, losses, rtol=1e-3)


def test_a_rate_that_a_callback_sets_to_nan_is_the_cause_when_a_snapshot_is_due_then(monkeypatch):
    monkeypatch.setattr(FlightRecorder, "_snapshot_due", lambda self: True)
    x, y = explosions.table()
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 if epoch < 2 else math.nan)
    found = nanfix.diagnose(
        explosions.mlp("sgd"), x, y, epochs=4, batch_size=16, verbose=0, callbacks=[rates]
    )
    assert found.cause is Cause.NONFINITE_RATE
    assert (found.onset.epoch, found.onset.step) == (3, 1)
