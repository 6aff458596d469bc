"""A space to search in."""

import explosions
import pytest

from nanfix.model.addresses import SINGLE
from nanfix.model.run import Run, Sample
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis, Finding, Onset
from nanfix.remedies.registry import select
from nanfix.search.space import build_space


@pytest.fixture(scope="module")
def space():
    model, x, y, _ = explosions.learning_rate()
    findings = (Finding(Cause.LEARNING_RATE, 0.9, ""), Finding(Cause.UNSCALED_INPUT, 0.8, ""))
    diagnosis = Diagnosis(
        Onset(1, 2), findings, learning_rate=0.1, gradient_norm=8.0, weight_norm=4.0
    )
    chosen = select(["lower-learning-rate", "scale-inputs", "clip-gradients"])
    return build_space(
        chosen, diagnosis, Run.of(model, Sample((x,), (y,), (True,), x, names=(SINGLE,)))
    )
