"""sane-constants: what is out of range becomes Keras' default, in optimizers and normalization
layers, and nothing else.
"""

import explosions
import keras
import numpy as np
import pytest
from keras import layers

import nanfix
from nanfix.changes.layers import LayerAttributes
from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "sane-constants"
DIAGNOSIS = contract.diagnosis(Cause.OPTIMIZER_CONSTANT)


def run_of(optimizer, *stack):
    model = keras.Sequential([keras.Input((4,)), *stack, layers.Dense(1)])
    model.compile(optimizer, "mse")
    return contract.run_of(model, *explosions.table(rows=16))


def mild(run):
    """Return the constants that the first level sets: the optimizer's, and those of
    layers by their position.
    """
    params, _ = contract.levels(get(NAME), DIAGNOSIS, run)
    return params["optimizer"], params["layers"]


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (keras.optimizers.Adam(epsilon=0.0), {"epsilon": 1e-7}),
        (keras.optimizers.Adam(epsilon=-1e-7, beta_2=1.0), {"epsilon": 1e-7, "beta_2": 0.999}),
        (keras.optimizers.Adam(beta_1=1.5, beta_2=-0.1), {"beta_1": 0.9, "beta_2": 0.999}),
        (keras.optimizers.RMSprop(rho=1.1, momentum=1.0), {"momentum": 0.9, "rho": 0.9}),
        (keras.optimizers.SGD(momentum=1.0), {"momentum": 0.9}),
        (keras.optimizers.Adam(-1000.0), {"learning_rate": 0.001}),
        (keras.optimizers.SGD(-0.0625), {"learning_rate": 0.01}),
        (keras.optimizers.SGD(-0.0078125), {"learning_rate": 0.0078125}),
        (
            keras.optimizers.Adagrad(initial_accumulator_value=-0.1),
            {"initial_accumulator_value": 0.1},
        ),
        (keras.optimizers.Ftrl(initial_accumulator_value=0.0), {"initial_accumulator_value": 0.1}),
        (
            keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(epsilon=0.0)),
            {"epsilon": 1e-7},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_optimizer_gets_the_default_of_what_is_out_of_range(optimizer, expected):
    assert mild(run_of(optimizer)) == (expected, {})


def test_normalization_layers_get_theirs():
    normalizing = [
        layers.BatchNormalization(epsilon=0.0, momentum=1.0),
        layers.Dense(4),
        layers.LayerNormalization(epsilon=0.0),
    ]
    assert mild(run_of("adam", *normalizing)) == (
        {},
        {
            "batch_normalization[0]": {"epsilon": 1e-3, "momentum": 0.99},
            "layer_normalization[0]": {"epsilon": 1e-3},
        },
    )


def test_stronger_level_takes_a_hundred_times_the_epsilon_and_the_same_decays():
    run = run_of(
        keras.optimizers.Adam(epsilon=0.0, beta_2=1.0), layers.BatchNormalization(epsilon=0.0)
    )
    _, strong = contract.levels(get(NAME), DIAGNOSIS, run)
    assert strong["optimizer"] == {"epsilon": pytest.approx(1e-5), "beta_2": 0.999}
    assert strong["layers"] == {"batch_normalization[0]": {"epsilon": pytest.approx(0.1)}}


@pytest.mark.parametrize(
    ("constants", "applies"),
    [
        ({"epsilon": 1e-12}, False),
        ({"epsilon": 9e-13}, True),
        ({"beta_1": 0.0}, False),
        ({"beta_1": 1.0}, True),
    ],
    ids=str,
)
def test_applies_from_the_edge_of_the_range(constants, applies):
    assert (
        contract.applies(get(NAME), DIAGNOSIS, run_of(keras.optimizers.Adam(**constants)))
        is applies
    )


@pytest.mark.parametrize(("kind", "least"), [("float16", 2.44e-4), ("bfloat16", None)])
def test_epsilon_counts_in_the_numbers_of_the_weights(kind, least):
    """Of bfloat16, which is as wide as float32, Keras' own is large enough."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1, dtype=kind)])
    model.compile("adam", "mse")
    run = contract.run_of(model, *explosions.table(rows=16))
    assert contract.applies(get(NAME), DIAGNOSIS, run) is (least is not None)
    if least is not None:
        assert mild(run) == ({"epsilon": least}, {})


def test_apply_sets_the_constants_and_keeps_other_changes():
    run = run_of(keras.optimizers.Adam(epsilon=0.0), layers.BatchNormalization(epsilon=0.0))
    before = Plan().with_change(OptimizerSettings({"learning_rate": 0.5}))
    changed = get(NAME).apply(
        run,
        before,
        optimizer={"epsilon": 1e-7},
        layers={"batch_normalization[0]": {"epsilon": 1e-3}},
    )
    assert changed.of(OptimizerSettings) == OptimizerSettings(
        {"learning_rate": 0.5, "epsilon": 1e-7}
    )
    assert changed.of(LayerAttributes).attributes == {"batch_normalization[0]": {"epsilon": 1e-3}}


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.Adagrad(initial_accumulator_value=0.0),
        keras.optimizers.Ftrl(initial_accumulator_value=0.0, l2_regularization_strength=0.01),
        keras.optimizers.Ftrl(initial_accumulator_value=0.0, beta=1.0),
    ],
    ids=["epsilon", "l2", "beta"],
)
def test_an_accumulator_of_0_stays_where_something_is_added_to_it(optimizer):
    assert "every constant is in range" in get(NAME).refusal(DIAGNOSIS, run_of(optimizer), Plan())


def test_accumulators_are_filled_anew():
    run = run_of(keras.optimizers.Adagrad(initial_accumulator_value=-0.1))
    changed = get(NAME).apply(run, Plan(), optimizer={"initial_accumulator_value": 0.1}, layers={})
    assert changed.of(OptimizerSettings).fresh_moments


def test_words_name_every_constant():
    params = {"optimizer": {"epsilon": 1e-7}, "layers": {"norm": {"epsilon": 1e-3}}}
    assert (
        get(NAME).explain(params)
        == "Set the optimizer's epsilon to 1e-07 and epsilon of layer norm to 0.001."
    )
    assert get(NAME).snippet(params) == "optimizer.epsilon = 1e-07\n# layer norm: epsilon=0.001"


def with_dead_feature(build):
    """Return an explosion on a table whose last feature is always 0, as is its gradient
    and its variance.
    """
    x, y = explosions.noisy_table()
    x[:, 3] = 0.0
    return explosions.with_data(build, x, y, epochs=6)


@pytest.mark.soak
def test_is_as_good_as_the_default_epsilon_by_hand():
    def default(model, x, y, arguments):
        model.compile(keras.optimizers.Adam(0.01), "mse")
        return repairs.trained(model, x, y, arguments)

    report, *_ = repairs.check_repair(
        NAME, with_dead_feature(explosions.adam_without_epsilon), default
    )
    assert report.model.optimizer.epsilon == 1e-7


@pytest.mark.soak
def test_is_as_good_as_the_default_epsilon_of_a_normalization_by_hand():
    def default(model, x, y, arguments):
        model.layers[0].epsilon = 1e-3
        return repairs.trained(model, x, y, arguments)

    report, *_ = repairs.check_repair(
        NAME, with_dead_feature(explosions.constant_feature_without_epsilon), default
    )
    assert report.model.layers[0].epsilon == 1e-3


def negative_accumulator():
    """Adagrad takes the root of what it has accumulated, which begins below 0."""
    return (
        explosions.mlp(keras.optimizers.Adagrad(0.1, initial_accumulator_value=-0.1)),
        *explosions.noisy_table(),
        {
            **explosions.ARGUMENTS,
            "epochs": 6,
        },
    )


@pytest.mark.soak
def test_is_as_good_as_the_default_accumulator_by_hand():
    def default(model, x, y, arguments):
        model.compile(keras.optimizers.Adagrad(0.1), "mse")
        return repairs.trained(model, x, y, arguments)

    repairs.check_repair(NAME, negative_accumulator, default)


def clicks_of_no_accumulator():
    """Ftrl divides by the root of what it has accumulated, which is 0 for a column without a click:
    many rows have none of a rare word.
    """
    rng = np.random.default_rng(0)
    x = (rng.uniform(size=(320, 12)) < np.linspace(0.02, 0.5, 12)).astype("float32")
    y = (x @ np.linspace(3.0, -2.0, 12) > 0.0).astype("float32")[:, None]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((12,)), layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Ftrl(0.1, initial_accumulator_value=0.0), "binary_crossentropy")
    return model, x, y, {"epochs": 5, "batch_size": 16, "verbose": 0}


def test_an_accumulator_of_nothing_is_found_and_set_back():
    model, x, y, arguments = clicks_of_no_accumulator()
    report = nanfix.fit(model, x, y, **arguments)
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert model.optimizer.initial_accumulator_value == 0.1
    assert "an initial accumulator of 0" in report.diagnosis.findings[0].evidence


@pytest.mark.soak
def test_decay_that_turns_the_weights_over_is_set_back_as_an_expert_would():
    def expert(model, x, y, arguments):
        model.compile(keras.optimizers.AdamW(0.1), "mse")
        return repairs.trained(model, x, y, arguments)

    report, *_ = repairs.check_repair("sane-constants", explosions.decay_beyond_one, expert)
    assert report.fix.edits[0].params["optimizer"] == {"weight_decay": 0.004}


def test_a_rate_that_has_lost_its_sign_descends():
    x, y = explosions.table()
    model = explosions.mlp(keras.optimizers.Adam(-1000.0))
    some = [NAME, "lower-learning-rate", "clip-gradients", "scale-inputs"]
    arguments = {**explosions.ARGUMENTS, "epochs": 40}
    report = nanfix.fit(model, x, y, strategies=some, **arguments)
    assert report.outcome is nanfix.Outcome.REPAIRED
    assert "is negative, -1e+03" in str(report.diagnosis)
    assert [edit.strategy for edit in report.fix.edits] == [NAME]
    assert float(model.optimizer.learning_rate) == pytest.approx(0.001)
