"""replace-nonfinite-constants: the numbers of a constant that are not finite, and no mask."""

import explosions
import keras
import numpy as np
import pytest
from keras import layers, ops

import nanfix
from nanfix import Outcome
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase, Place
from nanfix.records.nonfinite_constant import NonfiniteConstant
from nanfix.remedies.registry import get
from nanfix.testing import contract

NAME = "replace-nonfinite-constants"
HELD = NonfiniteConstant("1 -inf, 1 of the 3 numbers of `q`", (("neginf", -2.0),), "q")


def taken(constant, layer=None):
    place = Place(Phase.LOSS, layer=layer, source="a.py:3", code="m.f: q", constant=constant)
    return contract.diagnosis(Cause.NONFINITE_CONSTANT, place=place)


def situations():
    return {"prior": contract.run_of(*explosions.prior_of_no_count()[:3])}


def test_words_and_snippet_are_what_a_person_writes():
    run = situations()["prior"]
    (params,) = contract.levels(get(NAME), taken(HELD), run)
    assert get(NAME).explain(params).startswith("Replace -inf by -2 in q at a.py:3;")
    assert get(NAME).snippet(params) == "q = np.nan_to_num(q, neginf=-2)  # at a.py:3"


def test_nothing_takes_the_place_of_a_constant_without_a_finite_number():
    run = situations()["prior"]
    assert not contract.applies(get(NAME), taken(NonfiniteConstant("NaN, 1 of 1")), run)


def test_repairs_a_prior_of_no_count():
    model, x, y, arguments = explosions.prior_of_no_count()
    report = nanfix.fit(model, x, y, seed=0, **{**arguments, "epochs": 8})
    assert report.outcome is Outcome.REPAIRED and report.trials[0].verdict == "works"
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert np.mean(np.argmax(model.predict(x, verbose=0), axis=1) == y) > 0.7
    assert "Replace -inf by -0.2513 in log_prior" in str(report.fix)


class Standardized(layers.Layer):
    """Subtracts means of which one is NaN."""

    def __init__(self):
        super().__init__()
        self.means = ops.convert_to_tensor(np.array([0.5, np.nan, 0.1, -0.2], "float32"))

    def call(self, inputs):
        return inputs - self.means


def test_repairs_a_layer_that_holds_a_mean_with_a_hole():
    x, y = explosions.table()
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), Standardized(), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    report = nanfix.fit(model, x, y, epochs=8, verbose=0, seed=0)
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert "keras.ops.nan_to_num(self.means, nan=" in get(NAME).snippet(report.fix.edits[0].params)


def test_what_holds_nan_alone_is_impossible_and_nothing_is_tried():
    share = np.float32(np.nan)
    x, y = explosions.table()
    model = explosions.mlp("adam", lambda y, p: share * ops.mean(ops.square(y - p), axis=-1))
    report = nanfix.fit(model, x, y, epochs=2, verbose=0, throw=False)
    assert report.outcome is Outcome.UNREPAIRABLE and not report.trials
    assert "no finite number" in report.diagnosis.hopeless


@pytest.mark.parametrize("masked", [explosions.attention_to_nothing, explosions.prior_as_a_mask])
def test_a_mask_is_no_constant_at_fault(masked):
    model, x, y, arguments = masked()
    diagnosis = nanfix.diagnose(model, x, y, **arguments)
    assert Cause.NONFINITE_CONSTANT not in diagnosis.causes
