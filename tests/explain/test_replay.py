"""Replays: exact onset, and the operation, layer and line of a failing step."""

import itertools

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf

from nanfix.api.diagnose import diagnose
from nanfix.data.training_data import TrainingData
from nanfix.explain.replay import REPEATS, REPLAYS, replay
from nanfix.model.snapshot import is_finite, read, restore, state_variables
from nanfix.recorder.watch import watch
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Onset, Phase


def seen(build):
    model, x, y, arguments = build()
    watched = watch(model, TrainingData.of(x, y, arguments))
    recording = watched.recorder.recording()
    return model, recording, replay(model, recording, watched.incident.detected)


def brute_force_onset(build):
    """Train batch by batch with Keras alone and look at everything after each."""
    model, x, y, _arguments = build()
    kept = int(len(x) * 0.8)
    for step in range(kept // 16):
        rows = slice(16 * step, 16 * (step + 1))
        loss = model.train_on_batch(x[rows], y[rows])
        loss = loss[0] if isinstance(loss, list) else loss
        if not np.isfinite(loss) or not all(is_finite(read(v)) for v in state_variables(model)):
            return (1, step + 1)
    return None


@pytest.mark.parametrize(
    "build",
    [explosions.root_of_distance, explosions.missing_cells, explosions.nan_target],
    ids=lambda build: build.__name__,
)
def test_onset_is_exact(build):
    _, _, replayed = seen(build)
    assert (replayed.onset.epoch, replayed.onset.step) == brute_force_onset(build)


def test_the_rate_is_that_of_the_step_that_failed():
    """The newest snapshot is from before the step at which the schedule raises it."""
    _, _, replayed = seen(explosions.schedule)
    assert (replayed.first_learning_rate, replayed.learning_rate) == pytest.approx((0.01, 10.0))


def test_steps_that_stay_finite_are_replayed_several_times():
    _, _, replayed = seen(explosions.glitch)
    assert replayed.onset is None and replayed.replays == REPLAYS and replayed.is_transient


def test_a_step_that_fails_now_and_then_is_run_again_and_counted():
    _, _, replayed = seen(explosions.glitches)
    failed, tried = replayed.again
    assert 0 < failed < tried == REPEATS and replayed.is_transient


def test_a_step_that_fails_each_time_is_no_transient():
    _, _, replayed = seen(explosions.foreign_state)
    assert replayed.again == (REPEATS, REPEATS) and not replayed.is_transient


def test_place_of_a_logarithm_is_the_line_of_the_users_loss():
    _, _, replayed = seen(explosions.handwritten_log)
    place = replayed.failing.place
    assert place.phase is Phase.LOSS and place.operation == "Log"
    assert place.source is not None and place.source.startswith("domains.py:")


def test_singular_gradient_is_traced_to_the_forward_operation():
    _, _, replayed = seen(explosions.root_of_distance)
    place = replayed.failing.place
    assert place.phase is Phase.GRADIENT and place.operation == "Sqrt"
    assert place.layer is not None and place.layer.startswith("lambda")


def test_gradient_of_several_operations_is_traced_to_the_one_whose_gradient_it_is():
    _, _, replayed = seen(explosions.angle_of_equals)
    place = replayed.failing.place
    assert (
        place.phase is Phase.GRADIENT
        and place.operation == "Acos"
        and place.layer.startswith("angle")
    )
    assert place.source is not None and place.source.startswith("domains.py:")


def test_gradient_of_an_angle_is_traced_to_the_line_that_computes_it():
    _, _, replayed = seen(explosions.heading_of_nothing)
    place = replayed.failing.place
    assert place.phase is Phase.GRADIENT and place.operation == "Atan2"
    assert place.source is not None and place.source.startswith("networks.py:")


def test_update_by_zero_is_seen_in_the_optimizer():
    _, _, replayed = seen(explosions.adam_without_epsilon)
    assert replayed.failing.phase is Phase.UPDATE and replayed.failing.operation == "RealDiv"


def test_overflow_is_seen_with_the_size_of_its_numbers():
    _, _, replayed = seen(explosions.learning_rate)
    assert replayed.failing.magnitude > 1e9
    assert replayed.gradient_norm is not None


def test_replay_leaves_the_state_of_the_newest_snapshot():
    model, recording, _ = seen(explosions.learning_rate)
    after = [np.asarray(v).copy() for v in state_variables(model)]
    restore(recording.newest)
    for variable, value in zip(state_variables(model), after, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), value)


class OwnStep(keras.Model):
    """Trains as Keras' guides do, with `optimizer.apply`."""

    def __init__(self, *hidden):
        super().__init__()
        self.hidden, self.last = list(hidden), keras.layers.Dense(1)

    def call(self, x):
        for layer in self.hidden:
            x = layer(x)
        return self.last(x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(y - self(x, training=True)))
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        return {"loss": loss}


class CompiledStep(OwnStep):
    train_step = tf.function(OwnStep.train_step)


class Logarithm(keras.layers.Layer):
    @tf.function
    def call(self, x):
        return keras.ops.log(x)


def compiled(model, optimizer, x_scale=1.0):
    model.compile(optimizer, "mse")
    x, y = explosions.table()
    return lambda: (
        model,
        x_scale * x,
        y,
        {"epochs": 1, "batch_size": 16, "verbose": 0, "shuffle": False},
    )


@pytest.mark.parametrize("kind", [OwnStep, CompiledStep])
def test_update_by_zero_is_seen_in_a_step_of_the_users_own(kind):
    """Without a bias in the loss' way: a constant feature of 0 has no gradient, and
    Adam divides 0 by 0.
    """
    model = kind(keras.layers.Dense(4, kernel_initializer="zeros", activation="relu"))
    _, _, replayed = seen(compiled(model, keras.optimizers.Adam(0.01, epsilon=0.0)))
    assert replayed.failing.phase is Phase.UPDATE and replayed.failing.operation == "RealDiv"
    assert replayed.failing.gradient_norm > 0.0 and len(replayed.failing.gradient_norms) == 4
    assert model.optimizer.apply.__func__ is keras.optimizers.Adam.apply


def test_line_of_a_compiled_layer_is_found_and_the_users_setting_stays():
    model = OwnStep(Logarithm(name="logs"))
    _, _, replayed = seen(compiled(model, "sgd"))
    place = replayed.failing.place
    assert (place.phase, place.layer, place.operation) == (Phase.FORWARD, "logs", "Log")
    assert place.source.startswith("test_replay.py:") and place.code.endswith(
        ".call: return keras.ops.log(x)"
    )
    assert not tf.config.functions_run_eagerly()


def test_step_that_cannot_run_eagerly_is_missing_evidence_and_no_failure():
    class Symbolic(OwnStep):
        def train_step(self, data):
            assert data[0].graph is not None  # which an eager tensor has not
            return super().train_step(data)

    _, _, replayed = seen(compiled(Symbolic(), keras.optimizers.SGD(1e30)))
    assert replayed.onset is not None and replayed.failing.operation is None
    assert replayed.failing.error.startswith("AttributeError: ")


class Sampled(keras.Model):
    """Learns from weights of rows that are drawn by the user's own means; once one is negative."""

    def __init__(self, drawn):
        super().__init__()
        self.dense, self._drawn = keras.layers.Dense(1), drawn

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        weight = tf.py_function(lambda: next(self._drawn), [], tf.float32)
        weight.set_shape([])
        return tf.reduce_mean(tf.square(y_pred - y)) * tf.math.log(weight)


def test_a_training_that_takes_another_course_keeps_its_onset(monkeypatch):
    """What a random number that cannot be set back has ruined comes earlier in the replay."""
    # Hardly any snapshot is kept, so that much is replayed.
    monkeypatch.setattr("nanfix.recorder._timing.SNAPSHOT_TIME_SHARE", 1e-9)
    monkeypatch.setattr("nanfix.recorder._timing.ALWAYS_UNDER_SECONDS", 0.0)
    drawn = itertools.chain([2.0] * 5, [-1.0], itertools.cycle([2.0, 2.0, -1.0]))
    x, y = explosions.table(128)
    model = Sampled(drawn)
    model.compile("sgd")
    diagnosis = diagnose(model, x, y, epochs=1, batch_size=16, verbose=0)
    assert diagnosis.onset == Onset(1, 6)
    assert "another course and failed at epoch 1 step 4" in str(diagnosis)
    assert diagnosis.place.operation == "Log"


def test_what_lets_few_steps_fail_is_looked_for_where_steps_draw_numbers_of_their_own():
    """As where one gradient in a hundred is 0: no replay may fail, and no look at a single step."""
    others = np.random.default_rng(0).uniform(1.5, 3.0, 6 * REPLAYS + 8).tolist()
    drawn = itertools.chain([2.0] * 5, [-1.0], others, [-1.0], itertools.cycle([2.0]))
    x, y = explosions.table(128)
    model = Sampled(drawn)
    model.compile("sgd")
    diagnosis = diagnose(model, x, y, epochs=1, batch_size=16, verbose=0)
    assert diagnosis.onset == Onset(1, 6) and diagnosis.cause is Cause.LOSS_DOMAIN
    assert diagnosis.place.operation == "Log" and "another course" in str(diagnosis)
