"""Whether a model predicts something of its own for each row, told from its outputs."""

import keras
import numpy as np
import pandas as pd
import pytest

from nanfix.data.training_data import TrainingData
from nanfix.install._row_by_row import RowByRow, varies

ROWS = np.linspace(-1.0, 1.0, 8)[:, None].astype("float32")
ONE = np.full((8, 1), 3.25, "float32")


@pytest.mark.parametrize(
    ("values", "differ"),
    [
        (ROWS, True),
        (ONE, False),
        (ONE + np.float32(1e-7) * ROWS, False),  # by rounding
        (1e-30 * ROWS, True),  # small, and all the same different
        (np.hstack([ONE, ROWS]), True),  # one column of an output may be the same
        (np.hstack([np.float32(1e9) * ONE, ROWS]), True),
        (np.hstack([ONE, ONE]), False),
        (np.array(list("abababab"))[:, None], True),
        (np.full_like(ONE, np.nan), False),
        (np.where(ROWS > 0.9, np.nan, 2.0), False),
    ],
)
@pytest.mark.filterwarnings("error")
def test_rows_differ_by_more_than_rounding_in_any_column(values, differ):
    assert varies(values) is differ


def test_frames_are_given_as_keras_gives_them():
    """A functional model takes them as they are, and what is installed in it gets them so."""
    given = keras.Input((4,), name="left")
    model = keras.Model({"left": given}, keras.layers.Dense(1)(given))
    kinds, inner = [], model.call

    def call(inputs, *args, **kwargs):
        kinds.append(type(inputs["left"]))
        return inner(inputs, *args, **kwargs)

    model.call = call
    frames = {"left": pd.DataFrame(np.repeat(ROWS, 4, axis=0).repeat(4, axis=1))}
    data = TrainingData.of(frames, np.arange(32.0), {})
    assert RowByRow(model, data, lambda data: {}, None).lifeless() == []
    assert kinds and pd.DataFrame not in kinds


def test_a_column_is_lost_where_its_mean_predicts_it_many_times_better():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(3, use_bias=False)])
    model.layers[0].kernel.assign([[1.0, 10.0, 0.0]])
    x = np.linspace(-1.0, 1.0, 32)[:, None].astype("float32")
    y = np.hstack([x, x, x])  # the last column is no worse than by its mean
    rows = RowByRow(model, TrainingData.of(x, y, {}), lambda data: {}, None)
    assert rows.lost_columns(["output"]) == ["column 1 of output"]
    assert rows.lost_columns([]) == [] and rows.lifeless() == []
    edge = np.where(np.arange(32)[:, None] == 3, 0.01, 0.0).astype("float32") + 0 * y
    for targets in (y * 0 + 1.0, edge):
        rows = RowByRow(model, TrainingData.of(x, targets, {}), lambda data: {}, None)
        assert rows.lost_columns(["output"]) == []
