"""drop-incomplete-batch: what does not fill a batch is left out of training, and of
nothing else.
"""

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from parameters import shortened

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


def mean_over_rows(y, p):
    return ops.sum(ops.square(y - p), axis=0) / ops.cast(ops.shape(y)[0], "float32")


def cut(sizes):
    """Return rows in batches of these sizes."""
    x, y = explosions.table()
    ends = np.cumsum(sizes)
    return [(x[end - n : end], y[end - n : end]) for n, end in zip(sizes, ends, strict=True)]


class Cut(keras.utils.PyDataset):
    def __init__(self, sizes):
        super().__init__()
        self.batches = cut(sizes)

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def dataset(sizes):
    signature = (tf.TensorSpec((None, 4)), tf.TensorSpec((None, 1)))
    return tf.data.Dataset.from_generator(lambda: iter(cut(sizes)), output_signature=signature)


def drawn(sizes):
    return (batch for _ in range(100) for batch in cut(sizes))


def trained_on(make, sizes, loss="mse", **settings):
    keras.utils.set_random_seed(0)
    norm = [] if loss is mean_over_rows else [layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, "tanh"), *norm, layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), loss)
    steps = {"steps_per_epoch": len(sizes)} if make is drawn else {}
    given = {"epochs": 8, "verbose": 0, "throw": False, "seed": 0, **steps}
    return nanfix.fit(model, make(sizes), **given, **settings)


@pytest.mark.parametrize(
    ("make", "sizes", "loss"),
    [
        pytest.param(Cut, [16, 16, 0, 16, 16], "mse", marks=pytest.mark.soak),
        (Cut, [16, 16, 16, 16, 0], mean_over_rows),
        (Cut, [0] * 12 + [16] * 5, "mse"),
        (drawn, [0, 16, 16, 16, 16], "mse"),
        (dataset, [16, 16, 0, 16, 16], "mse"),
    ],
)
def test_batches_without_a_row_are_left_out(make, sizes, loss):
    report = trained_on(make, sizes, loss)
    assert report.outcome is Outcome.REPAIRED
    assert report.diagnosis.cause is Cause.EMPTY_REDUCTION and report.diagnosis.batch_rows == 0
    (edit,) = report.fix.edits
    assert edit.strategy == NAME and edit.params == {"batch_rows": 1, "rows": None}
    assert "batches that have no row" in str(report.fix)
    assert report.history["loss"][-1] < report.history["loss"][0]


@pytest.mark.parametrize("make", shortened([Cut, drawn, dataset], [Cut, dataset]))
def test_data_without_a_row_cannot_be_learned_from(make):
    report = trained_on(make, [0] * 6)
    assert report.outcome is Outcome.UNREPAIRABLE and report.trials == ()
    assert "no batch of the data has a row" in str(report)
    assert all(np.isfinite(weight).all() for weight in report.model.get_weights())


def test_empty_batch_is_told_from_one_with_rows():
    batches = contract.diagnosis(Cause.EMPTY_REDUCTION, batch_rows=0)
    run = contract.run_of(explosions.mlp(), *explosions.table(rows=97))
    (params,) = contract.levels(get(NAME), batches, run)
    assert params == {"batch_rows": 1, "rows": None}
    several = contract.diagnosis(Cause.EMPTY_REDUCTION, batch_rows=2)
    assert not contract.applies(get(NAME), several, run)
