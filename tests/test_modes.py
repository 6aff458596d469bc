"""Every mode Keras trains in: a healthy run comes out untouched, and a sick one is
caught at the exact step.
"""

import json
import os
import subprocess
import sys
from functools import partial

import explosions
import keras
import numpy as np
import pytest
from keras import layers
from modes import (
    ARGUMENTS,
    BATCH,
    ROWS,
    SOUND,
    STEPS,
    OwnStep,
    adam,
    adversaries,
    callbacks,
    compiled,
    dataset,
    exploding_generator,
    generator,
    jit_compile,
    late,
    mixed_float16,
    named,
    named_inputs_and_outputs,
    own_fit,
    own_step,
    own_train_function,
    plain,
    pydataset,
    recurrent,
    run_eagerly,
    steps_per_execution,
)
from parameters import shortened
from twins import (
    assert_onset_is_exact,
    assert_same_state,
    assert_untouched,
    by_keras,
    finite,
    state,
    trained,
    twins_of,
)

import nanfix
from nanfix import Cause, Outcome
from nanfix.data.training_data import TrainingData
from nanfix.model.snapshot import restore
from nanfix.recorder.watch import watch
from nanfix.records.diagnosis import Onset


@pytest.fixture(
    scope="module",
    params=[
        plain,
        steps_per_execution,
        jit_compile,
        run_eagerly,
        own_step,
        own_fit,
        adversaries,
        generator,
        pydataset,
        dataset,
    ],
    ids=named,
)
def twins(request):
    """Twins after two healthy epochs, which explode in the second epoch of their next training."""
    return twins_of(partial(request.param, partial(late, sound=2 * STEPS + SOUND)))


def test_healthy_run_is_untouched(twins):
    assert_untouched(twins)


def test_onset_is_exact(twins):
    assert assert_onset_is_exact(twins.build, twins.plain, twins.watched).onset.epoch == 2


@pytest.mark.parametrize(
    "build", [mixed_float16, own_train_function, named_inputs_and_outputs, recurrent], ids=named
)
def test_healthy_run_of_every_kind_of_model_is_untouched(build):
    assert_untouched(twins_of(partial(build, adam)))


def test_early_stopping_and_a_falling_rate_are_untouched():
    twins = twins_of(partial(callbacks, adam))
    assert_untouched(twins)
    assert twins.report.epoch == [0, 1, 2]
    assert twins.report.history["learning_rate"][-1] < twins.report.history["learning_rate"][0]


def fits_in_a_row(*fits):
    """Train one model by each of `fits` in turn, each going on from the one before; return its
    state and the histories.
    """
    keras.utils.set_random_seed(0)
    model, x, y, arguments = plain(adam)
    keras.utils.set_random_seed(1)
    histories = [fit(model, x, y, **arguments).history for fit in fits]
    return state(model), [getattr(history, "history", history) for history in histories]


def test_three_fits_in_a_row_go_on_from_each_other():
    """Watched or not, and watched again after a fit that was not."""
    expected, histories = fits_in_a_row(by_keras, by_keras, by_keras)
    for second in (nanfix.fit, by_keras):
        reached, same = fits_in_a_row(nanfix.fit, second, nanfix.fit)
        assert histories == same
        assert_same_state(expected, reached)


def scaled(optimizer, scale):
    return keras.optimizers.LossScaleOptimizer(optimizer(), initial_scale=scale)


def test_skipped_steps_of_loss_scaling_are_no_incident():
    """The first loss scale makes gradients overflow half precision; each step that is
    skipped halves it.
    """
    twins = twins_of(partial(mixed_float16, partial(scaled, adam, 2.0**18)))
    assert_untouched(twins)
    optimizer = twins.watched.optimizer
    taken = int(optimizer.inner_optimizer.iterations)
    assert 0 < taken < 2 * STEPS
    assert float(optimizer.dynamic_scale) == 2.0 ** (18 - (2 * STEPS - taken))


def test_onset_of_an_exploding_generator_is_exact():
    assert_onset_is_exact(partial(exploding_generator, partial(late, 1e25)))


def test_onset_in_half_precision_is_the_step_that_ruins_a_weight():
    """The loss scale is low enough for every step to be taken; the first one at the new
    rate is too large for a weight.
    """
    oracle = assert_onset_is_exact(
        partial(mixed_float16, partial(scaled, partial(late, 3e38), 2.0**8))
    )
    assert oracle.onset == Onset(2, SOUND + 1 - STEPS)
    assert np.isfinite(oracle.loss)


def seldom(monkeypatch):
    """Let the recorder keep hardly any snapshots, so that much is replayed."""
    monkeypatch.setattr("nanfix.recorder._timing.SNAPSHOT_TIME_SHARE", 1e-9)
    monkeypatch.setattr("nanfix.recorder._timing.ALWAYS_UNDER_SECONDS", 0.0)


def always(monkeypatch):
    """Let the recorder keep a snapshot before every execution."""
    monkeypatch.setattr("nanfix.recorder._timing.SNAPSHOT_TIME_SHARE", 1e9)


@pytest.mark.parametrize("pace", shortened([seldom, always], [seldom]), ids=named)
def test_onset_is_exact_however_often_snapshots_are_taken(pace, monkeypatch):
    pace(monkeypatch)
    assert_onset_is_exact(partial(steps_per_execution, late))


def test_onset_in_the_first_step_is_exact():
    first = partial(keras.optimizers.SGD, 3e38)
    assert assert_onset_is_exact(partial(plain, first)).onset == Onset(1, 1)


ODD_ROW = 60  # in the fourth batch
IN_ORDER = {**ARGUMENTS, "shuffle": False}


def hole_in_a_row(**settings):
    """The rectifier turns the NaN that spreads through the weights into 0, and the loss
    stays finite.
    """
    model = explosions.mlp(adam(), activation=explosions.rectified, **settings)
    x, y = explosions.table(ROWS)
    x[ODD_ROW, 2] = np.nan
    return model, x, y, dict(IN_ORDER)


def overflowing_slot():
    """RMSprop squares a gradient of 1e25 to inf and divides by its root: the weights
    stay finite.
    """
    model = explosions.mlp(keras.optimizers.RMSprop(0.01), "mae", activation="tanh")
    x, y = explosions.table(ROWS)
    weight = np.ones(ROWS, "float32")
    weight[ODD_ROW] = 1e25
    return model, x, y, {**IN_ORDER, "sample_weight": weight}


def overflowing_statistic():
    """The variance of 1e25 is inf, and what is divided by its root is 0."""
    model = keras.Sequential([layers.BatchNormalization(), layers.Dense(1)])
    model.compile(adam(), "mse")
    x, y = explosions.table(ROWS)
    x[ODD_ROW, 2] = 1e25
    return model, x, y, dict(IN_ORDER)


SILENT = (
    hole_in_a_row,
    partial(hole_in_a_row, steps_per_execution=3),
    overflowing_slot,
    overflowing_statistic,
)
SILENT_NAMES = ["weights", "weights, steps_per_execution", "slot", "statistic"]


@pytest.mark.parametrize("build", SILENT, ids=SILENT_NAMES)
def test_onset_behind_a_finite_loss_is_exact(build):
    oracle = assert_onset_is_exact(build)
    assert oracle.onset == Onset(1, ODD_ROW // BATCH + 1)
    assert np.isfinite(oracle.loss)


def validation_hole(**settings):
    model, x, y, arguments = explosions.validation_hole()
    model.compile(adam(), "mse", **settings)
    return model, x, y, arguments


@pytest.mark.parametrize(
    "settings", shortened([{}, {"steps_per_execution": 3}], [{"steps_per_execution": 3}]), ids=str
)
def test_nonfinite_validation_is_no_incident_of_the_training(settings):
    twins = twins_of(partial(validation_hole, **settings), partial(nanfix.fit, strategies=()))
    report, history = twins.report, twins.history
    assert report.outcome is Outcome.HEALTHY and report.diagnosis.cause is Cause.VALIDATION_ONLY
    assert np.isnan(report.history["val_loss"]).all()
    assert report.history["loss"] == history.history["loss"] and report.epoch == history.epoch
    assert_same_state(*twins.states)


class LossesSpy(keras.callbacks.Callback):
    """Keeps what the model says of each step."""

    def on_train_begin(self, logs=None):
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))


@pytest.mark.parametrize(
    "settings",
    shortened([{}, {"jit_compile": True}, {"run_eagerly": True}], [{}, {"jit_compile": True}]),
    ids=str,
)
def test_replay_repeats_the_recorded_losses_bit_for_bit(settings, monkeypatch):
    """Many steps of Dropout, BatchNormalization and a schedule are replayed."""
    seldom(monkeypatch)
    monkeypatch.setattr("nanfix.recorder._timing.ALWAYS_UNDER_SECONDS", 0.0)
    spy = LossesSpy()

    def fit(model, x, y, **arguments):
        return watch(
            model, TrainingData.of(x, y, {**arguments, "batch_size": 4, "callbacks": [spy]})
        )

    _, watched = trained(fit, lambda: compiled(OwnStep(), decaying_then_exploding(), **settings))
    recording = watched.recorder.recording()
    assert watched.incident is not None and len(recording.steps) > 10
    seen = spy.losses[recording.newest.total :]
    restore(recording.newest)
    losses = [float(recording.step_of_keras.replay(step.batch)["loss"]) for step in recording.steps]
    assert losses[:-1] == seen
    assert not np.isfinite(losses[-1])


def decaying_then_exploding():
    """Fall from a rate of 0.02 as 0.9 ** step, and jump to 1e10 after 15 steps."""

    class Decay(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            step = keras.ops.cast(step, "float32")
            return keras.ops.where(step < 15, 0.02 * 0.9**step, 1e10)

    return keras.optimizers.Adam(Decay())


@pytest.fixture(scope="module")
def mirrored():
    """What happened on two replicas, in a process of their own."""
    script = os.path.join(os.path.dirname(__file__), "mirrored.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_healthy_run_on_two_replicas_is_untouched(mirrored):
    assert mirrored["healthy"] == {"outcome": "HEALTHY", "history": True, "state": True}


def test_onset_on_two_replicas_is_exact_and_the_model_comes_back_finite(mirrored):
    seen = mirrored["sick"]
    assert seen["oracle"] != "None" and seen["finite"]
    assert seen["onset"] == seen["oracle"]


@pytest.mark.soak
def test_run_on_two_replicas_is_repaired(mirrored):
    report = mirrored["repaired"]
    assert report["outcome"] == "REPAIRED" and report["finite"] and report["epochs"] == 3, report[
        "told"
    ]


MODES = [steps_per_execution, dataset, generator, own_step, own_fit]


@pytest.mark.parametrize("build", shortened(MODES, [steps_per_execution]), ids=named)
def test_run_of_every_mode_is_repaired(build):
    """The rate explodes in the second epoch; a share of it does not."""
    model, report = trained(
        partial(nanfix.fit, strategies=["lower-learning-rate"], throw=False),
        partial(build, partial(late, 1e3)),
    )
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert finite(model) and np.isfinite(report.history["loss"]).all() and report.epoch == [0, 1]
