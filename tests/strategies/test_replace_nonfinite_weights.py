"""replace-nonfinite-weights: the entries that were NaN or inf, and no others."""

from types import SimpleNamespace

import explosions
import keras
import numpy as np
import pytest
from keras import layers

import nanfix
from nanfix.changes.finite_weights import FiniteWeights
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "replace-nonfinite-weights"
CONSTANT = keras.initializers.Constant(float("nan"))


def situations():
    return {"missing words": contract.run_of(*explosions.missing_words()[:3])}


def starts_of(model, x, y):
    run = contract.run_of(model, x, y)
    (only,) = contract.levels(get(NAME), contract.diagnosis(Cause.NONFINITE_START), run)
    return only["weights"]


def with_bias(*values):
    model = explosions.mlp()
    model.layers[-2].bias.assign(np.resize(values, model.layers[-2].bias.shape))
    return model


def test_entries_of_a_matrix_are_drawn_like_the_finite_ones():
    model, x, y, _ = explosions.missing_words()
    (mean, deviation) = starts_of(model, x, y)["embedding[0]"]["embeddings"]
    held = np.asarray(model.layers[0].embeddings)
    assert mean == pytest.approx(np.nanmean(held), rel=1e-5, abs=1e-9)
    assert deviation == pytest.approx(np.nanstd(held), rel=1e-5)


@pytest.mark.parametrize(
    ("values", "start"),
    [((-np.inf, -1.0, -3.0), -3.0), ((np.nan, 1.0, 1.0), 1.0), ((np.inf, 2.0, 2.0), 2.0)],
)
def test_entries_of_a_vector_become_one_number(values, start):
    ((starts,),) = (starts_of(with_bias(*values), *explosions.table(rows=16)).values(),)
    assert starts["bias"] == [start, 0.0]


@pytest.mark.parametrize(("kernel", "expected"), [("zeros", 0.0), (CONSTANT, 0.35)])
def test_a_weight_without_a_finite_entry_is_drawn_as_its_layer_draws_it(kernel, expected):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(12, kernel_initializer=kernel)])
    model.compile("sgd", "mse")
    model.layers[0].kernel.assign(np.full((4, 12), np.nan))
    mean, deviation = starts_of(model, *explosions.table(rows=16))["dense[0]"]["kernel"]
    assert mean == pytest.approx(0.0, abs=0.15) and deviation == pytest.approx(expected, abs=0.1)


def test_a_finite_model_is_left_alone():
    run = contract.run_of(explosions.mlp(), *explosions.table(rows=16))
    assert not contract.applies(get(NAME), contract.diagnosis(Cause.NONFINITE_START), run)


def test_only_the_entries_that_are_not_finite_change():
    model, *_ = explosions.missing_words()
    before = np.asarray(model.layers[0].embeddings)
    change = FiniteWeights({"embedding[0]": {"embeddings": (0.5, 0.0)}})
    change.install(SimpleNamespace(layers={"embedding[0]": model.layers[0]}), Plan())
    after = np.asarray(model.layers[0].embeddings)
    assert (after[np.isnan(before)] == 0.5).all()
    np.testing.assert_array_equal(after[~np.isnan(before)], before[~np.isnan(before)])


def test_repairs_as_well_as_an_expert():
    def by_hand(model, x, y, arguments):
        rows = np.asarray(model.layers[0].embeddings)
        drawn = np.random.default_rng(1).normal(0.0, np.nanstd(rows), rows.shape)
        model.layers[0].embeddings.assign(np.where(np.isnan(rows), drawn, rows))
        return repairs.trained(model, x, y, arguments)

    report, *_ = repairs.check_repair(NAME, explosions.missing_words, by_hand)
    assert report.diagnosis.cause is Cause.NONFINITE_START
    assert "numbers in embeddings in layer embedding[0] are not finite" in str(report.diagnosis)
    assert report.trials[0].verdict == "works" and len(report.fix.edits) == 1


def test_a_model_that_an_earlier_training_has_ruined_starts_anew():
    model, x, y, arguments = explosions.learning_rate()
    model.fit(x, y, **arguments)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is nanfix.Outcome.REPAIRED
    assert report.fix.edits[0].strategy == NAME
    assert report.diagnosis.cause is Cause.NONFINITE_START


def test_weights_that_no_fix_may_touch_stay_as_they_were():
    model, x, y, arguments = explosions.missing_words()
    before = model.get_weights()
    report = nanfix.fit(model, x, y, forbid=[NAME], throw=False, **arguments)
    assert report.outcome is nanfix.Outcome.EXHAUSTED and np.isnan(report.history["loss"]).all()
    for kept, given in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(kept, given)
