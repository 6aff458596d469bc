"""drop-outlier-rows: rows outside the band of their features are left out, and told."""

import explosions
import numpy as np
import pytest

from nanfix.changes.rows import RowFilter
from nanfix.data.row_rules import keep
from nanfix.explain.oddities import bands
from nanfix.model.run import Sample
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "drop-outlier-rows"
DIAGNOSIS = contract.diagnosis(Cause.OUTLIER)


def sample(*columns):
    x = np.array(columns, "float32").T
    return Sample((x,), (np.zeros((len(x), 1), "float32"),))


def test_bands_are_robust_and_leave_constant_features_alone():
    (_, band), (_, target) = bands(sample([1, 2, 3, 4, 1e6], [5, 5, 5, 5, 5]), 10.0)
    np.testing.assert_allclose(band.center, [3, 5])
    np.testing.assert_allclose(band.scale, [14.826, np.finfo("float32").max], rtol=1e-6)
    assert target.scale == (float(f"{np.finfo('float32').max:.7g}"),)


def test_rows_outside_are_not_kept():
    given = sample([1, 2, 3, 4, 1e6])
    assert keep(RowFilter(bands=bands(given, 10.0)), given.inputs, given.targets).tolist() == [
        True
    ] * 4 + [False]


def test_too_many_are_no_outliers():
    x, y = explosions.table(rows=40)
    run = contract.run_of(
        explosions.mlp(), np.where(np.arange(40)[:, None] < 1, 1e9, x).astype("float32"), y
    )
    assert contract.applies(get(NAME), DIAGNOSIS, run)
    crowd = contract.run_of(
        explosions.mlp(), np.where(np.arange(40)[:, None] < 4, 1e9, x).astype("float32"), y
    )
    assert not contract.applies(get(NAME), DIAGNOSIS, crowd)
    assert not contract.applies(get(NAME), DIAGNOSIS, contract.run_of(explosions.mlp(), x, y))


@pytest.mark.soak
def test_repairs_codes_for_missing_values_as_well_as_an_expert():
    def expert(model, x, y, arguments):
        kept = np.abs(x).max(axis=1) < 1e6
        kept[int(len(y) * 0.8) :] = True
        held = int(len(y) * 0.8)
        rest = {name: value for name, value in arguments.items() if name != "validation_split"}
        train = kept[:held]
        return repairs.trained(
            model,
            x[:held][train],
            y[:held][train],
            {**rest, "validation_data": (x[held:], y[held:])},
        )

    report, *_ = repairs.check_repair(NAME, explosions.sentinel_values, expert)
    assert (
        report.fix.edits[0].params["rows"] == [20, 90] and report.fix.edits[0].params["of"] == 160
    )
    assert report.diagnosis.cause is Cause.OUTLIER
