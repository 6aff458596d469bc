"""finite-learning-rate, and the guard of a schedule: rates that are NaN or inf in some steps."""

import math

import explosions
import keras
import numpy as np
import pytest
from keras import ops

import nanfix
from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.changes.rate_callbacks import FiniteRate
from nanfix.model.schedules import FiniteSchedule
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase
from nanfix.remedies.registry import get
from nanfix.testing import contract

NAME, STEPS = "finite-learning-rate", 20  # of an epoch


class OneOverTheStep(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.05 / ops.cast(step, "float32")


def failing_callback():
    def rate(epoch, before):
        return 0.02 * 0.9**epoch if epoch < 2 else math.nan

    return keras.callbacks.LearningRateScheduler(rate)


def repaired(optimizer, *callbacks, **chosen):
    x, y = explosions.table(rows=16 * STEPS)
    model = explosions.mlp(optimizer)
    given = {"epochs": 4, "batch_size": 16, "verbose": 0, "callbacks": list(callbacks)}
    return nanfix.fit(model, x, y, seed=0, **given, **chosen), model


@pytest.mark.parametrize(
    ("schedule", "operation"),
    [(explosions.RootOfWhatIsLeft(2.5 * STEPS), "Sqrt"), (OneOverTheStep(), "RealDiv")],
    ids=["late", "at once"],
)
def test_a_schedule_is_guarded_where_it_leaves_its_domain(schedule, operation):
    report, model = repaired(keras.optimizers.Adam(schedule))
    (edit,) = report.fix.edits
    diagnosis = report.diagnosis
    assert report.outcome is nanfix.Outcome.REPAIRED and not report.faults
    assert diagnosis.cause is Cause.NONFINITE_RATE and diagnosis.place.phase is Phase.UPDATE
    assert type(schedule).__name__ in diagnosis.findings[0].evidence
    assert edit.strategy == "guard-unsafe-operations" and edit.params["operation"] == operation
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_a_weight_decay_beside_a_schedule_is_no_fault():
    report, _ = repaired(
        keras.optimizers.AdamW(explosions.RootOfWhatIsLeft(50.5)), strategies=[NAME]
    )
    assert report.outcome is nanfix.Outcome.REPAIRED and not report.faults
    assert report.fix.edits[0].params["rate"] == pytest.approx(0.01 * (0.5 / 50.5) ** 0.5, rel=0.01)


def test_a_callback_keeps_its_last_finite_rate():
    report, model = repaired(keras.optimizers.Adam(0.02), failing_callback())
    (edit,) = report.fix.edits
    assert report.outcome is nanfix.Outcome.REPAIRED and len(report.trials) <= 2
    assert (edit.strategy, edit.params["rate"]) == (NAME, pytest.approx(0.018))
    assert float(np.asarray(model.optimizer.learning_rate)) == pytest.approx(0.018)
    assert "a callback sets it" in report.diagnosis.findings[0].evidence


def test_a_rate_that_never_was_finite_becomes_keras_default():
    run = contract.run_of(explosions.mlp(keras.optimizers.SGD(math.nan)), *explosions.table(16))
    diagnosis = contract.diagnosis(Cause.NONFINITE_RATE)
    assert contract.levels(get(NAME), diagnosis, run) == [{"rate": 0.01}]
    kept = Plan().with_change(OptimizerSettings(finite_rate=0.01))
    assert not contract.applies(get(NAME), diagnosis, run, kept)


def test_a_finite_schedule_is_the_users_where_that_is_finite_and_is_saved(tmp_path):
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    assert float(FiniteSchedule(schedule, 0.5)(3)) == pytest.approx(float(schedule(3)))
    assert float(FiniteSchedule(OneOverTheStep(), 0.5)(0)) == 0.5
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(FiniteSchedule(schedule, 0.5)), "mse")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.optimizer.learning_rate, 0.1)


def test_a_rate_of_0_is_none_to_train_on_with():
    model, keeps = explosions.mlp("sgd"), FiniteRate(0.05)
    keeps.set_model(model)
    rates = []
    for given in (math.nan, 0.02, 0.0, math.nan):
        model.optimizer.learning_rate.assign(given)
        keeps.on_epoch_begin(0)
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([0.05, 0.02, 0.0, 0.02])
