"""nanfix.fit on models and data of several forms, and on those that it refuses."""

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from parameters import shortened

import nanfix
from nanfix import Outcome
from nanfix.records.errors import InputError, UnknownStrategyError


def assert_finite(model, x):
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert np.isfinite(model.predict(x, verbose=0)).all()


def another(*layers):
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(5.0), "mse")
    return model


@pytest.mark.parametrize(
    ("edit", "model", "words"),
    [
        (
            nanfix.Edit("swap-activation", {"activation": "tanh", "layers": ["dense[0]"]}),
            another(keras.layers.Dense(3, "relu"), keras.layers.Dense(1)),
            (
                r"layer 'dense\[0\]' differs. Expected: Dense with weights \[\[4, 8\], \[8\]\]. "
                r"Received: .* \[\[4, 3\], \[3\]\]"
            ),
        ),
        (
            nanfix.Edit("swap-activation", {"activation": "tanh", "layers": ["dense[1]"]}),
            another(keras.layers.Dense(1)),
            (
                r"no layer 'dense\[1\]'. Expected: a fix that was made for this model, whose "
                r"layers are dense\[0\]"
            ),
        ),
        (
            nanfix.Edit("impute-nonfinite", {"fills": {"input[0]": [0.0, 0.0]}}),
            another(keras.layers.Dense(1)),
            r"another input 'input\[0\]'. Expected: 2 features. Received: 4",
        ),
    ],
    ids=["other layer", "no such layer", "other input"],
)
def test_a_fix_of_another_model_is_refused_before_anything_changes(edit, model, words):
    x, y = explosions.table()
    before = model.get_weights()
    with pytest.raises(InputError, match=words):
        nanfix.apply(
            model, nanfix.Fix((edit,), {"dense[0]": ["Dense", [[4, 8], [8]]]}), x, y, verbose=0
        )
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


FOR_TARGETS = ("lower-learning-rate", "scale-targets")  # what targets of 1e6 need


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1)

    def call(self, inputs, training=False):
        return self.out(self.hidden(inputs))


def functional_of_two():
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    hidden = keras.layers.Dense(8, activation="tanh")(keras.layers.Concatenate()([first, second]))
    return keras.Model({"first": first, "second": second}, keras.layers.Dense(1)(hidden))


def test_subclassed_model_takes_raw_inputs_after_its_repair():
    _, x, y, arguments = explosions.unscaled_targets()
    model = Subclass()
    model.compile(keras.optimizers.SGD(5.0), "mse")
    report = nanfix.fit(model, x, y, strategies=FOR_TARGETS, **arguments)
    assert report.outcome is Outcome.REPAIRED
    assert_finite(model, x)
    assert float(np.mean((model.predict(x, verbose=0) - y) ** 2)) < np.var(y)


def test_functional_model_with_named_inputs():
    _, x, y, arguments = explosions.unscaled_targets()
    model = functional_of_two()
    model.compile(keras.optimizers.SGD(5.0), "mse")
    named = {"first": x, "second": x * 2.0}
    report = nanfix.fit(model, named, y, **arguments)
    assert report.outcome is Outcome.REPAIRED
    assert_finite(model, named)


def stream(kind, x, y):
    if kind == "dataset":
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(16), {}
    if kind == "pydataset":

        class Batches(keras.utils.PyDataset):
            def __len__(self):
                return len(x) // 16

            def __getitem__(self, index):
                return x[16 * index : 16 * index + 16], y[16 * index : 16 * index + 16]

        return Batches(), {}

    def generator():
        while True:
            for start in range(0, len(x), 16):
                yield x[start : start + 16], y[start : start + 16]

    return generator(), {"steps_per_epoch": len(x) // 16}


@pytest.mark.parametrize(
    "kind", shortened(["dataset", "pydataset", "generator"], ["dataset", "generator"])
)
def test_streams_are_repaired_too(kind):
    model, x, y, _ = explosions.unscaled_targets()
    source, arguments = stream(kind, x, y)
    report = nanfix.fit(model, source, epochs=3, verbose=0, **arguments)
    assert report.outcome is Outcome.REPAIRED
    assert_finite(model, x)
    assert float(np.mean((model.predict(x, verbose=0) - y) ** 2)) < np.var(y)


def bad_inputs():
    x, y = explosions.table()
    return {
        "not compiled": (
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]),
            x,
            y,
            {},
            InputError,
            "compile",
        ),
        "no model": (object(), x, y, {}, InputError, "keras.Model"),
        "lengths": (explosions.mlp(), x, y[:-1], {}, InputError, "different numbers of rows"),
        "empty": (explosions.mlp(), x[:0], y[:0], {}, InputError, "empty"),
        "object": (explosions.mlp(), x.astype(object), y, {}, InputError, "object dtype"),
        "strategy": (
            explosions.mlp(),
            x,
            y,
            {"strategies": ["no-such"]},
            UnknownStrategyError,
            "no-such",
        ),
        "forbidden": (
            explosions.mlp(),
            x,
            y,
            {"forbid": ["no-such"]},
            UnknownStrategyError,
            "no-such",
        ),
    }


@pytest.mark.parametrize(
    "kind", ["not compiled", "no model", "lengths", "empty", "object", "strategy", "forbidden"]
)
def test_bad_input_is_refused_before_anything_changes(kind, tmp_path):
    model, x, y, arguments, error, words = bad_inputs()[kind]
    before = model.get_weights() if isinstance(model, keras.Model) else []
    with pytest.raises(error, match=words) as raised:
        nanfix.fit(model, x, y, run_dir=tmp_path / "run", verbose=0, **arguments)
    assert isinstance(raised.value, nanfix.NanfixError)
    assert "Expected:" in str(raised.value) and "Received:" in str(raised.value)
    assert not (tmp_path / "run").exists()
    for old, new in zip(before, model.get_weights() if before else [], strict=True):
        np.testing.assert_array_equal(old, new)
