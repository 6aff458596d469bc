"""drop-nonfinite-rows: which rows, and trainings without them in every form of data."""

from functools import cache

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from parameters import shortened

import nanfix
from nanfix import Outcome
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.changes.scaling import Scaling
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "drop-nonfinite-rows"
DIAGNOSIS = contract.diagnosis(Cause.NONFINITE_TARGET)
NOTHING = Plan()


def params(run, plan=NOTHING):
    (found,) = contract.levels(get(NAME), DIAGNOSIS, run, plan)
    return found


def test_parameters_name_the_users_rows():
    x, y = explosions.table(rows=8)
    x[3, 1], y[6] = np.inf, np.nan
    run = contract.run_of(explosions.mlp(), x, y)
    assert params(run) == {"inputs": True, "targets": True, "rows": [3, 6], "of": 8}
    assert get(NAME).apply(run, NOTHING, **params(run)).of(RowFilter) == RowFilter(
        finite_inputs=True, finite_targets=True
    )
    assert (
        get(NAME).explain(params(run))
        == "Leave out 2 of 8 rows, those with NaN or inf in their inputs or targets."
    )


def test_filled_inputs_count_as_finite():
    x, y = explosions.table(rows=8)
    x[3, 1], y[6] = np.inf, np.nan
    filled = Plan().with_change(Scaling(fills={"input[0]": (0.0,) * 4}))
    assert params(contract.run_of(explosions.mlp(), x, y), filled) == {
        "inputs": False,
        "targets": True,
        "rows": [6],
        "of": 8,
    }


def test_applies_only_where_a_row_is_left():
    x, y = explosions.table(rows=4)
    x[np.arange(4), np.arange(4)] = np.nan
    assert not contract.applies(get(NAME), DIAGNOSIS, contract.run_of(explosions.mlp(), x, y))
    x[0] = 0.0
    assert contract.applies(get(NAME), DIAGNOSIS, contract.run_of(explosions.mlp(), x, y))


@cache
def repaired(build):
    """Repair an explosion, once for all tests that look at it."""
    model, x, y, arguments = build()
    return nanfix.fit(model, x, y, strategies=[NAME], **arguments), x, y, arguments


@pytest.mark.parametrize(
    "build", [explosions.missing_cells, explosions.nan_target], ids=lambda build: build.__name__
)
def test_training_equals_one_on_the_rows_that_are_left(build):
    report, x, y, arguments = repaired(build)
    assert report.outcome is Outcome.REPAIRED and report.trials[0].started_from == "initial weights"
    keep = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    assert report.fix.edits[0].params["rows"] == np.flatnonzero(~keep).tolist()
    plain, *_ = build()
    train, held = np.flatnonzero(keep[:128]), 128 + np.flatnonzero(keep[128:])
    given = {**arguments, "validation_split": 0.0, "validation_data": (x[held], y[held])}
    history = plain.fit(x[train], y[train], **given).history
    np.testing.assert_allclose(report.history["val_loss"], history["val_loss"], rtol=1e-4)
    np.testing.assert_allclose(
        report.model.predict(x[keep], verbose=0),
        plain.predict(x[keep], verbose=0),
        rtol=1e-3,
        atol=1e-4,
    )


def test_rows_of_a_subclassed_model_are_left_out():
    """Where they are asked to be: filling their holes comes first."""

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.out = keras.layers.Dense(1)

        def call(self, inputs):
            return self.out(inputs)

    _, x, y, arguments = explosions.missing_cells()
    model = Model()
    model.compile("adam", "mse")
    report = nanfix.fit(model, x, y, strategies=[NAME], **arguments)
    assert report.outcome is Outcome.REPAIRED and [edit.strategy for edit in report.fix.edits] == [
        NAME
    ]


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 16

    def __getitem__(self, index):
        return self.x[16 * index : 16 * index + 16], self.y[16 * index : 16 * index + 16]


def stream(kind, x, y):
    if kind == "dataset":
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(16), {}
    if kind == "pydataset":
        return Batches(x, y), {"shuffle": False}

    def generator():
        while True:
            for index in range(len(x) // 16):
                yield Batches(x, y)[index]

    return generator(), {"steps_per_epoch": 10}


@pytest.mark.parametrize(
    "kind", shortened(["dataset", "pydataset", "generator"], ["dataset", "generator"])
)
def test_streams_are_trained_on_without_their_rows(kind):
    model, x, y, _ = explosions.nan_target()
    x[40, 1] = np.nan
    y[64:80] = np.nan  # a whole batch
    source, arguments = stream(kind, x, y)
    report = nanfix.fit(model, source, epochs=3, verbose=0, strategies=[NAME], **arguments)
    assert report.outcome is Outcome.REPAIRED
    assert report.fix.edits[0].params == {"inputs": True, "targets": True, "rows": None, "of": None}
    assert len(report.history["loss"]) == 3 and np.isfinite(report.history["loss"]).all()
    keep = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    assert float(np.mean((model.predict(x[keep], verbose=0) - y[keep]) ** 2)) < np.var(y[keep])


def test_known_fix_leaves_rows_out_without_a_search():
    found, *_ = repaired(explosions.nan_target)
    fresh, x, y, arguments = explosions.nan_target()
    report = nanfix.apply(fresh, found.fix, x, y, **arguments)
    assert report.outcome is Outcome.REPAIRED and np.isfinite(report.history["loss"]).all()
    np.testing.assert_allclose(report.history["loss"], found.history["loss"], rtol=1e-4)


def left_out_by_hand(model, x, y, arguments):
    kept = repairs.training_rows(y, arguments)
    finite = np.flatnonzero(np.isfinite(x[:kept]).all(axis=1) & np.isfinite(y[:kept]).all(axis=1))
    held = {"validation_split": 0.0, "validation_data": (x[kept:], y[kept:])}
    return repairs.trained(model, x[finite], y[finite], {**arguments, **held})


@pytest.mark.soak
@pytest.mark.parametrize(
    "build", [explosions.missing_cells, explosions.nan_target], ids=lambda build: build.__name__
)
def test_is_as_good_as_leaving_the_rows_out_by_hand(build):
    x, y = explosions.noisy_table()
    rng = np.random.default_rng(0)
    hurt = rng.choice(1024, size=40, replace=False)
    if build is explosions.nan_target:
        y[hurt] = np.nan
    else:
        x[hurt, rng.integers(0, 4, size=40)] = np.nan
    repairs.check_repair(NAME, explosions.with_data(build, x, y, epochs=6), left_out_by_hand)


def test_rows_with_a_missing_weight_are_left_out():
    model, x, y, arguments = explosions.missing_weights()
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is Outcome.REPAIRED and [edit.strategy for edit in report.fix.edits] == [
        NAME
    ]
    params = report.fix.edits[0].params
    assert (
        params["rows"] == [5, 77]
        and params["weights"]
        and np.isfinite(report.history["loss"]).all()
    )
    assert "weights" in str(report.fix)
