"""Activations behind outputs: trained with, taken back, saved and loaded."""

import keras
import numpy as np
import pytest
from handed_back import on_the_bench
from keras import layers, ops

from nanfix.changes.behind_outputs import BehindOutputs
from nanfix.changes.maps import Mixed
from nanfix.records.errors import InputError

COLUMNS = ((1, None), (2, "softplus"))
MIXED = Mixed(0.3, 3)
WANTED = pytest.mark.parametrize(
    "wanted", ["softplus", COLUMNS, MIXED], ids=["all", "columns", "mixed"]
)
X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")


def rescaled():
    return keras.Sequential([keras.Input((3,)), layers.Dense(3), layers.Rescaling(5.0)])


def summed():
    inputs = keras.Input((3,))
    return keras.Model(inputs, layers.Add()([layers.Dense(3)(inputs), layers.Dense(3)(inputs)]))


def computed():
    """An operation gives the output, and no layer."""
    inputs = keras.Input((3,))
    return keras.Model(inputs, layers.Dense(3)(inputs) - layers.Dense(3)(inputs))


class Product(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(3), layers.Dense(3)

    def call(self, inputs):
        return self.first(inputs) * self.second(inputs)


def compiled(model, loss="mse"):
    model.compile("sgd", loss)
    return model


def expected(raw, wanted):
    raw, softplus = np.asarray(raw), np.asarray(ops.softplus(raw))
    if wanted == MIXED:
        return 0.7 * raw + 0.1
    return softplus if wanted == "softplus" else np.concatenate([raw[:, :1], softplus[:, 1:]], -1)


@WANTED
@pytest.mark.parametrize("make", [rescaled, summed, computed])
def test_layers_behind_the_last_one_are_saved_with_the_model(make, wanted, tmp_path):
    model = compiled(make())
    raw, variables = np.asarray(model(X)), len(model.variables)
    bench, plan, trained = on_the_bench(model, X, None, BehindOutputs({"output": wanted}))
    np.testing.assert_allclose(trained, expected(raw, wanted), rtol=1e-6)
    assert bench.hand_back(plan) == []
    np.testing.assert_array_equal(np.asarray(model(X)), trained)
    assert len(model.variables) == variables
    assert np.isfinite(model.fit(X, np.ones((24, 3)), verbose=0).history["loss"]).all()
    again = np.asarray(model(X))
    model.save(tmp_path / "m.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(X), again)


@WANTED
def test_a_call_of_the_users_own_computes_it_as_long_as_the_object_lives(wanted, tmp_path):
    model = compiled(Product())
    raw = np.asarray(model(X))
    bench, plan, trained = on_the_bench(model, X, None, BehindOutputs({"output": wanted}))
    np.testing.assert_allclose(trained, expected(raw, wanted), rtol=1e-6)
    words = {"softplus": "softplus", COLUMNS: "softplus of columns 1 to 2"}
    assert bench.hand_back(plan) == [
        "A saved model is made anew by its own code when it is loaded: compute "
        f"{words.get(wanted, '0.7 times and 0.1 more')} of its outputs there, too."
    ]
    bench.close()
    np.testing.assert_allclose(np.asarray(model(X)), trained, rtol=1e-6)
    model.fit(X, np.ones((24, 3)), verbose=0)
    assert wanted == MIXED or (model.predict(X, verbose=0)[:, 1:] > 0).all()


@pytest.mark.parametrize("make", [rescaled, summed, computed, Product])
def test_it_is_taken_back(make):
    model = compiled(make())
    raw, layers_before = np.asarray(model(X)), list(model.layers)
    bench, *_ = on_the_bench(model, X, None, BehindOutputs({"output": "softplus"}))
    bench.close()
    np.testing.assert_array_equal(np.asarray(model(X)), raw)
    assert list(model.layers) == layers_before


def test_of_several_outputs_only_the_one_is_changed(tmp_path):
    inputs = keras.Input((3,))
    heads = [
        layers.Add(name=name)([layers.Dense(2)(inputs), layers.Dense(2)(inputs)])
        for name in ("mean", "rate")
    ]
    model = compiled(keras.Model(inputs, heads), ["mse", "poisson"])
    mean, rate = map(np.asarray, model(X))
    change = BehindOutputs({"rate": "softplus"})
    bench, plan, _ = on_the_bench(model, X, None, change)
    bench.hand_back(plan)
    assert model.output_names == ["mean", "rate"]
    model.save(tmp_path / "m.keras")
    for found in (model(X), keras.models.load_model(tmp_path / "m.keras")(X)):
        np.testing.assert_array_equal(found[0], mean)
        np.testing.assert_allclose(found[1], ops.softplus(rate), rtol=1e-6)


@pytest.mark.parametrize("named", [lambda sums: sums, lambda sums: {"rate": sums}])
def test_what_stands_behind_an_output_takes_its_name_over(named, tmp_path):
    inputs = keras.Input((3,))
    sums = layers.Add(name="rate")([layers.Dense(3)(inputs), layers.Dense(3)(inputs)])
    model = compiled(keras.Model(inputs, named(sums)), {"rate": "poisson"})
    bench, plan, _ = on_the_bench(model, X, None, BehindOutputs({"output": "softplus"}))
    bench.hand_back(plan)
    bench.close()
    model.save(tmp_path / "m.keras")
    for found in (model, keras.models.load_model(tmp_path / "m.keras")):
        assert found.output_names == ["rate"] and found.get_layer("rate_inner").name != "rate"
        losses = found.fit(X, named(np.ones((24, 3))), verbose=0).history["loss"]
        assert np.isfinite(losses).all()


def test_outputs_that_share_a_name_take_nothing():
    inputs, head = keras.Input((3,)), layers.Dense(3)
    model = compiled(keras.Model(inputs, [head(inputs), head(2.0 * inputs)]))
    with pytest.raises(InputError, match="has no output 'dense"):
        on_the_bench(model, X, None, BehindOutputs({model.output_names[0]: "softplus"}))
