"""What is said of labels that the model knows otherwise than the data have them."""

from typing import Any

import pytest

from nanfix.changes.maps import Affine
from nanfix.changes.rows import RowFilter

NOTHING: Any = None


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (RowFilter(classes=5, first_label=1), "its class 0 is your label 1. Give a later evaluate"),
        (RowFilter(labels=Affine((-1.0,), (2.0,))), "Your labels -1 and 1 are 0 and 1 for the"),
    ],
)
def test_the_labels_of_the_model_are_told(rows, words):
    (note,) = rows.hand_back(NOTHING, NOTHING, NOTHING)
    assert words in note


def test_rows_that_are_left_out_leave_nothing_to_tell():
    assert RowFilter(finite_inputs=True, classes=3).hand_back(NOTHING, NOTHING, NOTHING) == []
