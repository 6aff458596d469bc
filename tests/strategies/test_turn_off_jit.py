"""turn-off-jit: compiled without XLA, where XLA alone makes the step non-finite."""

import explosions
import pytest

from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "turn-off-jit"
DIAGNOSIS = contract.diagnosis(Cause.XLA_ONLY)


def situations():
    return {"by XLA": contract.run_of(explosions.mlp(jit_compile=True), *explosions.table(rows=16))}


def test_refuses_a_model_that_is_not_compiled_by_xla():
    (compiled,) = situations().values()
    plain = contract.run_of(explosions.mlp(jit_compile=False), *explosions.table(rows=16))
    assert contract.applies(get(NAME), DIAGNOSIS, compiled)
    assert not contract.applies(get(NAME), DIAGNOSIS, plain)


@pytest.mark.soak
def test_repairs_a_small_denominator_as_well_as_an_expert():
    """The expert compiles it without XLA, too."""

    def expert(model, x, y, arguments):
        model.compile(model.optimizer, "mse", jit_compile=False)
        return repairs.trained(model, x, y, arguments)

    report, *_ = repairs.check_repair(NAME, explosions.small_denominator, expert, epochs=5)
    assert not report.model.jit_compile
    assert report.fix.edits[0].params == {}
