"""What a training lacks to be a repair, and what is said of one that does not."""

import explosions
import keras
import numpy as np
import pytest
from explosions.parts import mlp

import nanfix
from nanfix.changes.behind_outputs import BehindOutputs
from nanfix.changes.layers import LayerAttributes
from nanfix.changes.maps import Affine, Mixed
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.records.cause import Cause
from nanfix.report.report import Outcome
from nanfix.search._shortcomings import BOTTOMLESS, bottomless, unlearned_again
from nanfix.testing import contract


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (LayerAttributes({"dense[0]": {"max_norm": 2.0}}), True),  # its biases go on growing
        (LayerAttributes({"dense[0]": {"max_norm_of_all": 2.0}}), False),
        (RowFilter(finite_inputs=True), True),
        (RowFilter(scaled=((0, Affine((0.0,), (255.0,))),)), False),
        (RowFilter(shares=True), False),
        (BehindOutputs({"output": "softplus"}), True),
        (BehindOutputs({"output": Mixed(0.02, 3)}), False),
    ],
)
def test_a_loss_without_a_bound_shows_nothing_unless_the_weights_are_held(change, told):
    plan = Plan().with_change(change)
    assert (bottomless(contract.diagnosis(Cause.NO_LOWER_BOUND), plan) == BOTTOMLESS) is told
    assert bottomless(contract.diagnosis(Cause.LEARNING_RATE), plan) is None


@pytest.mark.parametrize(
    ("loss", "held_back", "begun", "told"),
    [
        ((0.54, 0.7, 0.87), (0.6, 0.8, 0.92), 0.64, True),
        ((0.54, 0.3, 0.2), (0.6, 0.8, 0.92), 0.64, False),  # it learns its rows by heart
        ((0.54, 0.55, 0.56), (0.6, 0.61, 0.62), 0.64, False),
        ((5.0, 5.5, 6.0), (5.0, 5.5, 6.0), 1e10, False),  # nearly all of the way is gone
        ((0.54, 0.7, 0.87), (), None, True),
        ((0.87,), (0.92,), 0.64, False),
        ((), (), 0.64, False),
    ],
)
def test_a_training_that_ends_far_above_its_first_epoch_has_unlearned_again(
    loss, held_back, begun, told
):
    words = unlearned_again({"loss": loss, "val_loss": held_back}, begun)
    assert (words is not None) is told
    if told and held_back:
        assert words.endswith("its loss was 0.6 after one epoch, 0.92 at the end")


def test_a_critic_at_a_lower_rate_is_finite_and_no_more():
    model, x, y, arguments = explosions.critic()
    report = nanfix.fit(
        model, x, y, strategies=["lower-learning-rate"], throw=False, **{**arguments, "epochs": 6}
    )
    assert report.outcome is Outcome.FINITE, str(report)
    assert BOTTOMLESS in str(report)


def test_a_training_that_is_as_slow_as_before_with_its_data_mended_is_said_to_be():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(120, 3)).astype("float32")
    y = 200.0 + 50.0 * x[:, :1]
    x[[5, 50], 1] = np.nan
    model = mlp(keras.optimizers.Adam(0.001), "mse", features=3)
    report = nanfix.fit(model, x, y, epochs=2, verbose=0)
    assert report.outcome is nanfix.Outcome.REPAIRED
    assert [edit.strategy for edit in report.fix.edits] == ["impute-nonfinite"]
    assert sum("no better than a constant prediction" in note for note in report.notes) == 1
