"""From evidence to cause: each small explosion is named for what it is."""

import explosions
import pytest

from nanfix.budget import Budget
from nanfix.controller import fit
from nanfix.diagnosis import Cause, Phase

EXPECTED = {
    explosions.learning_rate: {Cause.LEARNING_RATE},
    explosions.unscaled_targets: {Cause.UNSCALED_TARGET},
    explosions.initialization: {Cause.BAD_INITIALIZATION},
    explosions.recurrence: {Cause.UNSTABLE_RECURRENCE},
    explosions.handwritten_log: {Cause.LOGITS_BY_HAND},
    explosions.root_of_distance: {Cause.GRADIENT_SINGULARITY},
    explosions.adam_without_epsilon: {Cause.OPTIMIZER_CONSTANT},
    explosions.missing_cells: {Cause.NONFINITE_INPUT},
    explosions.nan_target: {Cause.NONFINITE_TARGET},
}


def diagnosed(build):
    model, x, y, arguments = build()
    return fit(model, x, y, strategies=(), throw=False, budget=Budget(trials=1), **arguments).diagnosis


@pytest.mark.parametrize("build", EXPECTED, ids=lambda build: build.__name__)
def test_first_cause(build):
    diagnosis = diagnosed(build)
    assert diagnosis.cause in EXPECTED[build]
    assert len(str(diagnosis).splitlines()) <= 12


def test_scale_of_inputs_is_among_the_causes_with_its_figure():
    findings = {finding.cause: finding for finding in diagnosed(explosions.unscaled_inputs).findings}
    assert "root mean square" in findings[Cause.UNSCALED_INPUT].evidence


def test_rows_with_holes_are_those_of_the_users_data():
    diagnosis = diagnosed(explosions.missing_cells)
    assert diagnosis.rows == (70, 90) and diagnosis.rows_of == "the data"
    assert diagnosis.place.phase is Phase.INPUT
    assert "1 NaN and 1 inf in 2 of 128 rows" in diagnosis.findings[0].evidence


def test_rows_with_nan_targets():
    assert diagnosed(explosions.nan_target).rows == (5,)
