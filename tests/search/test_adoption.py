"""What a training with a fix comes to: a repair, or finite and short of one."""

import math
from dataclasses import replace

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from guarding import with_guards_alone
from keras import ops

import nanfix
from nanfix import Budget, Outcome
from nanfix.remedies.registry import catalogue


def test_what_stays_finite_without_learning_is_handed_over():
    model, x, y, arguments = explosions.noise()
    report = nanfix.fit(
        model, x, y, strategies=["lower-learning-rate"], budget=Budget(trials=4), **arguments
    )
    assert report.outcome is Outcome.FINITE and report.model is model
    treats = {name for name, each in catalogue().items() if each.treats & {report.diagnosis.cause}}
    reasons = dict.fromkeys(("impute-codes", *treats), "it cannot")
    told = str(replace(report, refused=reasons))
    assert all(f"Not tried: {name}, since it cannot." in told for name in treats)
    assert treats and "impute-codes" not in told  # of what was not at fault nothing is said
    assert [edit.strategy for edit in report.fix.edits] == ["lower-learning-rate"]
    assert "It falls short of a repair: it is no better than" in str(report)
    assert np.isfinite(report.history["loss"]).all()
    assert len(report.history["loss"]) == arguments["epochs"]
    assert np.isfinite(model.predict(x, verbose=0)).all()


def capped(y, p):
    """A density that underflows for every prediction within reach."""
    return -ops.log(ops.exp(-ops.square(1e3 * (y - p - 50.0))))


def capped_beside_what_falls(y, p):
    """The same, and a term that falls whatever the targets are."""
    return capped(y, p) + ops.square(p + 1.0)


@pytest.mark.parametrize("loss", [capped, capped_beside_what_falls])
def test_a_guard_that_caps_the_loss_everywhere_is_no_repair(loss):
    x, y = explosions.table()
    model = explosions.mlp("sgd", loss)
    report = with_guards_alone(model, x, y)
    assert report.outcome not in (Outcome.REPAIRED, Outcome.HEALTHY)
    if loss is capped_beside_what_falls:
        assert "a guard still holds every number at the edge of the domain" in str(report)


def test_filling_holes_alone_is_enough_where_the_rest_is_the_users_own_choice():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 4)).astype("float32")
    y = (300.0 + 50.0 * x[:, :1]).astype("float32")
    x[7, 2] = np.nan
    model = explosions.mlp("adam")
    report = nanfix.fit(model, x, y, **explosions.ARGUMENTS)
    assert report.outcome is Outcome.REPAIRED
    assert [edit.strategy for edit in report.fix.edits] == ["impute-nonfinite"]


@pytest.mark.parametrize("rate", [0.06, 1e-4])
def test_a_finite_run_whose_loss_and_weights_have_grown_has_diverged(rate):
    rng = np.random.default_rng(0)
    x = (30.0 * rng.normal(size=(160, 4))).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate / 30.0), "mse")
    given = model.get_weights()
    plain = keras.models.clone_model(model)
    plain.set_weights(given)
    plain.compile(keras.optimizers.SGD(rate / 30.0), "mse")
    arguments = {"epochs": 1, "batch_size": 16, "verbose": 0, "shuffle": False}
    y = x[:, :1] * 2.0
    report = nanfix.fit(model, x, y, **arguments)
    plain.fit(x, y, **arguments)
    diverged = rate == 0.06
    assert report.outcome is (Outcome.DIVERGED if diverged else Outcome.HEALTHY)
    assert ("a lower learning rate" in str(report)) is diverged
    for one, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def of_no_row(y, p):
    return ops.log(ops.stop_gradient(p)) + 0.0 * p


def test_a_loss_of_which_no_gradient_arrives_is_no_repair_though_weights_move():
    x, y = explosions.table()
    model = explosions.mlp(keras.optimizers.AdamW(0.01, weight_decay=0.5), of_no_row)
    report = nanfix.fit(
        model,
        x,
        y,
        strategies=["constrain-outputs"],
        budget=Budget(trials=2),
        throw=False,
        **explosions.ARGUMENTS,
    )
    assert report.outcome is Outcome.FINITE
    assert "no gradient of the data reaches the weights" in str(report)


def of_pairs(y, p):
    """The mean over the pairs of rows that differ in a target of 0 and 1: a batch without such a
    pair is 0/0, and a single row has none.
    """
    above = ops.cast(y > ops.transpose(y) + 0.5, "float32")
    losses = ops.softplus(-(p - ops.transpose(p)))
    return ops.sum(above * losses) / ops.sum(above)


def test_rows_that_are_compared_with_each_other_are_not_looked_at_one_by_one():
    x, y = explosions.table()
    y = (y > np.quantile(y, 0.9)).astype("float32")
    y[:16] = 0.0  # without a pair
    model = explosions.mlp(keras.optimizers.Adam(0.01), of_pairs)
    report = with_guards_alone(model, x, y, batch_size=16, shuffle=False)
    assert report.outcome is Outcome.REPAIRED
    assert "holds back" not in str(report)


def test_a_model_that_predicts_one_number_is_no_repair():
    x, y = explosions.table()
    x[3, 0] = np.nan
    y = y + 3.0  # which the last bias learns
    model = explosions.mlp("adam", activation="elu")
    model.layers[1].activation = explosions.rectified
    model.layers[1].bias.assign(np.full(8, -1e3))
    report = nanfix.fit(
        model, x, y, strategies=["impute-nonfinite"], throw=False, **explosions.ARGUMENTS
    )
    # Better than untrained, which is all that is asked of a change to the data.
    assert report.outcome is Outcome.FINITE


class Unjudged(keras.Model):
    """Trains by a step of its own and has no `call`, as a GAN has none."""

    def __init__(self):
        super().__init__()
        self.body = explosions.mlp()

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = ops.mean(ops.square(y - self.body(x, training=True)))
        weights = self.body.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def test_what_could_not_be_judged_is_not_called_proved():
    x, y = explosions.table()
    model = Unjudged()
    model.compile(keras.optimizers.SGD(20.0))
    arguments = {"epochs": 3, "batch_size": 16, "verbose": 0}
    report = nanfix.fit(model, x, y, strategies=["lower-learning-rate"], **arguments)
    assert report.outcome is Outcome.REPAIRED
    assert "it is judged by the losses of that step" in str(report)
    assert "Proved" not in str(report)
    assert "It stays finite with 2 other seeds and over more steps, too." in report.notes


class Autoencoder(keras.Model):
    """Rebuilds its inputs under a crossentropy, for which inputs of more than 1 have no least."""

    def __init__(self):
        super().__init__()
        self.coder = keras.Sequential(
            [keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(8, activation="sigmoid")]
        )
        self.tracker = keras.metrics.Mean("loss")

    def train_step(self, data):
        with tf.GradientTape() as tape:
            rebuilt = self.coder(data, training=True)
            loss = tf.reduce_mean(keras.losses.binary_crossentropy(data, rebuilt))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


def test_a_loss_that_falls_faster_and_faster_is_not_repaired(caplog):
    model = Autoencoder()
    model.compile(keras.optimizers.SGD(1.0))
    pixels = np.random.default_rng(0).integers(0, 17, (128, 8)).astype("float32")
    report = nanfix.fit(model, pixels, epochs=10, verbose=2, forbid=["scale-data"])
    assert report.outcome is Outcome.FINITE
    short = [line for line in caplog.messages if "searching on" in line]
    assert len(short) == len(set(short)) > 1  # no fix is trained with a second time
    assert math.isfinite(report.history["loss"][-1])
    assert "It falls short of a repair: the loss went from" in report.notes[-1]


def shifted_square(y, p):
    """A loss of the user's own, not finite where an output is 0 or less."""
    return ops.square(ops.log(p) - y)


def test_a_model_that_predicts_nearly_the_same_for_all_rows_is_no_repair():
    """Of the user's own loss the best constant is not known."""
    x, y = explosions.table()
    model = explosions.mlp(keras.optimizers.SGD(0.05), shifted_square)
    report = nanfix.fit(
        model, 1e-6 * x, y, strategies=["constrain-outputs"], throw=False, **explosions.ARGUMENTS
    )
    assert report.outcome is Outcome.FINITE
    assert "no better than with the targets of other rows" in str(report)


def test_a_loss_that_does_not_look_at_the_targets_is_judged_as_before():
    x, _ = explosions.table()

    def own(y, p):
        return ops.square(p) - ops.log(p)

    model = explosions.mlp(keras.optimizers.SGD(0.05), own)
    y = np.arange(len(x), dtype="float32")[:, None]
    report = nanfix.fit(model, x, y, strategies=["constrain-outputs"], **explosions.ARGUMENTS)
    assert report.outcome is Outcome.REPAIRED


def test_a_loss_below_0_that_does_not_look_at_the_targets_is_no_repair():
    """The stable form of it falls for ever, whatever the rows are."""
    x, y = explosions.table()

    def unlikelihood(y, p):
        return ops.log(1.0 - ops.sigmoid(1e3 * p))

    model = explosions.mlp(keras.optimizers.Adam(0.002), unlikelihood)
    report = nanfix.fit(
        model, x, y, strategies=["rewrite-stably"], throw=False, **explosions.ARGUMENTS
    )
    assert report.outcome is Outcome.FINITE
    assert "its loss is the same whatever its targets are" in str(report)


def test_an_output_without_life_is_no_repair():
    """The guard cuts the gradient, and the other output hides it: its loss goes down."""
    x, y = explosions.table()
    inputs = keras.Input((4,))
    alive = keras.layers.Dense(1, name="alive")(inputs)
    # Below 0 for every row, and so 0 for ever.
    dead = keras.layers.Dense(2, "relu", bias_initializer=keras.initializers.Constant(-99.0))
    model = keras.Model(inputs, [alive, dead(inputs)])

    def share(y, p):
        total = ops.sum(p, axis=-1)
        return ops.square(1.0 - ops.sum(y * p, axis=-1) / total)

    model.compile(keras.optimizers.SGD(0.05), ["mse", share])
    targets = [y, np.random.default_rng(0).random((len(x), 2)).astype("float32")]
    report = nanfix.fit(
        model,
        x,
        targets,
        strategies=["guard-unsafe-operations"],
        throw=False,
        **explosions.ARGUMENTS,
    )
    assert report.outcome is Outcome.FINITE
    assert "it predicts the same for all rows (dense" in str(report)


def test_where_only_the_loss_is_infinite_the_training_goes_on_as_keras_does():
    """Of some rows the loss is infinite whatever is predicted; its gradient is that of the rest."""

    def loss(y, p):
        never = tf.where(y > 1.0, np.inf, 0.0)
        return ops.mean(ops.square(y - p) + tf.stop_gradient(never), axis=-1)

    class Ends(keras.callbacks.Callback):
        count = 0

        def on_train_end(self, logs=None):
            self.count += 1

    x, y = explosions.table()
    expected = explosions.mlp(keras.optimizers.SGD(0.05), loss)
    expected.fit(x, y, epochs=6, batch_size=16, shuffle=False, verbose=0)
    model, ends = explosions.mlp(keras.optimizers.SGD(0.05), loss), Ends()
    arguments = {"epochs": 6, "batch_size": 16, "shuffle": False, "verbose": 0}
    report = nanfix.fit(
        model, x, y, strategies=["lower-learning-rate"], throw=False, callbacks=[ends], **arguments
    )
    assert report.outcome is Outcome.EXHAUSTED and ends.count == 1
    assert "Look for rows whose loss is infinite whatever is predicted." in str(report)
    assert report.history["loss"] == [math.inf] * 6
    for trained, plain in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(trained, plain, rtol=1e-5)
