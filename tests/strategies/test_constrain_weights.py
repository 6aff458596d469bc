"""constrain-weights: every unit's weights below a norm, by a stock constraint that is
saved with the layer.
"""

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import explosions
import keras
import numpy as np
import pytest
from keras import layers
from sklearn.metrics import roc_auc_score

from nanfix.changes.layers import LayerAttributes
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "constrain-weights"
DIAGNOSIS = contract.diagnosis(Cause.EXPLODING_GRADIENT)


def test_layers_are_those_with_a_kernel_that_is_free():
    bound = layers.Dense(3, kernel_constraint="max_norm")
    model = keras.Sequential(
        [keras.Input((5, 4)), layers.SimpleRNN(3), layers.Dropout(0.1), bound, layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    run = contract.run_of(model, np.zeros((8, 5, 4), "float32"), np.zeros((8, 1), "float32"))
    found = contract.levels(get(NAME), DIAGNOSIS, run)
    kept = {"layers": ["simple_rnn[0]/simple_rnn_cell[0]", "dense[1]"], "of_all": False}
    assert found == [{**kept, "max_norm": 4.0}, {**kept, "max_norm": 2.0}]
    assert not contract.applies(get(NAME), DIAGNOSIS, run, get(NAME).apply(run, Plan(), **found[0]))


BOTTOMLESS = contract.diagnosis(Cause.NO_LOWER_BOUND)


def critic_of(*parts):
    model = keras.Sequential([keras.Input((4,)), *parts, layers.Dense(1)])
    model.compile("sgd", "mse")
    return contract.run_of(model, np.zeros((8, 4), "float32"), np.zeros((8, 1), "float32"))


def test_under_a_loss_without_a_lower_bound_biases_and_gains_are_held_too():
    run = critic_of(layers.Dense(3), layers.LayerNormalization())
    (params, _) = contract.levels(get(NAME), BOTTOMLESS, run)
    assert params["layers"] == ["dense[0]", "layer_normalization[0]", "dense[1]"]
    plan, (dense, norm, _) = get(NAME).apply(run, Plan(), **params), run.model.layers
    with ExitStack() as undo:
        shop: Any = SimpleNamespace(layers=run.members, repair=undo)
        plan.of(LayerAttributes).install(shop, plan)
        held = (dense.bias_constraint, norm.gamma_constraint, norm.beta_constraint)
        assert {each.max_value for each in held} == {4.0} == {dense.bias.constraint.max_value}
    assert dense.bias_constraint is None and norm.gamma.constraint is None


def test_it_is_refused_where_a_weight_goes_on_growing():
    class Gain(layers.Layer):
        def build(self, shape):
            self.gain = self.add_weight(shape=(shape[-1],), name="gain")

        def call(self, x):
            return self.gain * x

    run = critic_of(Gain(name="free"))
    assert "free" in get(NAME).refusal(BOTTOMLESS, run, Plan())
    assert contract.applies(get(NAME), DIAGNOSIS, run)


@pytest.mark.soak
def test_repairs_a_critic_whose_weights_grow_as_well_as_an_expert(tmp_path):
    """How low its loss comes says how large its weights may be: the order of the rows counts."""
    by_hand, whole, y, arguments = explosions.critic()
    for layer in by_hand.layers:
        layer.kernel.constraint = layer.bias.constraint = keras.constraints.MaxNorm(3.0)
    repairs.trained(by_hand, whole, y, arguments)
    report, x, held = repairs.check_repair(NAME, explosions.critic)
    expert, area = (
        roc_auc_score(held > 0, each.predict(x, verbose=0)) for each in (by_hand, report.model)
    )
    assert area >= expert - 0.03
    limit = report.fix.edits[0].params["max_norm"]
    norms = [np.linalg.norm(layer.kernel, axis=0).max() for layer in report.model.layers]
    norms += [np.linalg.norm(layer.bias) for layer in report.model.layers]
    assert max(norms) <= limit * 1.0001
    report.model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert {layer.kernel_constraint.max_value for layer in again.layers} == {limit}
    np.testing.assert_array_equal(again.predict(x, verbose=0), report.model.predict(x, verbose=0))
