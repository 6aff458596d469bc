"""Models and data from files: read as `model.fit` takes them, or refused with one message."""

import keras
import numpy as np
import pytest

from nanfix.cli._loading import load_data, load_model
from nanfix.records.errors import InputError

X, Y = np.arange(12, dtype="float32").reshape(6, 2), np.arange(6, dtype="float32")


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_arrays_become_the_arguments_of_fit(tmp_path):
    data = load_data(npz(tmp_path / "d.npz", X=X, y=Y, X_val=X[:2], y_val=Y[:2], sample_weight=Y))
    assert sorted(data) == ["sample_weight", "validation_data", "x", "y"]
    np.testing.assert_array_equal(data["x"], X)
    np.testing.assert_array_equal(data["validation_data"][1], Y[:2])
    assert sorted(load_data(npz(tmp_path / "d.npz", X=X, y=Y))) == ["x", "y"]


@pytest.mark.parametrize(
    ("arrays", "received"),
    [
        ({"X": X}, "the arrays X"),
        ({"x": X, "y": Y}, "the arrays x, y"),
        ({"X": X, "y": Y, "weights": Y}, "the arrays X, y, weights"),
        ({"X": X, "y": Y, "X_val": X}, "the arrays X, y, X_val"),
        ({}, r"the arrays \(none\)"),
        ({"X": X, "y": np.array(list("abcdef"))}, r"y of shape \(6,\) and dtype <U1"),
        ({"X": X, "y": np.array([None] * 6)}, "ValueError: Object arrays cannot be loaded"),
        ({"X": X, "y": np.float32(1)}, r"y of shape \(\)"),
    ],
)
def test_other_arrays_are_refused(tmp_path, arrays, received):
    with pytest.raises(InputError, match=rf"Expected: .* Received: {received}"):
        load_data(npz(tmp_path / "d.npz", **arrays))


@pytest.mark.parametrize("size", [0, 1, 30, 200, 400])
def test_truncated_arrays_are_refused(tmp_path, size):
    path = npz(tmp_path / "d.npz", X=X, y=Y)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"Expected: a \.npz with the arrays X and y"):
        load_data(path)


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "d.npy", X)
    (tmp_path / "d.npy").rename(tmp_path / "d.npz")
    with pytest.raises(InputError, match="with the arrays X and y"):
        load_data(tmp_path / "d.npz")


def test_a_table_is_split_by_its_target(tmp_path):
    text = '\ufeffa, price ,"b, c"\n1,10,2.5\n\n,20,-3e2\n"4",30,NA\n'
    (tmp_path / "d.csv").write_text(text, encoding="utf-8")
    data = load_data(tmp_path / "d.csv", "price")
    np.testing.assert_array_equal(
        data["x"], np.array([[1, 2.5], [np.nan, -300], [4, np.nan]], "float32")
    )
    np.testing.assert_array_equal(data["y"], np.array([10, 20, 30], "float32"))
    assert data["x"].dtype == data["y"].dtype == "float32"


def test_a_table_of_one_row_keeps_its_shape(tmp_path):
    (tmp_path / "d.csv").write_text("a,b\n1,2")
    data = load_data(tmp_path / "d.csv", "a")
    assert (data["x"].shape, data["y"].shape) == ((1, 1), (1,))


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("a,b\n1,2\n", None, "Received: no --target. Add --target COLUMN"),
        ("a,b\n1,2\n", "c", "Expected: one column 'c' and others.* Received: the columns a, b"),
        ("a,a\n1,2\n", "a", "Expected: one column 'a'"),
        ("a\n1\n", "a", "Received: the columns a"),
        ("", "a", r"Received: the columns\s*\. "),
        ("a,b\n", "a", "Received: no line but the first"),
        ("a,b\n1,red\n", "a", "Received: 'red' in column 'b'. Encode or leave out"),
        ("a,b\n1,2\n3\n", "a", "Expected: a line of column names"),
        ("a,b\n1,2,3\n", "a", "Received: 2 names and 3 numbers|Expected: a line of column names"),
        ("a,b\n1,2\n\x00", "a", "Cannot train on"),
    ],
)
def test_other_tables_are_refused(tmp_path, text, target, message):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        load_data(tmp_path / "d.csv", target)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "d.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(InputError, match="Cannot train on"):
        load_data(tmp_path / "d.csv", "a")


@pytest.mark.parametrize("name", ["absent.npz", "absent.csv", "folder.csv"])
def test_files_that_cannot_be_read_are_refused(tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"Expected: a file that can be read.* Check the path"):
        load_data(tmp_path / name, "a" if name.endswith("csv") else None)


def test_other_kinds_of_file_and_a_target_of_arrays_are_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"Expected: a \.npz .* or a \.csv and --target\. Received: \.parquet"
    ):
        load_data(tmp_path / "d.parquet")
    with pytest.raises(InputError, match=r"names a column of a \.csv; leave it out"):
        load_data(npz(tmp_path / "d.npz", X=X, y=Y), "price")


def saved(path, *layers, compiled=True):
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)])
    if compiled:
        model.compile(keras.optimizers.SGD(0.25), "mse")
    model.save(path)
    return model


def test_a_model_comes_back_compiled(tmp_path):
    model = saved(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras")
    assert loaded.loss == "mse" and float(loaded.optimizer.learning_rate) == 0.25
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])


def test_a_model_with_code_needs_trust(tmp_path):
    saved(tmp_path / "m.keras", keras.layers.Lambda(lambda x: x * 2.0, output_shape=(2,)))
    with pytest.raises(
        InputError, match=r"holds Python code\. Expected: .* Received: .* add --trust-model"
    ):
        load_model(tmp_path / "m.keras")
    loaded = load_model(tmp_path / "m.keras", trusted=True)
    assert loaded.compiled and isinstance(loaded.layers[0], keras.layers.Lambda)


class Doubled(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2.0


def test_other_files_are_no_models(tmp_path):
    with pytest.raises(InputError, match=r"There is no model .* Received: no such file"):
        load_model(tmp_path / "absent.keras")
    for text in ("", "PK\x03\x04 but no more", "text"):
        (tmp_path / "m.keras").write_text(text)
        with pytest.raises(
            InputError, match=r"Cannot load the model .* Expected: a compiled model"
        ):
            load_model(tmp_path / "m.keras")
    saved(tmp_path / "m.keras")
    whole = (tmp_path / "m.keras").read_bytes()
    for share in (0.3, 0.6, 0.9):
        (tmp_path / "m.keras").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match="Cannot load the model"):
            load_model(tmp_path / "m.keras")
    saved(tmp_path / "m.keras", Doubled())
    with pytest.raises(
        InputError, match=r"Cannot load the model .* is repaired through the script"
    ):
        load_model(tmp_path / "m.keras")
    saved(tmp_path / "m.keras", compiled=False)
    with pytest.raises(InputError, match="not compiled"):
        load_model(tmp_path / "m.keras")
