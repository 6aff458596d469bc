"""Statistics that normalization layers keep: out of order, senseless, measured anew."""

import keras
import numpy as np
import pytest
from keras import layers

from nanfix.model.running_statistics import estimated, faults, keeping, remarks


def model_of(norm):
    return keras.Sequential([keras.Input((3,)), layers.Dense(4), norm, layers.Dense(1)])


def with_statistics(mean, variance, **arguments):
    norm = layers.BatchNormalization(name="norm", **arguments)
    model = model_of(norm)
    norm.moving_mean.assign(np.full(4, mean, "float32"))
    norm.moving_variance.assign(np.asarray(variance, "float32") * np.ones(4, "float32"))
    return model


@pytest.mark.parametrize(
    ("mean", "variance", "told"),
    [
        (0.0, [1.0, 1.0, -0.5, -2.0], "negative for 2 of 4 features, down to -2"),
        (0.0, [1.0, np.inf, 1.0, 1.0], "variance of layer norm is not finite for 1 of 4"),
        (0.0, [1.0, np.nan, 1.0, 1.0], "variance of layer norm is not finite for 1 of 4"),
        (np.nan, 1.0, "mean of layer norm is not finite for 4 of 4"),
        (0.0, 0.0, None),
        (5.0, 1e-12, None),
        (0.0, -0.0005, None),  # with the epsilon it is positive
        (0.0, 1.0, None),
        (1e30, 1e30, None),
    ],
)
def test_statistics_with_which_nothing_finite_can_be_computed(mean, variance, told):
    found = faults(with_statistics(mean, variance))
    assert [layer.name for layer, _ in found] == ["norm"] * (told is not None)
    assert all(told in fault for _, fault in found)


def test_fault_names_a_momentum_out_of_range_and_no_other():
    assert "momentum of 1.1" in faults(with_statistics(0.0, -1.0, momentum=1.1))[0][1]
    assert "momentum" not in faults(with_statistics(0.0, -1.0))[0][1]


@pytest.mark.parametrize(
    ("momentum", "moved", "told"),
    [
        (0.99, False, None),
        (0.0, False, None),
        (0.999, True, None),
        (1.0, True, None),  # those of a model that was trained before, held on purpose
        (1.0, False, "never move"),
        (1.1, True, "run away"),
        (-2.0, True, "run away"),
        (-0.5, True, "swing around"),
    ],
)
def test_statistics_that_are_not_those_of_the_data_are_told(momentum, moved, told):
    model = with_statistics(2.0 * moved, 1.0 + moved, momentum=momentum)
    found = remarks(model)
    assert len(found) == (told is not None) and all(told in remark for remark in found)
    model.get_layer("norm").trainable = False  # then it trains with what it predicts with
    assert remarks(model) == []


def test_layers_without_such_statistics_are_left_alone():
    for norm in (layers.LayerNormalization(), layers.Normalization(), layers.Dropout(0.5)):
        assert keeping(model_of(norm)) == [] and faults(model_of(norm)) == []
    unbuilt = keras.Sequential([layers.BatchNormalization(momentum=2.0)])
    assert faults(unbuilt) == remarks(unbuilt) == []


def test_statistics_are_the_mean_over_the_batches_and_nothing_else_is_changed():
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(8, 3)).astype("float32") for _ in range(5)]
    model = with_statistics(0.0, -1.0, momentum=0.99)
    norm, dense = model.get_layer("norm"), model.layers[0]
    (mean, means), (variance, variances) = estimated(model, [norm], batches)
    outputs = [np.asarray(dense(batch)) for batch in batches]
    assert (mean, variance) == (norm.moving_mean, norm.moving_variance) and norm.momentum == 0.99
    np.testing.assert_allclose(means, np.mean([o.mean(axis=0) for o in outputs], axis=0), 1e-4)
    np.testing.assert_allclose(variances, np.mean([o.var(axis=0) for o in outputs], axis=0), 1e-4)
    np.testing.assert_array_equal(norm.gamma, np.ones(4))
