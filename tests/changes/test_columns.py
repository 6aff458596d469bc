"""Activations for single columns of a layer: trained with, taken back, saved and loaded."""

import keras
import numpy as np
import pytest
from handed_back import on_the_bench
from keras import layers

from nanfix.changes.columns import in_source
from nanfix.changes.layers import LayerAttributes

COLUMNS = ((1, None), (2, "softplus"), (1, "sigmoid"))


def expected(z):
    parts = [z[..., :1], keras.ops.softplus(z[..., 1:3]), keras.ops.sigmoid(z[..., 3:])]
    return np.concatenate([np.asarray(part) for part in parts], axis=-1)


@pytest.mark.parametrize("shape", [(3,), (5, 3)])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_each_column_is_computed_by_its_own_and_the_model_is_saved_so(shape, dtype, tmp_path):
    x = np.random.default_rng(0).normal(size=(24, *shape)).astype("float32")
    last = layers.Dense(4, dtype=dtype, name="last")
    model = keras.Sequential([keras.Input(shape), last])
    model.compile("sgd", "mse")
    raw = np.asarray(model(x))
    change = LayerAttributes({"last": {"activation": COLUMNS}})
    bench, plan, trained = on_the_bench(model, x, None, change)
    tolerance = 1e-6 if dtype == "float32" else 2e-3
    np.testing.assert_allclose(trained, expected(raw), rtol=tolerance, atol=tolerance)
    assert trained.dtype == raw.dtype
    bench.hand_back(plan)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(np.asarray(loaded(x)), trained)
    assert np.isfinite(
        model.fit(x, np.zeros((24, *shape[:-1], 4)), verbose=0).history["loss"]
    ).all()


def test_it_is_taken_back():
    x = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
    last = layers.Dense(4, "relu", name="last")
    model = keras.Sequential([keras.Input((3,)), last])
    model.compile("sgd", "mse")
    raw = np.asarray(model(x))
    bench, _, changed = on_the_bench(
        model, x, None, LayerAttributes({"last": {"activation": COLUMNS}})
    )
    assert not np.array_equal(changed, raw)
    bench.close()
    assert last.activation is keras.activations.relu
    np.testing.assert_array_equal(np.asarray(model(x)), raw)


@pytest.mark.parametrize("present", ["linear", "relu"])
def test_the_function_in_the_source_computes_the_same(present):
    name, definition = in_source(COLUMNS, present)
    names = {"keras": keras}
    exec(definition, names)
    z = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    wanted = expected(z)
    wanted[:, :1] = np.asarray(keras.activations.get(present)(z[:, :1]))
    np.testing.assert_allclose(np.asarray(names[name](z)), wanted, rtol=1e-6)
