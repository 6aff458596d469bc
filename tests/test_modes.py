"""Every mode Keras trains in: a healthy run comes out untouched, and a sick one is
caught at the exact step.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import nanfix
from nanfix import Cause, Outcome
from nanfix.data.training_data import TrainingData
from nanfix.model.snapshot import restore
from nanfix.recorder.watch import watch
from nanfix.records.diagnosis import Onset

ROWS, BATCH = 100, 16
STEPS = 7  # of an epoch; the last is short, and executions of 3 steps do not divide it
ARGUMENTS = {"epochs": 2, "batch_size": BATCH, "verbose": 0}
SOUND = 9  # steps before an explosion, so that it falls into the second epoch


def adam():
    return keras.optimizers.Adam(0.01)


def late(rate=1e10, sound=SOUND):
    """Return an optimizer with a schedule that explodes after `sound` steps; momentum
    gives it slots.
    """
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([sound - 1], [0.01, rate])
    return keras.optimizers.SGD(schedule, momentum=0.9)


def optimizers(model):
    return [value for value in vars(model).values() if isinstance(value, keras.Optimizer)]


def state(model):
    """Return all that a training changes, metrics apart: weights, statistics, seeds, and every
    optimizer's variables.
    """
    metrics = {id(variable) for variable in model.metrics_variables}
    own = [variable for variable in model.variables if id(variable) not in metrics]
    return [
        np.asarray(v).copy()
        for v in (*own, *(v for optimizer in optimizers(model) for v in optimizer.variables))
    ]


def finite(model):
    return all(np.isfinite(value).all() for value in state(model))


class Oracle(keras.callbacks.Callback):
    """Finds the onset by looking at the loss and at the whole state after every single
    step; keeps that step's loss.
    """

    def __init__(self):
        super().__init__()
        self.onset, self.loss = None, None

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()  # so that the loss is this step's alone

    def on_train_batch_end(self, batch, logs=None):
        loss = float(logs.get("loss", 0.0))
        if self.onset is None and not (np.isfinite(loss) and finite(self.model)):
            self.onset, self.loss = Onset(self._epoch + 1, batch + 1), loss


def by_keras(model, *data, **arguments):
    """Call the model's own fit, one that a subclass overrides included."""
    return model.fit(*data, **arguments)


def step_by_step(model, x, y, **arguments):
    """Train one step an execution under the eyes of an oracle, which is returned."""
    if model.steps_per_execution > 1:
        model.steps_per_execution, model.train_function = 1, None
    oracle = Oracle()
    model.fit(x, y, **{**arguments, "callbacks": [oracle]})
    return oracle


diagnosed = partial(nanfix.fit, strategies=(), throw=False)


def trained(fit, build, model=None):
    """Train a new model, or go on with `model`, on the data of `build`; return it with what `fit`
    gave. Always seeded alike.
    """
    keras.utils.set_random_seed(0)
    new, x, y, arguments = build()
    keras.utils.set_random_seed(1)
    model = model or new
    return model, fit(model, x, y, **arguments)


@dataclass(frozen=True)
class Twins:
    """Two models trained alike, one by Keras and one watched, and what each had come to by then."""

    build: Any
    plain: Any
    watched: Any
    history: Any
    report: Any
    states: tuple[list[Any], list[Any]]


def twins_of(build, fit=nanfix.fit):
    plain, history = trained(by_keras, build)
    watched, report = trained(fit, build)
    return Twins(build, plain, watched, history, report, (state(plain), state(watched)))


def assert_same_state(left, right):
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_untouched(twins):
    """Check that a healthy watched run came out bit for bit as Keras made the other."""
    report = twins.report
    assert report.outcome is Outcome.HEALTHY and report.diagnosis is None and not report.fix
    assert report.history == twins.history.history and report.epoch == twins.history.epoch
    assert_same_state(*twins.states)


def assert_onset_is_exact(build, plain=None, watched=None):
    """Check the reported onset against the oracle, which is returned, and that the
    watched model comes back finite.
    """
    _, oracle = trained(step_by_step, build, plain)
    model, report = trained(diagnosed, build, watched)
    assert oracle.onset is not None
    assert report.outcome in (Outcome.EXHAUSTED, Outcome.UNREPAIRABLE)
    assert report.diagnosis.onset == oracle.onset
    assert finite(model)
    return oracle


def body():
    """Return layers with every kind of state: weights, the seed of Dropout, the
    statistics of BatchNormalization.
    """
    return [
        layers.Dense(8, "relu"),
        layers.Dropout(0.3),
        layers.BatchNormalization(),
        layers.Dense(1),
    ]


class Network(keras.Model):
    """A subclass, without variables until it meets data."""

    def __init__(self):
        super().__init__()
        self.body = keras.Sequential(body())

    def call(self, inputs, training=False):
        return self.body(inputs, training=training)


class OwnStep(Network):
    """Writes its own step, and returns the loss of that step alone."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(y - self(x, training=True)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


class OwnFit(Network):
    """Does something before it trains."""

    def fit(self, x=None, y=None, **arguments):
        return super().fit(x, 2.0 * y, **arguments)


class OwnTrainFunction(Network):
    """Replaces the function that Keras draws batches with."""

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            step = tf.function(self.train_step)
            self.train_function = lambda iterator: step(next(iterator))
        return self.train_function


class Adversaries(keras.Model):
    """A generator and a discriminator with an optimizer each, and no loss called loss."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential(
            [keras.Input((2,)), layers.Dense(8, "relu"), layers.Dense(4)]
        )
        self.discriminator = keras.Sequential(
            [keras.Input((4,)), layers.Dense(8, "relu"), layers.Dropout(0.3), layers.Dense(1)]
        )
        self.noise = keras.random.SeedGenerator(3)

    def compile(self, generator_optimizer, discriminator_optimizer):
        super().compile()
        self.generator_optimizer, self.discriminator_optimizer = (
            generator_optimizer,
            discriminator_optimizer,
        )
        self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

    def train_step(self, real):
        rows = keras.ops.shape(real)[0]
        noise = keras.random.normal((rows, 2), seed=self.noise)
        ones, zeros = keras.ops.ones((rows, 1)), keras.ops.zeros((rows, 1))
        with tf.GradientTape() as tape:
            judged = (
                self.discriminator(real, training=True),
                self.discriminator(self.generator(noise), training=True),
            )
            discriminated = self.loss_fn(ones, judged[0]) + self.loss_fn(zeros, judged[1])
        self._descend(tape, discriminated, self.discriminator, self.discriminator_optimizer)
        with tf.GradientTape() as tape:
            generated = self.loss_fn(ones, self.discriminator(self.generator(noise, training=True)))
        self._descend(tape, generated, self.generator, self.generator_optimizer)
        return {"d_loss": discriminated, "g_loss": generated}

    def _descend(self, tape, loss, part, optimizer):
        variables = part.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))


def compiled(model, optimizer, **settings):
    model.compile(optimizer, "mse", **settings)
    return model, *explosions.table(ROWS), dict(ARGUMENTS)


def plain(optimizer):
    return compiled(keras.Sequential(body()), optimizer(), metrics=["mae"])


def steps_per_execution(optimizer):
    return compiled(keras.Sequential(body()), optimizer(), steps_per_execution=3)


def jit_compile(optimizer):
    return compiled(keras.Sequential(body()), optimizer(), jit_compile=True)


def run_eagerly(optimizer):
    return compiled(keras.Sequential(body()), optimizer(), run_eagerly=True)


def mixed_float16(optimizer):
    """Keras wraps the optimizer of a model of half precision in one that scales the loss."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model, x, y, arguments = compiled(
            keras.Sequential([*body(), layers.Activation("linear", dtype="float32")]), optimizer()
        )
    finally:
        keras.config.set_dtype_policy(policy)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    return model, x, 10.0 * y, arguments


def own_step(optimizer):
    return compiled(OwnStep(), optimizer())


def own_fit(optimizer):
    return compiled(OwnFit(), optimizer())


def own_train_function(optimizer):
    return compiled(OwnTrainFunction(), optimizer())


def adversaries(optimizer, generator_optimizer=adam):
    model = Adversaries()
    model.compile(generator_optimizer(), optimizer())
    return model, explosions.table(ROWS)[0], None, dict(ARGUMENTS)


def exploding_generator(optimizer):
    return adversaries(adam, optimizer)


def dataset(optimizer):
    model, x, y, arguments = plain(optimizer)
    del arguments["batch_size"]
    return (
        model,
        tf.data.Dataset.from_tensor_slices((x, y)).shuffle(ROWS, seed=2).batch(BATCH),
        None,
        arguments,
    )


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        rows = slice(BATCH * index, BATCH * (index + 1))
        return self.x[rows], self.y[rows]


def pydataset(optimizer):
    model, x, y, arguments = plain(optimizer)
    del arguments["batch_size"]
    return model, Batches(x, y), None, arguments


def generator(optimizer):
    model, x, y, arguments = plain(optimizer)
    del arguments["batch_size"]
    batches = Batches(x, y)
    endless = (batches[step % STEPS] for step in iter(iter(range(10**9)).__next__, None))
    return model, endless, None, {**arguments, "steps_per_epoch": STEPS}


def named_inputs_and_outputs(optimizer):
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    hidden = layers.Dropout(0.3)(layers.Dense(8, "relu")(layers.Concatenate()([first, second])))
    outputs = {
        "sum": layers.Dense(1, name="sum")(hidden),
        "product": layers.Dense(1, name="product")(hidden),
    }
    model = keras.Model({"first": first, "second": second}, outputs)
    model.compile(optimizer(), {"sum": "mse", "product": "mae"})
    x, y = explosions.table(ROWS)
    return model, {"first": x, "second": x**2}, {"sum": y, "product": y**2}, dict(ARGUMENTS)


def recurrent(optimizer):
    model, _, _, arguments = compiled(
        keras.Sequential([layers.LSTM(4, dropout=0.2), layers.Dense(1)]), optimizer()
    )
    x = np.random.default_rng(0).normal(size=(ROWS, 5, 3)).astype("float32")
    return model, x, x.mean(axis=(1, 2))[:, None], arguments


def callbacks(optimizer):
    """No epoch improves by 10, so that the rate falls after each and the third is the last, with
    the weights of the first.
    """
    model, x, y, arguments = plain(optimizer)
    given = [
        keras.callbacks.EarlyStopping(min_delta=10.0, patience=2, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(min_delta=10.0, patience=1),
    ]
    held = explosions.table(32, seed=1)
    return model, x, y, {**arguments, "epochs": 5, "callbacks": given, "validation_data": held}


def named(build):
    return build.__name__


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


@pytest.mark.parametrize("pace", [seldom, always], ids=named)
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


@pytest.mark.parametrize("settings", [{}, {"steps_per_execution": 3}], ids=str)
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


@pytest.mark.parametrize("settings", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=str)
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


def test_run_on_two_replicas_is_repaired(mirrored):
    report = mirrored["repaired"]
    assert report["outcome"] == "REPAIRED" and report["finite"] and report["epochs"] == 3, report[
        "told"
    ]


@pytest.mark.parametrize(
    "build", [steps_per_execution, own_step, own_fit, dataset, generator], ids=named
)
def test_run_of_every_mode_is_repaired(build):
    """The rate explodes in the second epoch; a share of it does not."""
    model, report = trained(
        partial(nanfix.fit, strategies=["lower-learning-rate"], throw=False),
        partial(build, partial(late, 1e3)),
    )
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert finite(model) and np.isfinite(report.history["loss"]).all() and report.epoch == [0, 1]
