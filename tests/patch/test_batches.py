"""Rows and labels that a patch changes in the batches of a tf.data pipeline."""

from pathlib import Path

import keras
import numpy as np
import pytest
from located import changed, plan_of

from nanfix.changes.maps import Affine
from nanfix.changes.rows import NOT_OF_BATCHES, RowFilter
from nanfix.data.row_filter import filtered
from nanfix.data.training_data import TrainingData
from nanfix.patch.locate import source_changes
from nanfix.patch.patch import digest, patch_of
from nanfix.report.fix_file import FixFile, RunRecord

PIPELINE = """
import keras
import numpy as np
import tensorflow as tf

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
X[::7, 1], y = np.nan, (np.arange(40) % 5).astype("{kind}")
y[::9] = {odd}
data = tf.data.Dataset.from_tensor_slices((X, y)).batch(8)
held = tf.data.Dataset.from_tensor_slices((X, y)).batch(40)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(data.prefetch(1), epochs=2, validation_data=held)
"""


@pytest.mark.parametrize(
    ("kind", "odd", "rows", "line"),
    [
        (
            "float32",
            "np.inf",
            RowFilter(finite_inputs=True, finite_targets=True),
            "model.fit(with_finite_inputs_and_finite_targets(data.prefetch(1)), epochs=2, "
            "validation_data=with_finite_inputs_and_finite_targets(held))",
        ),
        ("float32", "np.inf", RowFilter(finite_targets=True), "with_finite_targets(held)"),
        ("int32", "9", RowFilter(finite_inputs=True, classes=5), "_and_labels_below_5(held)"),
        (
            "int32",
            "0",
            RowFilter(first_label=1),
            "held.map(lambda x, y, *others: (x, y - 1, *others))",
        ),
        (
            "float32",
            "0",
            RowFilter(scaled=((0, Affine((0.0,) * 3, (4.0,) * 3)),)),
            'held.map(lambda x, *others: (tf.cast(x, "float32") / 4, *others))',
        ),
        (
            "float32",
            "np.inf",
            RowFilter(finite_targets=True, scaled=((0, Affine((1.0, 2.0, 0.0), (2.0,) * 3)),)),
            'with_finite_targets(held).map(lambda x, *others: ((tf.cast(x, "float32") - '
            "INPUT_CENTER) / INPUT_SCALE, *others))",
        ),
    ],
)
def test_batches_are_those_that_the_repair_is_fed(noted, monkeypatch, kind, odd, rows, line):
    text = PIPELINE.format(kind=kind, odd=odd)
    run, call = noted(text)
    edits = [{"strategy": "reset-moments"}]
    source = source_changes(run, [plan_of(rows)], call)
    record = RunRecord.model_validate({"outcome": "REPAIRED", "edits": edits, "source": source})
    files = {"train.py": digest(Path("train.py").read_bytes())}
    patch = patch_of(FixFile(files=files, runs=[record]), Path())
    assert patch.left_over == () and line in patch.after["train.py"].decode()
    fed = {}
    monkeypatch.setattr(keras.Model, "fit", lambda model, x, **more: fed.update(x=x, **more))
    exec(compile(patch.after["train.py"], "train.py", "exec"), names := {})
    for given, before in ((fed["x"], names["data"]), (fed["validation_data"], names["held"])):
        repaired = list(filtered(TrainingData.of(before, None, {}), rows).x)
        assert repaired
        for found, expected in zip(given, repaired, strict=True):
            for part, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(part, other)


def test_batches_of_inputs_alone_are_scaled_and_nothing_else(noted):
    text = PIPELINE.format(kind="float32", odd="0").replace("((X, y))", "(X)")
    run, call = noted(text.replace('"mse"', "lambda y, z: z"))
    scaled = RowFilter(scaled=((0, Affine((0.0,) * 3, (4.0,) * 3)),))
    ((line,), left) = changed(run, plan_of(scaled), call)
    assert 'held.map(lambda x: tf.cast(x, "float32") / 4)' in line and not left
    finite = RowFilter(finite_inputs=True)
    assert changed(run, plan_of(finite), call) == ([], [NOT_OF_BATCHES])


def test_what_is_no_matter_of_a_batch_has_no_place(noted):
    run, call = noted(PIPELINE.format(kind="float32", odd="0"))
    bands = RowFilter(bands=((0, Affine((0.0,) * 3, (1.0,) * 3)),))
    assert changed(run, plan_of(bands), call) == ([], [NOT_OF_BATCHES])
