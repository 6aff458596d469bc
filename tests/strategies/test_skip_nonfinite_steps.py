"""skip-nonfinite-steps: weights and moments stay as they are at a step whose gradient
is not finite.
"""

from contextlib import ExitStack

import explosions
import keras
import numpy as np
import pytest

import nanfix
from nanfix import Outcome
from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.optimizer_installer import Optimizing, without_skipped
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "skip-nonfinite-steps"


@pytest.mark.parametrize(
    "compiled", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=["graph", "xla", "eager"]
)
def test_a_step_is_taken_or_left_alone_and_its_loss_left_out(compiled):
    x, y = explosions.table(rows=48)
    y[16] = np.nan
    model = explosions.mlp("adam", **compiled)
    settings = get(NAME).apply(contract.run_of(model, x, y), Plan()).of(OptimizerSettings)
    model.optimizer.build(model.trainable_variables)
    with ExitStack() as undo:
        optimizing = Optimizing(model)
        optimizing.install(settings, undo)
        without_skipped(model, undo)
        first, last = x[:16], x[32:]
        losses = model.fit(x, y, batch_size=16, shuffle=False, verbose=0).history["loss"]
        notes = optimizing.settle(settings)
    assert (
        notes == ["1 steps with a non-finite gradient were skipped, 2 taken."]
        and np.isfinite(losses).all()
    )
    weights = model.get_weights()
    again = explosions.mlp("adam", **compiled)
    expected = again.fit(
        np.concatenate([first, last]),
        np.concatenate([y[:16], y[32:]]),
        batch_size=16,
        shuffle=False,
        verbose=0,
    )
    assert losses == pytest.approx(expected.history["loss"], rel=1e-6)
    for ours, theirs in zip(weights, again.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_training_of_which_every_step_is_skipped_is_no_repair():
    model, x, y, arguments = explosions.root_in_the_loss()
    report = nanfix.fit(model, x, y, strategies=[NAME], throw=False, **arguments)
    assert report.outcome is Outcome.EXHAUSTED and report.trials[0].verdict == "non-finite"


def test_a_training_of_which_most_steps_are_skipped_is_no_repair():
    x, y = explosions.table(rows=320)
    x[::10] = 0.0  # there the root is finite, and its slope is not
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    root = keras.layers.Dense(8, lambda h: keras.ops.sqrt(abs(h)), use_bias=False)(inputs)
    joined = keras.layers.Concatenate()([inputs, root])
    model = keras.Model(inputs, keras.layers.Dense(1)(joined))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    arguments = {**explosions.ARGUMENTS, "epochs": 8}
    report = nanfix.fit(model, x, y, strategies=[NAME], throw=False, **arguments)
    assert report.outcome is Outcome.FINITE, str(report)
    assert "steps were skipped, so that little of the data was learned from" in str(report)


def test_applies_once():
    diagnosis = contract.diagnosis(Cause.GRADIENT_SINGULARITY)
    run = contract.run_of(explosions.mlp(), *explosions.table(rows=16))
    assert contract.applies(get(NAME), diagnosis, run) and not contract.applies(
        get(NAME), diagnosis, run, get(NAME).apply(run, Plan())
    )


def test_trains_on_from_before_a_failure_that_does_not_repeat():
    model, x, y, arguments = explosions.glitch()
    report = nanfix.fit(model, x, y, throw=False, **{**arguments, "epochs": 6})
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert report.notes[0] == "0 steps with a non-finite gradient were skipped, 60 taken."


def one_missing_target():
    """One target of 640 is missing; a linear model ends at the one best loss, whatever
    the order of its rows.
    """
    x, y = explosions.table(rows=800)
    y += np.random.default_rng(1).normal(scale=0.3, size=y.shape).astype("float32")
    y[5] = np.nan
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x, y, {**explosions.ARGUMENTS, "epochs": 30}


@pytest.mark.soak
def test_repairs_a_missing_target_as_well_as_an_expert():
    def expert(model, x, y, arguments):
        held = repairs.training_rows(y, arguments)
        x, y, given = (
            np.delete(x, 5, axis=0),
            np.delete(y, 5, axis=0),
            {**arguments, "validation_data": (x[held:], y[held:])},
        )
        del given["validation_split"]
        return repairs.trained(model, x[: held - 1], y[: held - 1], given)

    report, *_ = repairs.check_repair(NAME, one_missing_target, expert)
    assert report.notes[0] == "30 steps with a non-finite gradient were skipped, 1170 taken."
    assert "apply" not in vars(report.model.optimizer)
