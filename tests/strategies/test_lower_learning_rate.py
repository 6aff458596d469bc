"""lower-learning-rate: half decades of the failed rate, schedules scaled as a whole,
callbacks held below.
"""

from dataclasses import replace

import explosions
import keras
import numpy as np
import pytest

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.private.objects import learning_rate_of
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "lower-learning-rate"


@pytest.fixture(scope="module")
def run():
    return contract.run_of(explosions.mlp(keras.optimizers.SGD(0.5)), *explosions.table(rows=16))


def rates(diagnosis, run):
    return [params["learning_rate"] for params in contract.levels(get(NAME), diagnosis, run)]


def test_levels_are_half_decades_of_the_rate_that_failed(run):
    found = rates(contract.diagnosis(Cause.LEARNING_RATE, learning_rate=0.1), run)
    assert found == [0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7]


def test_a_rate_beyond_all_reason_is_lowered_to_where_steps_are_of_the_size_of_the_weights(run):
    """Six decades below 1e30 are as good as nothing."""
    beyond = contract.diagnosis(Cause.LEARNING_RATE, learning_rate=1e30, first_step=1e29)
    found = rates(beyond, run)
    assert found[0] == pytest.approx(3e3) and found[-1] == pytest.approx(0.01)
    usual = contract.diagnosis(Cause.LEARNING_RATE, learning_rate=0.1, first_step=50.0)
    assert rates(usual, run)[0] == 0.03


def test_unknown_rate_is_asked_of_the_optimizer(run):
    assert rates(contract.diagnosis(Cause.LEARNING_RATE, learning_rate=None), run)[:2] == [
        0.15,
        0.05,
    ]


def test_applies_to_optimizers_that_have_a_rate(run):
    without = replace(run, learning_rate=None)
    assert contract.applies(get(NAME), contract.diagnosis(Cause.LEARNING_RATE), run)
    assert not contract.applies(get(NAME), contract.diagnosis(Cause.LEARNING_RATE), without)
    uphill = replace(run, learning_rate=-0.1)
    assert not contract.applies(get(NAME), contract.diagnosis(Cause.LEARNING_RATE), uphill)


def test_apply_sets_the_rate_and_keeps_other_changes(run):
    clipped = Plan().with_change(OptimizerSettings({"global_clipnorm": 1.0}))
    changed = get(NAME).apply(run, clipped, learning_rate=0.03)
    assert changed.of(OptimizerSettings).settings == {"global_clipnorm": 1.0, "learning_rate": 0.03}


def test_repairs_a_rate_that_is_too_high():
    report, *_ = repairs.check_repair(NAME, explosions.learning_rate)
    rate = report.fix.edits[0].params["learning_rate"]
    assert float(report.model.optimizer.learning_rate) == np.float32(rate) and rate < 30.0


def test_schedule_is_scaled_as_a_whole():
    def build():
        model, x, y, arguments = explosions.learning_rate()
        model.compile(
            keras.optimizers.SGD(
                keras.optimizers.schedules.PiecewiseConstantDecay([16], [30.0, 15.0])
            ),
            "mse",
        )
        return model, x, y, arguments

    report, *_ = repairs.check_repair(NAME, build)
    share = report.fix.edits[0].params["share"]
    assert learning_rate_of(report.model.optimizer).values == pytest.approx(
        [30.0 * share, 15.0 * share]
    )


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Rises from 0 to 30 within an epoch; has no get_config."""

    def __call__(self, step):
        return 30.0 * keras.ops.minimum(1.0, keras.ops.cast(step, "float32") / 8.0)


@pytest.mark.parametrize("rate", [WarmUp(), lambda: 30.0], ids=["from zero", "function"])
def test_whatever_makes_the_rate_goes_on_making_it(rate):
    def build():
        model, x, y, arguments = explosions.learning_rate()
        model.compile(keras.optimizers.SGD(rate), "mse")
        return model, x, y, arguments

    report, *_ = repairs.check_repair(NAME, build)
    share = report.fix.edits[0].params["share"]
    assert share < 1.0 and float(report.model.optimizer.learning_rate) == pytest.approx(
        30.0 * share
    )
    assert str(report.fix).startswith(f"Train with {share:.3g} times each of your learning rates.")


def test_callbacks_set_their_rates_and_a_share_of_them_is_trained_with():
    seen = []

    def falling(epoch, rate):
        seen.append(rate)
        return 30.0 if epoch == 0 else rate / 2

    callback = keras.callbacks.LearningRateScheduler(falling)
    report, *_ = repairs.check_repair(NAME, explosions.learning_rate, callbacks=[callback])
    share = report.fix.edits[0].params["share"]
    assert float(report.model.optimizer.learning_rate) == pytest.approx(30.0 / 4 * share)
    assert seen[-3:] == pytest.approx([30.0, 30.0, 15.0])
    assert report.history["learning_rate"] == pytest.approx(
        [30.0 * share, 15.0 * share, 7.5 * share]
    )


def test_a_callback_of_the_users_own_is_held_at_the_rate():
    """Also while candidates are tried: 30 fails from the second epoch on."""

    class Late(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 30.0 if epoch else 1e-3

    def build():
        model, *more = explosions.learning_rate()
        model.compile(keras.optimizers.SGD(1e-3), "mse")
        return model, *more

    report, *_ = repairs.check_repair(NAME, build, callbacks=[Late()])
    rate = report.fix.edits[0].params["learning_rate"]
    assert float(report.model.optimizer.learning_rate) == pytest.approx(rate)
    assert len(report.stages) <= 1 and all(trial.steps > 16 for trial in report.trials[-1:])


@pytest.mark.soak
def test_is_as_good_as_a_tenth_by_hand():
    def build():
        x, y = explosions.noisy_table()
        arguments = {**explosions.ARGUMENTS, "epochs": 6, "batch_size": 32}
        return explosions.mlp(keras.optimizers.SGD(1.0)), x, y, arguments

    def a_tenth(model, x, y, arguments):
        model.compile(keras.optimizers.SGD(0.1), "mse")
        return repairs.trained(model, x, y, arguments)

    repairs.check_repair(NAME, build, a_tenth)
