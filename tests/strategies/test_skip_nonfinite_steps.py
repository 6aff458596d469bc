"""skip-nonfinite-steps: weights and moments stay as they are at a step whose gradient is not finite."""

from contextlib import ExitStack

import contract
import explosions
import numpy as np
import pytest

from nanfix.diagnosis import Cause
from nanfix.objective import install_objective
from nanfix.optimizing import Optimizing
from nanfix.registry import get

NAME = "skip-nonfinite-steps"


@pytest.mark.parametrize("compiled", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=["graph", "xla", "eager"])
def test_a_step_is_taken_or_left_alone_and_its_loss_left_out(compiled):
    x, y = explosions.table(rows=48)
    y[16] = np.nan
    model = explosions.mlp("adam", **compiled)
    setup = get(NAME).apply(contract.setup_of(model, x, y))
    model.optimizer.build(model.trainable_variables)
    with ExitStack() as undo:
        optimizing = Optimizing(model)
        optimizing.install(setup, undo)
        install_objective(model, setup, undo)
        first, last = x[:16], x[32:]
        losses = model.fit(x, y, batch_size=16, shuffle=False, verbose=0).history["loss"]
        notes = optimizing.settle(setup)
    assert notes == ["1 steps with a non-finite gradient were skipped, 2 taken."] and np.isfinite(losses).all()
    weights = model.get_weights()
    again = explosions.mlp("adam", **compiled)
    expected = again.fit(np.concatenate([first, last]), np.concatenate([y[:16], y[32:]]), batch_size=16, shuffle=False, verbose=0)
    assert losses == pytest.approx(expected.history["loss"], rel=1e-6)
    for ours, theirs in zip(weights, again.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_applies_once():
    diagnosis = contract.diagnosis(Cause.GRADIENT_SINGULARITY)
    setup = contract.setup_of(explosions.mlp(), *explosions.table(rows=16))
    assert get(NAME).applies(diagnosis, setup) and not get(NAME).applies(diagnosis, get(NAME).apply(setup))


def test_repairs_a_missing_target_as_well_as_an_expert():
    def expert(model, x, y, arguments):
        kept = np.isfinite(y[:, 0])
        return contract.trained(model, x[kept], y[kept], arguments)

    report, *_ = contract.check_repair(NAME, explosions.nan_target, expert, epochs=30, shuffle=True)
    assert report.notes[0].startswith("30 steps with a non-finite gradient were skipped")
    assert "apply" not in vars(report.model.optimizer)
