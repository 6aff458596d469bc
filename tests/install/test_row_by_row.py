"""Whether a model predicts something of its own for each row, told from losses alone."""

import math

import pytest

from nanfix.install._row_by_row import same_for_all


@pytest.mark.parametrize(
    ("dealt", "alike", "vain"),
    [
        ([1.0, 1.00001], [0.7, 1.3], True),  # the same for all rows
        ([0.9, 1.2], [0.7, 1.3], True),  # by chance
        ([1.2, 1.4], [0.7, 1.3], False),
        ([1.0, 1.0], [1.0, 1.0], False),  # the loss does not look at the targets
        ([math.nan, math.nan], [0.7, 1.3], False),
        ([], [], False),
    ],
)
def test_a_model_has_to_do_better_with_the_targets_of_its_own_rows(dealt, alike, vain):
    assert same_for_all(1.0, dealt, alike) is vain
