"""Every remedy has runs that fail for want of it, the same whenever they are drawn."""

import sys
from pathlib import Path

import numpy as np
import pytest

from nanfix.remedies.registry import select

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import _catalogue
import _catalogue_data  # noqa: F401  (these three register the runs)
import _catalogue_formulas  # noqa: F401
import _catalogue_training  # noqa: F401


def test_every_strategy_has_runs():
    assert sorted(_catalogue.REMEDIES) == sorted(select(None))


@pytest.mark.parametrize("name", ["impute-codes", "loss-scale"])
def test_a_number_stands_for_one_run(name):
    first, again = (_catalogue.drawn(name, 3, 1) for _ in range(2))
    for ours, theirs in ((first.plain, again.plain), (first.expert, again.expert)):
        np.testing.assert_array_equal(ours.x, theirs.x)
        np.testing.assert_array_equal(ours.y, theirs.y)
    np.testing.assert_array_equal(first.x, again.x)
    assert (first.plain.seed, first.plain.width) == (again.plain.seed, again.plain.width)
