"""drop-incomplete-batch: what does not fill a batch is left out of training, and of
nothing else.
"""

import explosions
import numpy as np
import pytest
import tensorflow as tf

import nanfix
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.report.report import Outcome
from nanfix.testing import contract, repairs

NAME = "drop-incomplete-batch"
ONE = contract.diagnosis(Cause.LAYER_DOMAIN, batch_rows=1)


def test_rows_left_over_are_told():
    run = contract.run_of(explosions.mlp(), *explosions.table(rows=97))  # Keras takes batches of 32
    (params,) = contract.levels(get(NAME), ONE, run)
    assert params == {"batch_rows": 32, "rows": [96]}
    assert (
        get(NAME).explain(params) == "Leave out the rows that do not fill a batch of 32 (row 96)."
    )
    assert get(NAME).apply(run, Plan(), **params).of(RowFilter).batch_rows == 32


def test_applies_when_the_batch_that_failed_had_a_single_row():
    run = contract.run_of(explosions.mlp(), *explosions.table(rows=97))
    assert contract.applies(get(NAME), ONE, run)
    assert not contract.applies(
        get(NAME), contract.diagnosis(Cause.LAYER_DOMAIN, batch_rows=32), run
    )
    assert not contract.applies(get(NAME), ONE, run, Plan().with_change(RowFilter(batch_rows=32)))


@pytest.mark.soak
def test_repairs_a_single_row_as_well_as_an_expert():
    def expert(model, x, y, arguments):
        held = int(len(y) * (1.0 - arguments["validation_split"]))
        whole = held - held % arguments["batch_size"]
        rest = {name: value for name, value in arguments.items() if name != "validation_split"}
        return repairs.trained(
            model, x[:whole], y[:whole], {**rest, "validation_data": (x[held:], y[held:])}
        )

    repairs.check_repair(NAME, explosions.single_row_left_over, expert)


@pytest.mark.parametrize("kind", ["dataset", "generator"])
def test_stream_goes_without_its_last_batch(kind):
    model, x, y, _ = explosions.single_row_left_over()
    x, y = x[:97], y[:97]
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    given = {"epochs": 10, "verbose": 0}
    if kind == "generator":
        batches, given = (
            (batch for batch in batches.repeat().as_numpy_iterator()),
            {**given, "steps_per_epoch": 7},
        )
    report = nanfix.fit(model, batches, strategies=[NAME], **given)
    assert report.outcome is Outcome.REPAIRED and np.isfinite(report.history["loss"]).all()
    assert report.fix.edits[0].params == {"batch_rows": 16, "rows": None}
