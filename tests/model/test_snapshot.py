"""Snapshots: everything a replay needs, and nothing unverified."""

import explosions
import keras
import numpy as np

from nanfix.model.nonfinite_weights import nonfinite_weights
from nanfix.model.snapshot import nonfinite_variables, restore, state_variables, take


def test_restore_brings_back_weights_slots_statistics_and_seeds():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    x, y = explosions.table(64)
    model.fit(x, y, verbose=0)
    snapshot = take(model)
    before = [np.asarray(v).copy() for v in state_variables(model)]
    again = [model.fit(x, y, verbose=0, shuffle=False).history["loss"]]
    assert any(
        (np.asarray(v) != b).any() for v, b in zip(state_variables(model), before, strict=True)
    )
    restore(snapshot)
    for variable, value in zip(state_variables(model), before, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), value)
    again.append(model.fit(x, y, verbose=0, shuffle=False).history["loss"])
    assert again[0] == again[1]


def test_nonfinite_state_is_never_kept():
    model, x, y, arguments = explosions.healthy()
    model.fit(x, y, **arguments)
    kernel = model.layers[0].kernel
    kernel.assign(kernel.numpy() * np.nan)
    assert take(model) is None
    assert nonfinite_variables(model) == [kernel.path]


def test_nonfinite_slot_is_seen():
    model, x, y, arguments = explosions.healthy()
    model.fit(x, y, **arguments)
    slot = model.optimizer.variables[2]
    slot.assign(slot.numpy() + np.inf)
    assert take(model) is None


class Range(keras.layers.Layer):
    """Keeps the least and the greatest of what passes, and one that nothing ever reaches."""

    def build(self, shape):
        for name, start in (("low", np.inf), ("high", -np.inf), ("unused", np.inf)):
            initializer = keras.initializers.Constant(start)
            made = self.add_weight(name=name, initializer=initializer, trainable=False, shape=(2,))
            setattr(self, name, made)

    def call(self, inputs):
        self.low.assign(keras.ops.minimum(self.low, keras.ops.min(inputs)))
        self.high.assign(keras.ops.maximum(self.high, keras.ops.max(inputs)))
        return inputs


def test_a_minimum_of_the_users_own_may_begin_with_inf():
    rows = Range()
    model = keras.Sequential([keras.Input((4,)), rows, keras.layers.Dense(1)])
    assert nonfinite_variables(model) == [] and take(model) is not None
    model(np.ones((3, 4), "float32"))
    rows.unused.assign([np.inf, 2.0])
    assert nonfinite_variables(model) == [] and nonfinite_weights(model) == {
        "range[0]": {"unused": (2.0, 0.0)}
    }
    rows.low.assign([np.nan, np.inf])
    assert nonfinite_variables(model) == [rows.low.path] and take(model) is None
    rows.low.assign([np.inf, np.inf])
    model.layers[-1].kernel.assign(np.full((4, 1), np.inf))
    assert nonfinite_variables(model) == [model.layers[-1].kernel.path]


def test_statistics_of_a_layer_of_keras_may_not_be_infinite():
    normalization = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((4,)), normalization, keras.layers.Dense(1)])
    normalization.moving_variance.assign([1.0, np.inf, 1.0, 1.0])
    assert nonfinite_variables(model) == [normalization.moving_variance.path]


def test_callbacks_come_back_too():
    callback = keras.callbacks.EarlyStopping(patience=3)
    callback.best, callback.wait = 0.5, 1
    model, *_ = explosions.healthy()
    snapshot = take(model, callbacks=[callback])
    callback.best, callback.wait = float("nan"), 3
    restore(snapshot)
    assert (callback.best, callback.wait) == (0.5, 1)


def test_further_optimizers_of_a_model_are_part_of_the_state():
    model, *_ = explosions.healthy()
    model.second = keras.optimizers.Adam()
    model.others = {"third": keras.optimizers.RMSprop()}
    for optimizer in (model.second, model.others["third"]):
        optimizer.build(model.trainable_variables)
        known = {id(v) for v in state_variables(model)}
        assert all(id(v) in known for v in optimizer.variables)
