"""What is odd about data is found in one pass, whatever the size of its chunks."""

import explosions
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanfix.api.diagnose import diagnose
from nanfix.explain import oddities
from nanfix.explain.oddities import look, outlying_share, remarks
from nanfix.model.addresses import SINGLE
from nanfix.model.run import Run, Sample
from nanfix.testing import contract


def table():
    x = np.random.default_rng(0).normal(size=(500, 4)).astype("float32")
    x[:, 1] = 7.0
    x[[3, 400], 2] = 1e3
    x[77] = 0.0
    x[10, 0] = np.nan
    return x


def test_constant_columns_outliers_and_zero_rows():
    seen = look(table())
    assert seen.constant == ()  # row 77 is 0 there as well
    assert seen.outlying_rows == (3, 400)
    assert seen.zero_rows == 1
    assert seen.peak == 1e3 and seen.count == 4


def test_what_is_not_known_is_no_0():
    """Holes say nothing of what is usual in a column, and a row of them is no row of zeros."""
    x = np.random.default_rng(0).normal(size=(500, 4)).astype("float32")
    x[np.random.default_rng(1).random(x.shape) < 0.48] = np.nan
    x[[5, 9]] = np.nan
    x[:, 3] = np.nan
    seen = look(x)
    assert seen.outlying_rows == () and seen.zero_rows == 0 and seen.lost == (3,)
    x[7, 1] = 1e3
    assert look(x).outlying_rows == (7,)


def test_targets_that_are_not_known_are_no_targets_of_0():
    model, x, y = explosions.mlp(), *explosions.table()
    model.compile("sgd", "mape")
    y[:3], y[3:5] = np.nan, 0.0
    (said,) = [s for s in remarks(contract.run_of(model, x, y), [x], [y]) if "targets are 0" in s]
    assert said.startswith("2 of")


def test_what_is_at_most_1_is_no_outlier_however_small_the_others_are():
    """Probabilities of a rare class, as a teacher's."""
    shares = np.random.default_rng(0).uniform(0.0, 1e-5, (500, 3))
    shares[7, 1] = 0.98
    assert look(shares).outlying_rows == ()
    sample = Sample((np.zeros((500, 1)),), (shares,))
    assert outlying_share(sample) == 0.0
    shares[7, 1] = 98.0
    assert look(shares).outlying_rows == (7,)
    assert outlying_share(sample) == pytest.approx(1 / 500)


def test_column_of_one_value_is_constant():
    assert look(table()[:50]).constant == (1,)


@given(st.integers(1, 600))
@settings(max_examples=20, deadline=None)
def test_chunks_change_nothing(chunk):
    whole, before = look(table()), oddities.CHUNK_ROWS
    oddities.CHUNK_ROWS = chunk
    try:
        assert look(table()) == whole
    finally:
        oddities.CHUNK_ROWS = before


def setup_of(layer, x, y, loss="mse", last=None, batch_size=32):
    model = keras.Sequential(
        [keras.Input(x.shape[1:]), layer, keras.layers.Dense(2, activation=last)]
    )
    model.compile("sgd", loss)
    return Run.of(model, Sample((x,), (y,), (True,), batch_size=batch_size, names=(SINGLE,)))


@pytest.mark.parametrize(
    ("layer", "rows", "said"),
    [
        (
            keras.layers.LayerNormalization,
            500,
            "1 rows of the inputs are all zero, and LayerNormalization divides",
        ),
        (
            keras.layers.BatchNormalization,
            481,
            "the last batch of an epoch has a single row",
        ),
    ],
)
def test_what_does_not_go_with_the_model_is_said(layer, rows, said):
    x, y = table()[:rows], np.zeros((rows, 2), "float32")
    assert any(said in remark for remark in remarks(setup_of(layer(), x, y), [x], [y]))


def test_healthy_data_are_not_remarked_on():
    x, y = explosions.table()
    assert list(remarks(setup_of(keras.layers.Dense(3, "relu"), x, y), [x], [y])) == []


def test_values_beyond_half_precision_are_said():
    x, y = table() * 100.0, np.zeros((500, 2), "float32")
    run = setup_of(keras.layers.Dense(3), x, y)
    half = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    half.dtype_policy = keras.DTypePolicy("mixed_float16")
    half.compile("sgd", "mse")
    assert any(
        "beyond float16's 65504" in remark for remark in remarks(Run.of(half, run.sample), [x], [y])
    )


def test_a_column_without_a_finite_value_is_lost_and_not_constant():
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    x[:, 1] = np.nan
    seen = look(x)
    assert seen.lost == (1,) and seen.constant == ()


def test_of_a_stream_is_said_how_many_rows_were_looked_at():
    """Other batches may hold what is missing in this one, and have another number of rows."""

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 80  # more batches than are looked at

        def __getitem__(self, index):
            x = np.random.default_rng(index).normal(size=(17, 4)).astype("float32")
            x[:, 1] = np.nan if index < 70 else x[:, 1]
            x[:, 2] = index
            return x, x[:, :1]

    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(4),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    said = str(diagnose(model, Batches(), shuffle=False, verbose=0))
    assert "Seen in 1088 rows of the data: no finite value in column 1 of the inputs" in said
    assert "lost" not in said and "single row" not in said


def test_tokens_have_no_scale_to_be_odd_about():
    """Most are padding: the others lie far from the median, and some rows are padding alone."""
    tokens = np.zeros((300, 5), "int32")
    tokens[:, 0] = np.arange(300) % 3
    tokens[:20, 1] = 900
    x = np.where(np.arange(300)[:, None] % 11 == 0, tokens, 0)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Embedding(1000, 4),
            keras.layers.LayerNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    y = np.random.default_rng(0).normal(size=(300, 1)).astype("float32")
    sample = Sample((x,), (y,), (False,), quantities=(False,), names=(SINGLE,))
    assert list(remarks(Run.of(model, sample), [x], [y])) == []


@pytest.mark.parametrize("lowest", [0.0, -1.0])
def test_shares_below_zero_leave_a_crossentropy_without_a_lower_bound(lowest):
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    y = np.tile(np.float32([[1.0, 0.0], [0.0, 1.0]]), (32, 1))
    y[5, 0] = lowest
    run = setup_of(keras.layers.Dense(3, "relu"), x, y, "categorical_crossentropy", "softmax")
    assert any("no lower bound" in told for told in remarks(run, [x], [y])) is (lowest < 0)


def test_an_error_in_percent_of_nothing_is_said():
    x, y = explosions.table(rows=40)
    y[:8] = 0.0
    run = contract.run_of(explosions.mlp(loss="mape"), x, y)
    (said,) = remarks(run, [x], [y])
    assert said.startswith("8 of 40 targets are 0, and mean_absolute_percentage_error divides")
    assert not list(remarks(contract.run_of(explosions.mlp(loss="mae"), x, y), [x], [y]))


def test_what_is_odd_about_one_of_several_arrays_is_said_with_its_name():
    inputs = {name: keras.Input((1,), name=name) for name in ("zip", "when")}
    joined = keras.layers.Concatenate()(list(inputs.values()))
    model = keras.Model(inputs, {name: keras.layers.Dense(1)(joined) for name in ("a", "b")})
    model.compile("sgd", {"a": "mse", "b": "mse"})
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(300, 1)), rng.integers(1.6e9, 1.7e9, (300, 1)).astype("float64")]
    y = [rng.normal(size=(300, 1)), rng.normal(size=(300, 2))]
    y[1][:, 1] = np.where(np.arange(300) % 20, y[1][:, 1], -999)
    marks = (True, True)
    sample = Sample(
        tuple(x),
        tuple(y),
        marks,
        quantities=marks,
        names=("zip", "when"),
        target_names=frozenset("ab"),
    )
    dates, code, *_ = remarks(Run.of(model, sample), x, y)
    assert dates == "what may be dates, as seconds since 1970 (input when)"
    assert code.endswith("a code for a missing value? (column 1 of target b)")
