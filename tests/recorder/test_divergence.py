"""Trainings that stay finite and diverge: seen, repaired on request, else left alone."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import nanfix
from nanfix import Budget, Outcome
from nanfix.recorder._divergence import Divergence
from nanfix.records.diagnosis import Onset, Phase
from nanfix.records.errors import InputError


def followed(*losses):
    divergence = Divergence(active=True)
    for step, loss in enumerate(losses, 1):
        divergence.see(SimpleNamespace(steps=[loss], first=losses[0]), Onset(1, step), step)
    return divergence


def test_the_first_step_of_those_that_stay_above_the_ceiling_is_where_it_began():
    divergence = followed(2.0, 3e4, 1.0, 9e4, 5e8)
    assert divergence.ceiling == 2e4
    assert divergence.began is not None and divergence.began.at == Onset(1, 4)
    assert divergence.began.total == 4


def test_a_loss_that_comes_down_again_has_recovered():
    divergence = followed(2.0, 3e4, 1.0)
    assert divergence.began is None
    assert divergence.recovered() and not divergence.recovered()


@pytest.mark.parametrize("first", [0.0, -1.0, math.nan])
def test_without_a_first_loss_above_zero_nothing_diverges(first):
    assert followed(first, 1e30).began is None


class Told(keras.callbacks.Callback):
    def __init__(self, factors=()):
        super().__init__()
        self.said, self.factors = [], dict(factors)

    def on_train_begin(self, logs=None):
        self.said.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        if epoch in self.factors:
            self.model.set_weights([self.factors[epoch] * w for w in self.model.get_weights()])

    def on_epoch_end(self, epoch, logs=None):
        self.said.append(epoch)

    def on_train_end(self, logs=None):
        self.said.append("end")


def diverging(rate=2e-3):
    rng = np.random.default_rng(0)
    x = (30.0 * rng.normal(size=(160, 4))).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    arguments = {"batch_size": 16, "verbose": 0, "shuffle": False}
    return model, x, 2.0 * x[:, :1], arguments


def test_a_training_that_has_diverged_is_repaired_on_request():
    model, x, y, arguments = diverging()
    told = Told()
    report = nanfix.fit(
        model,
        x,
        y,
        repair_divergence=True,
        strategies=["scale-inputs", "lower-learning-rate"],
        budget=Budget(trials=6),
        callbacks=[told],
        epochs=1,
        **arguments,
    )
    assert report.outcome is Outcome.REPAIRED
    assert report.diagnosis.place.phase is Phase.DIVERGENCE
    assert report.diagnosis.onset < Onset(1, 10)
    assert "Training stayed finite, but diverged from epoch 1 step" in str(report)
    assert report.history["loss"][0] < 1e5 and np.mean((model.predict(x, verbose=0) - y) ** 2) < 1e3
    assert told.said == ["begin", 0, "end"]  # one training


def test_without_a_repair_the_callbacks_have_seen_one_whole_training():
    model, x, y, arguments = diverging()
    told = Told()
    report = nanfix.fit(
        model,
        x,
        y,
        repair_divergence=True,
        strategies=[],
        throw=False,
        callbacks=[told],
        epochs=1,
        **arguments,
    )
    assert report.outcome is Outcome.EXHAUSTED and len(report.history["loss"]) == 1
    assert told.said == ["begin", 0, "end"]
    assert np.abs(model.get_weights()[0]).max() < 1e3  # its last good state


def test_a_training_that_recovers_is_left_alone_and_what_follows_is_recorded():
    def trained(fit, **own):
        model, x, y, arguments = diverging(1e-4)
        thrown = Told({1: np.float32(1e5), 2: np.float32(1e-5)})
        result = fit(model, x, y, epochs=4, callbacks=[thrown], **own, **arguments)
        return result, model.get_weights()

    report, weights = trained(nanfix.fit, repair_divergence=True)
    plain, expected = trained(lambda model, x, y, **given: model.fit(x, y, **given))
    assert report.outcome is Outcome.HEALTHY and max(report.history["loss"]) > 1e9
    assert report.history == plain.history
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_argument_than_true_or_false_is_refused():
    model, x, y, _ = diverging()
    with pytest.raises(InputError, match="repair_divergence"):
        nanfix.fit(model, x, y, repair_divergence="yes")
