"""impute-codes: which numbers stand for a missing value, and that they are filled inside the model,
in the patch too.
"""

from dataclasses import replace

import explosions
import keras
import numpy as np
import pytest
from keras import layers

import nanfix
from nanfix import Outcome
from nanfix.changes.layer_source import FILL_MISSING
from nanfix.changes.scaling import Scaling
from nanfix.changes.scaling_call import Gate
from nanfix.explain.codes import fillings, input_codes, with_holes, without_codes
from nanfix.model.addresses import SINGLE
from nanfix.model.run import Sample
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "impute-codes"
MEASURED = [3.0, 5.0, 4.0, 6.0]
NO_DATE = float(np.iinfo("int64").min)


def situations():
    """Return a run of which one input holds a code."""
    model, x, y, _ = explosions.coded_inputs()
    return {"coded": contract.run_of(model, x[:40], y[:40])}


def sample(*columns):
    x = np.float32(np.stack([np.resize(column, 20) for column in columns], axis=-1))
    given = Sample((x,), (), (True,), x, (True,), names=(SINGLE,))
    return replace(given, codes=input_codes(given.named(given.imputable)))


@pytest.mark.parametrize(
    ("column", "code"),
    [
        ([*MEASURED, -999.0], -999.0),
        ([*MEASURED, 1e20], 1e20),
        ([*MEASURED, np.nan, -9999.0], -9999.0),
        # A missing date among nanoseconds since 1970 is not ten times as great as they are.
        ([1.6e18, 1.61e18, 1.5e18, NO_DATE], NO_DATE),
        ([*MEASURED, 2147483647.0], 2147483648.0),  # as float32 has it
        ([*MEASURED, 40.0], None),  # may be measured
        ([0.0, 1.0, 0.0, 1e6], None),  # two values beside it may be classes
        ([*MEASURED, *MEASURED, 3.0, 3.0, 3.0, 1e9], None),  # once is an outlier
        (MEASURED, None),
    ],
    ids=str,
)
def test_what_can_only_stand_for_a_missing_value(column, code):
    found = sample(MEASURED, column).codes
    found = {name: {i: np.float32(c) for i, c in each.items()} for name, each in found.items()}
    assert found == ({} if code is None else {SINGLE: {1: np.float32(code)}})


def test_what_the_model_masks_is_known_to_it():
    given = sample([*MEASURED, -999.0])
    inputs = given.named(given.imputable)
    assert input_codes(inputs) and not input_codes(inputs, masked={-999.0})


def test_other_columns_keep_the_number():
    given = sample([*MEASURED, -999.0], [-999.0, -500.0, -800.0, -700.0])
    assert {name: missing for name, (missing, _) in fillings(given).items()} == {
        SINGLE: (-999.0, -750.0)
    }
    x, filled, holed = (each.inputs[0] for each in (given, without_codes(given), with_holes(given)))
    coded = x[:, 0] == -999.0
    assert coded.sum() == 4 and np.isnan(holed[coded, 0]).all()
    assert (filled[coded, 0] == 4.5).all()  # the median of all others
    np.testing.assert_array_equal(filled[~coded], x[~coded])
    np.testing.assert_array_equal(filled[:, 1], x[:, 1])


def test_gate_layer_and_patch_fill_the_same():
    x = np.float32([[1.0, -999.0], [-999.0, 7.0], [np.nan, np.inf], [2.5, 0.1]])
    expected = [[1.0, -999.0], [4.0, 7.0], [4.0, 6.0], [2.5, np.float32(0.1)]]
    fills, missing = (4.0, 6.0), (-999.0, 6.0)
    model = keras.Sequential([keras.Input((2,)), layers.Identity()])
    gate = Gate(model, Sample((x,), (), (False,), x, (True,), names=(SINGLE,)))
    gate.open()
    gate.fill({SINGLE: fills}, {SINGLE: missing})
    assert model(x).numpy().tolist() == expected
    gate.close()
    made = {"keras": keras, "np": np}
    exec(FILL_MISSING, made)
    layer = made["FillMissing"](list(fills), list(missing))
    assert layer(x).numpy().tolist() == expected
    again = made["FillMissing"].from_config(layer.get_config())
    assert again(x).numpy().tolist() == expected
    change = Scaling(fills={SINGLE: fills}, missing_values={SINGLE: missing})
    ((front,),) = change.layers_in_front(model, {}).values()
    assert front()(x).numpy().tolist() == expected


def test_scaling_beside_it_is_that_of_the_measured_values():
    model, x, y, _ = explosions.coded_inputs()
    run = contract.run_of(model, x, y)
    diagnosis = contract.diagnosis(Cause.CODED_INPUT)
    (params,) = contract.levels(get(NAME), diagnosis, run)
    plan = get(NAME).apply(run, contract.NOTHING, **params)
    unscaled = contract.diagnosis(Cause.UNSCALED_INPUT)
    standard = contract.levels(get("scale-inputs"), unscaled, run, plan)[1]
    known = np.where(x == 1e9, np.nan, x)
    scale = standard["inputs"]["input[0]"]["scale"]
    np.testing.assert_allclose(scale, np.nanstd(known, axis=0), rtol=1e-5)


@pytest.mark.soak
def test_is_as_good_as_medians_filled_in_by_hand():
    def imputed(model, x, y, arguments):
        training = x[: repairs.training_rows(y, arguments), 1]
        median = np.median(training[training != 1e9])
        filled = x.copy()
        filled[x[:, 1] == 1e9, 1] = median
        return repairs.trained(model, filled, y, arguments)

    report, *_ = repairs.check_repair(NAME, explosions.coded_inputs, imputed)
    assert report.outcome is Outcome.REPAIRED
    assert "Fill 1e+09 in the inputs, which stands for a missing value" in str(report.fix)


def test_is_what_a_repair_takes():
    model, x, y, arguments = explosions.coded_inputs()
    report = nanfix.fit(model, x, y, **arguments)
    assert report.diagnosis.cause is Cause.CODED_INPUT
    assert [edit.strategy for edit in report.fix.edits] == [NAME], str(report.fix)


class Net(keras.Model):
    """A model with a call of its own, into which no layer can be put."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = layers.Dense(16, "relu"), layers.Dense(1)

    def call(self, inputs):
        return self.out(self.hidden(inputs))


def test_in_front_of_a_call_of_its_own_codes_are_filled_too(tmp_path):
    _, x, y, arguments = explosions.coded_inputs()
    keras.utils.set_random_seed(0)
    model = Net()
    model.compile(keras.optimizers.SGD(0.05), "mse")
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert report.diagnosis.cause is Cause.CODED_INPUT
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert "A saved model holds nothing of that" in str(report)
    params = report.fix.edits[0].params
    fill, missing = (np.float32(params[name][SINGLE]) for name in ("fills", "missing_values"))
    by_hand = np.where(x == missing, fill, x)
    raw = model.predict(x, verbose=0)
    np.testing.assert_allclose(raw, model.predict(by_hand, verbose=0), rtol=1e-6)
    model.save_weights(tmp_path / "net.weights.h5")
    plain = Net()
    plain(by_hand[:1])
    plain.load_weights(tmp_path / "net.weights.h5")
    np.testing.assert_allclose(raw, plain.predict(by_hand, verbose=0), rtol=1e-5)
    again = nanfix.fit(model, x, y, epochs=1, batch_size=32, verbose=0)
    assert again.outcome is Outcome.HEALTHY
