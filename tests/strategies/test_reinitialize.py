"""reinitialize: the variance that each layer's width and activation call for."""

import explosions
import keras
import numpy as np
import pytest
from keras import layers

import nanfix
from nanfix import Outcome
from nanfix.changes.initial_weights import InitialWeights, smaller_initializer
from nanfix.records.cause import Cause
from nanfix.remedies.fix import Edit, Fix
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "reinitialize"
DIAGNOSIS = contract.diagnosis(Cause.BAD_INITIALIZATION)


def situations():
    """Runs that this strategy is for, beside those that all strategies are tried in."""
    model, x, y, _ = explosions.heading_of_nothing()
    return {"a kernel of zeros": contract.run_of(model, x, y)}


def drawn(run):
    """Return the initializer of each layer, by the layer."""
    (params,) = contract.levels(get(NAME), DIAGNOSIS, run)
    return {
        run.members[address]: initializer for address, initializer in params["initializers"].items()
    }


@pytest.mark.parametrize(
    ("activation", "initializer"),
    [
        ("relu", "he_normal"),
        ("gelu", "he_normal"),
        ("selu", "lecun_normal"),
        ("tanh", "glorot_uniform"),
    ],
)
def test_initializer_goes_by_the_activation(activation, initializer):
    run = contract.run_of(explosions.mlp(activation=activation), *explosions.table(rows=8))
    first, second, last = run.model.layers
    assert drawn(run) == {first: initializer, second: initializer, last: "glorot_uniform"}


def test_initializer_goes_by_an_activation_that_is_a_layer_of_its_own():
    stack = [
        layers.Dense(8),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dense(8),
        layers.Activation("tanh"),
        layers.Dense(1),
    ]
    model = keras.Sequential([keras.Input((4,)), *stack])
    model.compile("sgd", "mse")
    first, _, _, second, _, last = stack
    expected = {first: "he_normal", second: "glorot_uniform", last: "glorot_uniform"}
    assert drawn(contract.run_of(model, *explosions.table(rows=8))) == expected


def test_only_layers_with_a_kernel_are_drawn():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Embedding(9, 4), layers.SimpleRNN(3), layers.Activation("relu")]
    )
    model.compile("sgd", "mse")
    run = contract.run_of(model, np.zeros((8, 6), "int32"), np.zeros((8, 3), "float32"))
    assert drawn(run) == {model.layers[1].cell: "glorot_uniform"}


def test_does_not_apply_to_a_model_without_kernels():
    model = keras.Sequential(
        [keras.Input((4,)), layers.BatchNormalization(), layers.Activation("relu")]
    )
    model.compile("sgd", "mse")
    assert not contract.applies(
        get(NAME),
        DIAGNOSIS,
        contract.run_of(model, np.zeros((8, 4), "float32"), np.zeros((8, 4), "float32")),
    )


def test_of_an_operation_without_a_slope_only_kernels_of_zeros_are_drawn():
    singular = contract.diagnosis(Cause.GRADIENT_SINGULARITY)
    model, x, y, _ = explosions.heading_of_nothing()
    (params,) = contract.levels(get(NAME), singular, contract.run_of(model, x, y))
    assert params == {"initializers": {"heading": "glorot_uniform"}}
    other = contract.run_of(explosions.mlp(), *explosions.table(rows=8))
    assert not contract.applies(get(NAME), singular, other)


def test_apply_starts_again_from_new_weights():
    run = contract.run_of(explosions.mlp(), *explosions.table(rows=8))
    changed = Fix((Edit(NAME, {"initializers": {"dense[1]": "he_normal"}}),)).plan(run)
    assert (
        changed.of(InitialWeights).initializers == {"dense[1]": "he_normal"}
        and not changed.keeps_weights
    )


def test_repairs_weights_drawn_too_large():
    report, *_ = repairs.check_repair(NAME, explosions.initialization)
    for layer in report.model.layers[1:8]:  # He: sqrt(2 / 64), drawn with 1.0 by the user
        assert np.std(layer.kernel) == pytest.approx(np.sqrt(2.0 / 64.0), rel=0.1)


def test_repairs_a_last_layer_that_begins_where_its_loss_has_no_slope():
    model, x, y, arguments = explosions.heading_of_nothing()
    report = nanfix.fit(model, x, y, **arguments)
    assert report.outcome is nanfix.Outcome.REPAIRED
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert report.history["loss"][-1] < 0.4 * report.history["loss"][0]


@pytest.mark.soak
def test_is_as_good_as_weights_drawn_by_hand():
    def drawn_by_he(model, x, y, arguments):
        *hidden, last = model.layers
        for layer in (*hidden, last):
            initializer = (
                keras.initializers.HeNormal()
                if layer is not last
                else keras.initializers.GlorotUniform()
            )
            layer.kernel.assign(initializer(layer.kernel.shape))
        return repairs.trained(model, x, y, arguments)

    build = explosions.with_data(
        explosions.initialization, *explosions.noisy_table(rows=6000), epochs=8, batch_size=64
    )
    repairs.check_repair(NAME, build, drawn_by_he)


def residual_stack(initializer):
    """Sixteen branches, each as large as the sum that it is added to."""
    keras.utils.set_random_seed(0)
    hidden = inputs = keras.Input((6,))
    hidden = keras.layers.Dense(16)(hidden)
    for _ in range(16):
        branch = keras.layers.Dense(16, "relu", kernel_initializer=initializer)(hidden)
        hidden = keras.layers.Add()([hidden, branch])
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile(keras.optimizers.Adam(0.003), "mse")
    return model


def test_kernels_of_a_residual_stack_are_so_small_that_its_sums_do_not_grow():
    x = np.random.default_rng(0).normal(size=(256, 6)).astype("float32")
    y = np.tanh(x[:, :1]) + 0.3 * x[:, 1:2]
    model = residual_stack(keras.initializers.RandomNormal(0.0, 300.0))
    report = nanfix.fit(model, x, y, epochs=8, batch_size=16, verbose=0)
    assert report.outcome is Outcome.REPAIRED, str(report)
    assert report.diagnosis.cause is Cause.BAD_INITIALIZATION
    (edit,) = report.fix.edits
    # 1 / sqrt(16 branches), which a relu ends.
    assert edit.strategy == NAME and edit.params["shares"]["dense[1]"] == 0.25
    assert "of their size" in str(report.fix)
    assert report.history["loss"][-1] < 0.15 * np.var(y)


@pytest.mark.parametrize(
    ("name", "share"), [("he_normal", 0.5), ("glorot_uniform", 0.3), ("lecun_normal", 0.7)]
)
def test_smaller_kernels_are_written_as_they_are_drawn(name, share):
    written = eval(smaller_initializer(name, share), {"keras": keras})
    drawn = np.std(written((200, 300)))
    usual = np.std(keras.initializers.get(name)((200, 300)))
    assert drawn == pytest.approx(share * usual, rel=0.02)


@pytest.mark.parametrize("learned", [1, 2, 3])
def test_beside_a_pretrained_model_only_what_is_not_part_of_it_is_drawn(learned):
    model = explosions.mlp(activation="relu")
    for layer in model.layers[:learned]:
        layer.bias.assign(np.linspace(-0.3, 0.4, layer.units))
    run = contract.run_of(model, *explosions.table(rows=8))
    # Where all was learned before, there is nothing else that could be drawn.
    assert [*drawn(run)] == (model.layers[learned:] or model.layers)
