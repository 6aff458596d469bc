"""The model that is handed back is whole: it predicts, evaluates, trains on, is saved
and shared as the trained one.
"""

from dataclasses import dataclass
from typing import ClassVar

import explosions
import keras
import numpy as np
import pytest
import structures
import tensorflow as tf
from handed_back import (
    AROUND_CALL,
    CASES,
    TARGETS,
    affine,
    compiled,
    on_the_bench,
    own_step,
    plain,
    raw,
)
from keras import layers

import nanfix
from nanfix import Edit, Fix, Outcome
from nanfix.changes.change import Change
from nanfix.model.undo import override
from nanfix.private.graphs import calls_of
from nanfix.private.objects import INPUTS_SPEC, all_layers
from nanfix.records.errors import CannotHandBack, InputError


@pytest.mark.parametrize("case", CASES)
def test_predictions_are_those_of_the_trained_scaled_model(case):
    build, data, scalings = CASES[case]
    model, x = build(), data()
    unscaled = np.asarray(model(x))
    bench, plan, trained = on_the_bench(model, x, TARGETS, **scalings)
    assert np.abs(trained - unscaled).max() > 1.0
    bench.hand_back(plan)
    bench.close()
    np.testing.assert_allclose(model(x), trained, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(model.predict(x, verbose=0), trained, rtol=1e-4, atol=1e-3)
    assert "call" not in vars(model)
    model.fit(x, trained, verbose=0)


@pytest.mark.parametrize("case", AROUND_CALL)
def test_what_folds_into_no_layer_of_a_class_stands_around_its_call(case):
    build, data, scalings = AROUND_CALL[case]
    model, x = build(), data()
    unscaled, weights = np.asarray(model(x)), model.get_weights()
    bench, plan, trained = on_the_bench(model, x, TARGETS, **scalings)
    assert np.abs(trained - unscaled).max() > 1.0
    notes = bench.hand_back(plan)
    bench.close()
    assert "around this model's call" in notes[0]
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_allclose(model.predict(x, verbose=0), trained, rtol=1e-4, atol=1e-3)
    model.fit(x, trained, verbose=0)


@pytest.mark.parametrize("case", CASES)
def test_a_moment_in_which_it_is_saved_leaves_nothing_behind(case, tmp_path):
    build, data, scalings = CASES[case]
    model, x = build(), data()
    bench, plan, trained = on_the_bench(model, x, TARGETS, **scalings)
    before, weights = {name: id(value) for name, value in vars(model).items()}, model.get_weights()
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    with bench.saving(plan):
        model.save_weights(tmp_path / "some.weights.h5")
    after = {name: id(value) for name, value in vars(model).items()}
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed <= {"call", "compute_loss", INPUTS_SPEC}, changed
    assert [len(calls_of(layer)) for layer in model.layers] == nodes
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(model(x), trained)
    bench.close()


@dataclass(frozen=True)
class Doubled(Change):
    """A kind of somebody else's: the outputs of a model are `factor` times as large, if `stays`
    also after the training.
    """

    factor: float = 1.0
    stays: bool = False
    kind: ClassVar[str] = "doubled outputs"

    def install_for_training(self, shop, plan):
        call = shop.model.call
        override(
            shop.training,
            shop.model,
            "call",
            lambda *args, **kwargs: self.factor * call(*args, **kwargs),
        )

    def hand_back(self, shop, plan, undo):
        kernel, bias = shop.model.layers[-1].weights
        for variable in (kernel, bias) if self.stays else ():
            undo.callback(variable.assign, np.array(variable))
            variable.assign(self.factor * variable)
        return []


def test_predictions_are_compared_for_a_kind_of_change_of_somebody_elses():
    model, x = plain(), raw(2)
    # A relu that gives 0 everywhere would leave nothing to double.
    model.layers[-1].bias.assign([1.0])
    unchanged, weights = np.asarray(model(x)), model.get_weights()
    bench, plan, trained = on_the_bench(model, x, None, Doubled(2.0))
    np.testing.assert_allclose(trained, 2.0 * unchanged, rtol=1e-5)
    with pytest.raises(
        CannotHandBack, match=r"Received: others, by .* times what rounding explains"
    ):
        bench.hand_back(plan)
    bench.close()
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    bench, plan, trained = on_the_bench(model, x, None, Doubled(2.0, stays=True))
    bench.hand_back(plan)
    bench.close()
    np.testing.assert_allclose(model(x), trained, rtol=1e-5)


def test_a_narrow_feature_folds_into_batch_normalization():
    class Normalized(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.last = layers.BatchNormalization(), layers.Dense(1)

        def call(self, inputs):
            return self.last(self.first(inputs))

    model, x = compiled(Normalized()), raw(2, factor=1e-6)
    bench, plan, trained = on_the_bench(model, x, None, **{"input[0]": affine(2, 1e-6)})
    bench.hand_back(plan)
    bench.close()
    np.testing.assert_allclose(model(x), trained, rtol=1e-3, atol=1e-3)
    assert (np.asarray(model.first.moving_variance) >= 0).all()


def test_models_that_share_the_layers_are_scaled_too():
    inputs = keras.Input((2,))
    code = layers.Dense(3, "relu")(inputs)
    encoder, model = keras.Model(inputs, code), compiled(keras.Model(inputs, layers.Dense(1)(code)))
    x, scaling = raw(2), affine(2)
    expected = np.asarray(encoder(scaling(x)))
    bench, plan, _ = on_the_bench(model, x, None, **{"input[0]": scaling})
    (told, again) = bench.hand_back(plan)
    bench.close()
    assert "folded into layer" in told and again.startswith(
        "Folded, since other models share its layers"
    )
    np.testing.assert_allclose(encoder(x), expected, rtol=1e-4, atol=1e-4)


def test_a_model_to_which_layers_are_added_shares_them_with_nobody():
    model = keras.Sequential()
    for layer in (keras.Input((2,)), layers.Dense(3, "relu"), layers.Dense(1)):
        model.add(layer)
    bench, plan, _ = on_the_bench(compiled(model), raw(2), None, **{"input[0]": affine(2)})
    notes = bench.hand_back(plan)
    bench.close()
    assert "Normalization layer" in notes[0] and not any("Folded" in note for note in notes)


def test_what_was_learned_before_goes_on_taking_what_it_was_learned_from():
    inner = keras.Sequential([keras.Input((2,)), layers.Dense(3, "relu")])
    inner.layers[0].bias.assign([0.1, -0.2, 0.3])
    other = keras.Sequential([inner, layers.Dense(1)])
    inputs = keras.Input((2,))
    model, x = compiled(keras.Model(inputs, layers.Dense(1)(inner(inputs)))), raw(2)
    bench, plan, trained = on_the_bench(model, x, None, **{"input[0]": affine(2)})
    expected = np.asarray(other(x))
    notes = bench.hand_back(plan)
    bench.close()
    assert not any("Folded" in note for note in notes)
    np.testing.assert_allclose(model(x), trained, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(other(x), expected)


def test_a_model_made_of_the_repaired_one_afterwards_is_scaled():
    model, x = plain(), raw(2)
    expected = np.asarray(model.layers[0](affine(2)(x)))
    bench, plan, _ = on_the_bench(model, x, TARGETS)
    bench.hand_back(plan)
    bench.close()
    hidden = next(layer for layer in model.layers if layer.name.startswith("dense"))
    np.testing.assert_allclose(
        keras.Model(model.inputs[0], hidden.output)(x), expected, rtol=1e-4, atol=1e-4
    )


def test_what_a_class_tracks_stays_tracked():
    model, x = own_step(), raw(2)
    bench, plan, _ = on_the_bench(model, x, TARGETS)
    bench.hand_back(plan)
    bench.close()
    assert any(layer is model.spare for layer in all_layers(model)) and model.seen in model.metrics
    assert "seen" in model.fit(x, np.zeros((24, 1), "float32"), verbose=0).history


def test_a_call_of_the_users_own_survives():
    model, x = plain(), raw(2)
    own = tf.function(model.call)
    model.call = own
    bench, plan, trained = on_the_bench(model, x, TARGETS)
    bench.hand_back(plan)
    bench.close()
    assert vars(model)["call"] is own
    np.testing.assert_allclose(model(x), trained, rtol=1e-4, atol=1e-3)


def test_a_further_fit_goes_on_as_the_repaired_one():
    model, x, y, arguments = explosions.large_targets()
    report = nanfix.fit(model, x, y, **arguments, strategies=["scale-targets"])
    assert report.outcome is Outcome.REPAIRED
    history = model.fit(x, y, **arguments).history
    assert history["val_loss"][-1] <= 1.1 * report.history["val_loss"][-1]


@pytest.mark.parametrize(
    ("build", "strategy"),
    [(explosions.handwritten_log, "logits-loss"), (explosions.outlying_targets, "robust-loss")],
)
def test_loss_of_the_repaired_model_is_one_that_stays_finite(build, strategy, tmp_path):
    model, x, y, arguments = build()
    report = nanfix.fit(model, x, y, **arguments, strategies=[strategy])
    assert report.outcome.has_fix and any(
        "is compiled with keras.losses." in note for note in report.notes
    )
    evaluated = model.evaluate(x, y, verbose=0)
    assert np.isfinite(evaluated).all()
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.evaluate(x, y, verbose=0), evaluated, rtol=1e-4)
    for trained in (model, again):
        assert np.isfinite(trained.fit(x, y, **arguments).history["loss"]).all()


def test_a_class_trained_with_a_known_fix_is_saved_with_its_weights(tmp_path):
    x, y = structures.subclass()[1:]
    model = compiled(structures.Subclass())  # not built
    fix = Fix((Edit("clip-gradients", {"global_clipnorm": 1.0}),))
    nanfix.apply(model, fix, x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize(
    "edit",
    [
        Edit("swap-activation", {"layers": ["dense[7]"], "activation": "tanh"}),
        Edit("reinitialize", {"initializers": {"head": "he_normal"}}),
        Edit("impute-nonfinite", {"fills": {"wide": [0.0, 0.0]}}),
        Edit(
            "scale-inputs",
            {"scaler": "robust", "inputs": {"wide": {"center": [0.0, 0.0], "scale": [1.0, 1.0]}}},
        ),
    ],
    ids=lambda edit: edit.strategy,
)
def test_a_fix_for_another_model_is_refused_before_anything_is_changed(edit):
    model, x = plain(), raw(2)
    before = model.get_weights()
    with pytest.raises(
        InputError,
        match=(
            r"The model has no (layer|input) '.*'\. Expected: .* (dense\[0\], "
            r"dense\[1\]|input\[0\])"
        ),
    ):
        nanfix.fit(model, x, np.zeros((24, 1), "float32"), fix=Fix((edit,)), verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
