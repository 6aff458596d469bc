"""mask-unknown-targets: what is not known of a row does not keep the rest of it from teaching."""

import keras
import numpy as np
import pytest

import nanfix
from nanfix import Outcome
from nanfix.changes.plan import Plan
from nanfix.changes.target_mask import TargetMask
from nanfix.explain.codes import target_codes
from nanfix.model.run import Sample
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract

NAME = "mask-unknown-targets"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(240, 4)).astype("float32")
TRUTH = (X @ RNG.normal(size=(4, 2))).astype("float32")


def two_outputs():
    """Of each row one of two outputs is known, or both."""
    inputs = keras.Input((4,))
    body = keras.layers.Dense(16, "relu")(inputs)
    outputs = {name: keras.layers.Dense(1, name=name)(body) for name in ("price", "rent")}
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    y = {"price": TRUTH[:, :1].copy(), "rent": TRUTH[:, 1:].copy()}
    y["price"][::3], y["rent"][1::3] = np.nan, np.nan
    return model, X, y


def columns():
    """No row has all three of its targets."""
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(2)]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    y = TRUTH.copy()
    y[np.arange(240), np.arange(240) % 2] = np.nan
    return model, X, y


def sequences(code=1e20):
    """Rows end at different steps; from there on a code stands in inputs and targets."""
    x = RNG.normal(size=(160, 6, 2)).astype("float32")
    y = np.cumsum(x[..., :1], axis=1).astype("float32")
    ended = np.arange(6)[None, :] >= RNG.integers(2, 7, 160)[:, None]
    x[ended], y[ended] = code, code
    inputs = keras.Input((6, 2))
    hidden = keras.layers.SimpleRNN(8, return_sequences=True)(keras.layers.Masking(code)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x, y


def tokens():
    """A class for each step, and -100 where a row has ended."""
    x = RNG.integers(1, 6, (160, 5))
    y = (x % 3).astype("int32")
    y[np.arange(5)[None, :] >= RNG.integers(2, 6, 160)[:, None]] = -100
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Embedding(6, 8),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    return model, x, y


@pytest.mark.parametrize(
    ("training", "cause"),
    [
        (two_outputs, Cause.NONFINITE_TARGET),
        pytest.param(columns, Cause.NONFINITE_TARGET, marks=pytest.mark.soak),
        (sequences, Cause.CODED_TARGET),
        (tokens, Cause.INVALID_LABEL),
    ],
)
def test_all_rows_go_on_teaching(training, cause):
    model, x, y = training()
    epochs = 12
    report = nanfix.fit(model, x, y, epochs=epochs, batch_size=16, validation_split=0.2, verbose=0)
    assert report.diagnosis.cause is cause
    assert report.outcome is Outcome.REPAIRED
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert len(report.history["loss"]) == epochs
    assert report.history["loss"][-1] < 0.7 * report.history["loss"][0]


def situations():
    return {
        "two outputs": contract.run_of(*two_outputs()),
        "sequences": contract.run_of(*sequences()),
        "tokens": contract.run_of(*tokens()),
    }


def run_of(y, loss="mse"):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(y.shape[-1])])
    model.compile("sgd", loss)
    return contract.run_of(model, X, y)


def test_it_is_left_to_others_where_a_row_has_no_other_target():
    y = TRUTH[:, :1].copy()
    y[::4] = np.nan
    diagnosis = contract.diagnosis(Cause.NONFINITE_TARGET)
    assert not contract.applies(get(NAME), diagnosis, run_of(y))
    both = TRUTH.copy()
    both[::4, 0] = np.nan
    assert contract.applies(get(NAME), diagnosis, run_of(both))
    assert not contract.applies(get(NAME), diagnosis, run_of(TRUTH))


def test_labels_that_count_from_1_are_known():
    model, x, y = tokens()
    diagnosis = contract.diagnosis(Cause.INVALID_LABEL)
    assert contract.applies(get(NAME), diagnosis, contract.run_of(model, x, y))
    counted = contract.run_of(model, x, np.where(y < 0, 1, y + 1))
    assert not contract.applies(get(NAME), diagnosis, counted)


def test_what_is_a_code():
    def codes(values):
        targets = np.array(values, "float32").reshape(-1, 1)
        return target_codes(Sample((targets,), (targets,)))

    assert codes([1, 2, 3, 4, -999, -999, -999]) == (-999.0,)
    assert codes([1, 2, 3, 4, 1e20, 1e20, 1e20, np.nan]) == (1e20,)
    assert not codes([1, 2, 3, 4, 1e20])  # a typing error
    assert not codes([0, 0, 0, 1000, 1100, 1200, 1300])  # nothing was sold
    assert not codes([1, 2, 3, 4, 40, 40, 40])


def test_it_says_what_it_leaves_out():
    params = {"nonfinite": True, "codes": [1e20], "classes": None, "share": 0.25}
    assert get(NAME).explain(params) == (
        "Leave the unknown targets (NaN and inf, 1e+20; 25.00% of all) out of the loss, and learn "
        "from all others."
    )
    plan = get(NAME).apply(run_of(TRUTH), Plan(), **params)
    assert plan.of(TargetMask) == TargetMask(True, (1e20,), None)
