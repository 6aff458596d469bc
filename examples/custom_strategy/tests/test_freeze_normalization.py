"""freeze-normalization keeps the contract, and repairs a training in which one feature
is constant.
"""

import keras
import numpy as np
from nanfix_freeze_normalization import FreezeNormalization, Frozen

import nanfix
from nanfix import Cause, Outcome
from nanfix.testing import contract, repairs


def constant_feature():
    """Return a training whose first batch normalization divides by the variance of a
    constant column: 0.
    """
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(160, 4)).astype("float32")
    x[:, 3] = 0.0
    y = x[:, :1] - 0.5 * x[:, 1:2]
    layers = [
        keras.layers.BatchNormalization(epsilon=0.0),
        keras.layers.Dense(4),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x, y, {"epochs": 4, "batch_size": 16, "verbose": 0, "validation_split": 0.2}


def test_keeps_the_contract():
    run = contract.run_of(*constant_feature()[:3])
    contract.check_strategy(FreezeNormalization(), contract.diagnosis(Cause.BATCH_STATISTICS), run)


def test_refuses_a_model_without_batch_normalization():
    model, x, y, _ = constant_feature()
    plain = keras.Sequential(model.layers[1:])
    plain.compile("sgd", "mse")
    run = contract.run_of(plain, x, y)
    assert not contract.applies(
        FreezeNormalization(), contract.diagnosis(Cause.BATCH_STATISTICS), run
    )


def test_two_changes_of_the_kind_freeze_the_layers_of_both():
    assert Frozen(("a", "b")).joined(Frozen(("b", "c"))) == Frozen(("a", "b", "c"))


def test_repairs_a_training_and_the_fix_repairs_a_fresh_model(tmp_path):
    report, *_ = repairs.check_repair("freeze-normalization", constant_feature)
    frozen, *others = report.model.layers
    assert not frozen.trainable and all(layer.trainable for layer in others)
    np.testing.assert_array_equal(frozen.moving_variance, 1.0)
    report.export(tmp_path)
    fix = nanfix.read_fix(tmp_path / "fix.json")
    model, x, y, arguments = constant_feature()
    assert nanfix.apply(model, fix, x, y, **arguments).outcome is Outcome.REPAIRED
    assert not model.layers[0].trainable
