"""readapt-normalization: the statistics of the finite values, in the user's own layer."""

import explosions
import keras
import numpy as np
import pytest
from keras import layers

import nanfix
from nanfix.changes.layers import LayerAttributes
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "readapt-normalization"


def situations():
    return {
        "adapted to holes": contract.run_of(*explosions.adapted_to_holes()[:3]),
        "loaded in another order": contract.run_of(*explosions.loaded_in_another_order()[:3]),
    }


def test_layers_get_the_statistics_of_the_finite_values():
    model, x, y, _ = explosions.adapted_to_holes()
    run = contract.run_of(model, x, y)
    (only,) = contract.levels(get(NAME), contract.diagnosis(Cause.RUINED_STATISTICS), run)
    np.testing.assert_allclose(
        only["layers"]["normalization[0]"]["mean"], np.nanmean(x, axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(
        only["layers"]["normalization[0]"]["variance"], np.nanvar(x, axis=0), rtol=1e-5
    )
    assert (
        "statistics"
        in get(NAME).apply(run, Plan(), **only).of(LayerAttributes).attributes["normalization[0]"]
    )
    assert get(NAME).explain(only) == "Adapt normalization[0] to the finite values of 4 features."
    assert get(NAME).snippet(only).startswith("# layer normalization[0]: mean=[")


@pytest.mark.parametrize("cause", [Cause.NONFINITE_INPUT, Cause.RUINED_STATISTICS])
def test_other_models_are_left_alone(cause):
    run = contract.run_of(explosions.mlp(), *explosions.table(rows=16))
    assert not contract.applies(get(NAME), contract.diagnosis(cause), run)


@pytest.mark.soak
def test_repairs_as_well_as_an_expert_and_the_saved_model_needs_no_nanfix(tmp_path):
    def by_hand(model, x, y, arguments):
        filled = np.where(np.isfinite(x), x, np.nanmedian(x, axis=0))
        keras.utils.set_random_seed(0)
        normalization = layers.Normalization()
        normalization.adapt(filled)
        model = keras.Sequential(
            [keras.Input((4,)), normalization, layers.Dense(16, "relu"), layers.Dense(1)]
        )
        model.compile(keras.optimizers.Adam(0.02), "mse")
        return repairs.trained(model, filled, y, arguments)

    model, x, y, arguments = explosions.adapted_to_holes()
    report = nanfix.fit(model, x, y, **arguments)
    assert (
        report.outcome is nanfix.Outcome.REPAIRED
        and report.diagnosis.cause is Cause.RUINED_STATISTICS
    )
    assert [edit.strategy for edit in report.fix.edits] == ["impute-nonfinite", NAME]
    assert report.history["val_loss"][-1] <= repairs.AS_GOOD * by_hand(
        *explosions.adapted_to_holes()
    )
    predicted = model.predict(x, verbose=0)
    assert np.isfinite(predicted).all() and all(
        np.isfinite(np.asarray(v)).all() for v in model.variables
    )
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras").predict(x, verbose=0), predicted
    )


def test_found_fix_works_on_a_fresh_model():
    model, x, y, arguments = explosions.adapted_to_holes()
    found = nanfix.fit(model, x, y, **arguments)
    fresh, x, y, arguments = explosions.adapted_to_holes()
    report = nanfix.apply(fresh, found.fix, x, y, **arguments)
    assert report.outcome is nanfix.Outcome.REPAIRED
    np.testing.assert_allclose(fresh.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4)


def test_diagnosis_leaves_the_layer_as_it_was():
    model, x, y, arguments = explosions.adapted_to_holes()
    diagnosis = nanfix.diagnose(model, x, y, **arguments)
    assert diagnosis.cause is Cause.RUINED_STATISTICS and "4 features" in str(diagnosis)
    assert np.isnan(np.asarray(model.layers[0].adapt_mean)).all()


def test_frozen_layers_are_measured_on_what_goes_through_them():
    model, x, y, arguments = explosions.loaded_in_another_order()
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is nanfix.Outcome.REPAIRED
    assert report.diagnosis.cause is Cause.INFERENCE_STATISTICS
    assert "set in each other's place" in str(report.diagnosis)
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    first, *_ = norms = [layer for layer in model.layers if hasattr(layer, "moving_variance")]
    through = model.layers[0](x)
    np.testing.assert_allclose(first.moving_mean, np.mean(through, axis=0), atol=0.1)
    np.testing.assert_allclose(first.moving_variance, np.var(through, axis=0), rtol=0.1)
    assert all(not layer.trainable for layer in norms)
    assert report.history["loss"][-1] < 0.5 * report.history["loss"][0]


class Net(keras.Model):
    """Calls its normalization in code, behind something else."""

    def __init__(self, x):
        super().__init__()
        self.normalization = layers.Normalization()
        self.normalization.adapt(3.0 * x)
        self.hidden, self.out = layers.Dense(16, "relu"), layers.Dense(1)

    def call(self, inputs):
        return self.out(self.hidden(self.normalization(3.0 * inputs)))


def test_a_layer_that_is_called_in_code_is_measured_by_what_goes_into_it():
    _, x, y, arguments = explosions.adapted_to_holes()
    keras.utils.set_random_seed(0)
    model = Net(x)
    model.compile(keras.optimizers.Adam(0.02), "mse")
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is nanfix.Outcome.REPAIRED, str(report)
    assert {edit.strategy for edit in report.fix.edits} == {NAME, "impute-nonfinite"}
    assert "is made anew by its own code" not in str(report)  # statistics are saved as weights are
    mean = np.asarray(model.normalization.adapt_mean)
    np.testing.assert_allclose(np.ravel(mean), 3.0 * np.nanmean(x, axis=0), rtol=0.02)
    assert np.isfinite(model.predict(x, verbose=0)).all()
