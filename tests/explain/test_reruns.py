"""Reruns with one thing changed: what cures is told apart from what does not, and
nothing is left behind.
"""

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf

from nanfix.api.diagnose import diagnose
from nanfix.data.training_data import TrainingData
from nanfix.explain.incident import Incident
from nanfix.model.snapshot import restore, state_variables
from nanfix.recorder.watch import Watching, watch
from nanfix.records.cause import Cause


def incident(build):
    model, x, y, arguments = build()
    data = TrainingData.of(x, y, arguments)
    return Incident(model, data, watch(model, data), Watching(), seed=0)


def tried(run, seconds=60.0):
    """Return all reruns; a machine that is busy with other tests must not run out of time."""
    return run.tried_otherwise(run.measured(), seconds=seconds)


@pytest.fixture(scope="module")
def reruns():
    """What each explosion came to with one thing changed, tried once for all tests."""
    builds = (
        explosions.learning_rate,
        explosions.schedule,
        explosions.unscaled_inputs,
        explosions.large_targets,
        explosions.initialization,
        explosions.feedback,
        explosions.linear_throughout,
        explosions.root_of_distance,
        explosions.half_precision,
        explosions.missing_cells,
    )
    return {build: tried(incident(build)) for build in builds}


@pytest.mark.parametrize(
    ("build", "cause"),
    [
        (explosions.learning_rate, Cause.LEARNING_RATE),
        (explosions.schedule, Cause.LEARNING_RATE),
        (explosions.unscaled_inputs, Cause.UNSCALED_INPUT),
        (explosions.large_targets, Cause.UNSCALED_TARGET),
        (explosions.initialization, Cause.BAD_INITIALIZATION),
        (explosions.feedback, Cause.UNSTABLE_RECURRENCE),
        (explosions.linear_throughout, Cause.UNSTABLE_ACTIVATION),
    ],
    ids=lambda value: value.value if isinstance(value, Cause) else value.__name__,
)
def test_taking_the_cause_away_cures(reruns, build, cause):
    found = reruns[build]
    assert not found.unchanged.finite
    rerun = found.rate if cause is Cause.LEARNING_RATE else found.alone[cause]
    assert rerun.cured, str(rerun)
    assert "stay finite and the loss goes from" in str(rerun)


def test_weights_left_alone_stay_finite_when_the_rate_is_the_cause(reruns):
    assert reruns[explosions.learning_rate].no_update is True
    assert reruns[explosions.schedule].no_update is True


def test_lower_rate_does_not_cure_weights_that_are_too_large(reruns):
    assert not reruns[explosions.initialization].rate.cured


def test_scaling_the_targets_does_not_cure_unscaled_inputs(reruns):
    rerun = reruns[explosions.unscaled_inputs].alone.get(Cause.UNSCALED_TARGET)
    assert rerun is None or not rerun.cured


def test_batch_that_fails_alone_is_told_from_weights_that_fail_on_all(reruns):
    failing, others = reruns[explosions.root_of_distance].others
    assert failing <= others / 2  # others, drawn at random, may hold that row too


def test_batch_with_a_hole_fails_on_the_initial_weights_too(reruns):
    assert reruns[explosions.missing_cells].initial is False
    assert "on the initial weights the same batch fails too" in str(
        reruns[explosions.missing_cells]
    )


def test_a_batch_is_tried_with_what_callbacks_had_set_for_the_step_that_failed():
    """A divisor of 0 fails every batch, on any weights: the batch and the weights are not it."""

    class Shut(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.layers[0].temperature.assign(float(epoch < 2))

    def build():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), explosions.Cooled(), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        x, y = explosions.table()
        return model, x, y, {"epochs": 4, "verbose": 0, "callbacks": [Shut()]}

    found = tried(incident(build))
    assert found.initial is False and found.others == (8, 8)


def test_half_precision_is_tried_in_full(reruns):
    assert reruns[explosions.half_precision].full_precision is True
    assert "in float32 it stays finite" in str(reruns[explosions.half_precision])


def test_nothing_is_tried_when_there_is_no_time():
    nothing = tried(incident(explosions.learning_rate), seconds=0.0)
    assert nothing.unchanged is None and "time ran out before all was tried" in str(nothing)


def test_everything_is_put_back():
    run = incident(explosions.feedback)
    restore(run.recording.newest)
    before = [np.asarray(variable).copy() for variable in state_variables(run.model)]
    activation, function = run.model.layers[0].cell.activation, run.model.train_function
    assert Cause.UNSTABLE_RECURRENCE in tried(run).alone
    assert (
        run.model.layers[0].cell.activation is activation and run.model.train_function is function
    )
    for variable, value in zip(state_variables(run.model), before, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), value)


class ByHand(keras.Model):
    """A model whose own step weighs each class; one has never been met, and weighs infinitely."""

    def __init__(self, loss):
        super().__init__()
        self.head, self.by_hand = keras.layers.Dense(3), loss

    def call(self, inputs):
        return self.head(inputs)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.by_hand(y, self(x, training=True))
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"loss": loss}


def looked_up(y, logits):
    weights = tf.constant([1.0, 2.0, np.inf])
    return -tf.reduce_mean(weights * tf.one_hot(y, 3) * tf.nn.log_softmax(logits))


def cast_and_looked_up(y, logits):
    return looked_up(tf.cast(y, tf.int32), logits)


def checked(y, logits):
    """What the user checks is broken by nanfix, not by the user."""
    assert y.dtype.is_integer
    return looked_up(y, logits)


def root_of_error(y, logits):
    return tf.sqrt(tf.reduce_mean(tf.cast(y, tf.float32)[:, None] - logits) - 1e6)


def failing(kind, by_hand=None, loss=None):
    """Return a training on targets of this kind that fails at its first step."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 4)).astype("float32"), rng.integers(0, 2, 64).astype(kind)
    if by_hand is None:
        x[::16] = np.inf
        y = y if loss == SPARSE else np.stack([y] * 3, axis=1)
    model = ByHand(by_hand) if by_hand else keras.Sequential([keras.layers.Dense(3)])
    model.compile("sgd", loss=loss)
    return model, x, y, {"batch_size": 16, "verbose": 0}


SPARSE = "sparse_categorical_crossentropy"
INTEGERS, OTHERS = ("int32", "int64", "uint8"), ("float32", "bool")


@pytest.mark.parametrize(
    ("by_hand", "loss", "measured", "kind"),
    [
        (by_hand, loss, measured, kind)
        for by_hand, loss, kinds, measured in (
            (looked_up, None, INTEGERS, ()),
            (checked, None, INTEGERS[:1], ()),
            (cast_and_looked_up, None, ("int32", *OTHERS), ("float32",)),
            (root_of_error, None, ("int32", *OTHERS), ("float32",)),
            # Its loss takes them as numbers, and it looks them up all the same.
            (looked_up, "mse", INTEGERS, INTEGERS),
            (None, "mse", ("int32", *OTHERS), ("int32", "float32")),
            (None, "binary_crossentropy", ("int32", *OTHERS), ()),
            (None, SPARSE, INTEGERS, ()),
        )
        for kind in kinds
    ],
)
def test_targets_keep_their_type_where_a_step_looks_them_up(by_hand, loss, measured, kind):
    run = incident(lambda: failing(kind, by_hand, loss))
    assert (run.measured().audit.target_scale is not None) is (kind in measured)
    found = tried(run)
    assert not found.unchanged.finite
    if by_hand is not None:
        assert found.rate is not None
        takes_floats = by_hand is root_of_error or kind == "float32"
        assert takes_floats or Cause.UNSCALED_TARGET not in found.alone


def test_what_a_step_does_not_take_says_nothing_and_hides_nothing():
    """Unscaled inputs that it looks up: they alone are refused, a lower rate is tried."""

    def loss(y, outputs):
        return tf.reduce_mean(tf.square(y[:, None] - outputs))

    class LooksUp(ByHand):
        def call(self, inputs):
            return self.head(tf.one_hot(inputs[:, 0], 3) * tf.cast(inputs[:, 1:], "float32"))

    rng = np.random.default_rng(0)
    x = np.column_stack([rng.integers(0, 3, 64), rng.integers(-10_000, 10_000, (64, 3))])
    model = LooksUp(loss)
    model.compile("sgd")
    y = 1e3 * rng.normal(size=64).astype("float32")
    found = tried(incident(lambda: (model, x, y, {"epochs": 20, "verbose": 0})))
    assert not found.unchanged.finite and set(found.alone) == {Cause.UNSCALED_TARGET}
    assert found.rate.cured


def test_where_all_rows_are_in_one_batch_there_are_no_others():
    model, x, y, arguments = explosions.learning_rate()
    whole = diagnose(model, x, y, **{**arguments, "batch_size": len(x), "validation_split": 0.0})
    assert "other batches" not in str(whole)
