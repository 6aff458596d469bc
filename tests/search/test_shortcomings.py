"""What a training lacks whose loss has no lower bound."""

import explosions
import pytest

import nanfix
from nanfix.changes.layers import LayerAttributes
from nanfix.changes.maps import Affine
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.records.cause import Cause
from nanfix.report.report import Outcome
from nanfix.search._shortcomings import BOTTOMLESS, bottomless
from nanfix.testing import contract


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (LayerAttributes({"dense[0]": {"max_norm": 2.0}}), True),  # its biases go on growing
        (LayerAttributes({"dense[0]": {"max_norm_of_all": 2.0}}), False),
        (RowFilter(finite_inputs=True), True),
        (RowFilter(scaled=((0, Affine((0.0,), (255.0,))),)), False),
    ],
)
def test_a_loss_without_a_bound_shows_nothing_unless_the_weights_are_held(change, told):
    plan = Plan().with_change(change)
    assert (bottomless(contract.diagnosis(Cause.NO_LOWER_BOUND), plan) == BOTTOMLESS) is told
    assert bottomless(contract.diagnosis(Cause.LEARNING_RATE), plan) is None


def test_a_critic_at_a_lower_rate_is_finite_and_no_more():
    model, x, y, arguments = explosions.critic()
    report = nanfix.fit(
        model, x, y, strategies=["lower-learning-rate"], throw=False, **{**arguments, "epochs": 6}
    )
    assert report.outcome is Outcome.FINITE, str(report)
    assert BOTTOMLESS in str(report)
