"""Guards in a model: layers called in any way, saved, compiled before; lines that have moved."""

import inspect
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from guarding import E, line_of
from keras import layers, ops

from nanfix.changes.graph_guard import install
from nanfix.changes.guards import Guard, Guards

FILE = Path(__file__).name


class Distance(layers.Layer):
    """The square root of the sum of squares, which it also adds to the loss."""

    def call(self, x):
        squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
        self.add_loss(ops.mean(squares))
        return ops.sqrt(squares)


def distances():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((2,))
    outputs = layers.Concatenate()(
        [Distance(name="left")(inputs), Distance(name="right")(-inputs), inputs]
    )
    return keras.Model(inputs, layers.Dense(1, kernel_initializer="ones")(outputs))


def sqrt_guard(layer="right"):
    return Guard("Sqrt", line_of(Distance.call, 3), layer, E)


def gradient(model, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    return np.asarray(tape.gradient(y, x))


def test_layer_called_directly_is_guarded_too_and_its_siblings_on_the_same_line():
    model, x = distances(), tf.zeros((3, 2))
    assert np.isnan(gradient(model, x)).all()
    install(model, [sqrt_guard()], ExitStack())
    assert {layer.name for layer in model.layers if "call" in vars(layer)} == {"left", "right"}
    np.testing.assert_allclose(model(x), np.full((3, 1), 0.02), rtol=1e-6)
    np.testing.assert_array_equal(gradient(model, x), np.ones((3, 2)))
    np.testing.assert_allclose(
        model.predict(np.zeros((3, 2)), verbose=0), np.full((3, 1), 0.02), rtol=1e-6
    )


def test_losses_added_in_a_guarded_layer_are_those_of_the_call():
    model = distances()
    install(model, [sqrt_guard()], ExitStack())
    for scale in (1.0, 2.0):
        model(scale * tf.ones((3, 2)))
        assert [float(loss) for loss in model.losses] == pytest.approx([2.0 * scale**2] * 2)


def test_removed_hooks_leave_nothing_behind():
    model = distances()
    before = [dict(vars(layer)) for layer in (model, *model.layers)]
    with ExitStack() as undo:
        install(model, [sqrt_guard(), Guard("Sqrt", "loss.py:1", None, E)], undo)
        assert {"train_step", "test_step"} <= set(vars(model)) and "call" in vars(model.layers[1])
    assert before == [dict(vars(layer)) for layer in (model, *model.layers)]


def test_stock_layer_without_a_line_is_guarded_by_its_address():
    inputs = keras.Input((2,))
    bare = [layers.LayerNormalization(epsilon=0.0, center=False, scale=False) for _ in range(2)]
    model = keras.Model(inputs, [layer(inputs) for layer in bare])
    install(model, [Guard("Rsqrt", None, "layer_normalization[0]", E)], ExitStack())
    guarded_outputs, others = model(tf.ones((1, 2)))
    assert np.isfinite(guarded_outputs).all() and np.isnan(others).all()


def test_guarded_model_can_be_saved_and_its_signature_stays(tmp_path):
    model = distances()
    signature = inspect.signature(model.layers[1].call)
    install(model, [sqrt_guard()], ExitStack())
    assert inspect.signature(model.layers[1].call) == signature
    model.save(tmp_path / "model.keras")
    x = np.float32([[1, 2]])
    loaded = keras.models.load_model(
        tmp_path / "model.keras", custom_objects={"Distance": Distance}
    )
    np.testing.assert_allclose(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


class Root(layers.Layer):
    """A layer whose call TensorFlow compiles, with control flow or without."""

    def __init__(self, call):
        super().__init__()
        self.call = tf.function(call)


def root(x):
    return ops.sqrt(x)


def root_if_asked(x):
    return ops.sqrt(x) if tf.reduce_any(x < 1) else x


@pytest.mark.parametrize("call", [root, root_if_asked], ids=lambda call: call.__name__)
def test_compiled_layer_is_guarded_though_it_was_traced_before(call):
    model = keras.Sequential([keras.Input((1,)), Root(call)])
    assert np.isnan(model.predict(-np.ones((1, 1)), verbose=0)).all()
    model.predict_function = None
    matches = Counter()
    install(model, [Guard("Sqrt", line_of(call, 1), "root[0]", E)], ExitStack(), matches)
    np.testing.assert_allclose(model.predict(-np.ones((1, 1)), verbose=0), [[0.01]], rtol=1e-5)
    assert sum(matches.values()) > 0


def test_guard_without_a_match_is_counted_as_idle():
    matches, elsewhere = (
        Counter(),
        Guard("Sqrt", "loss.py:1", None, E, "loss.root: return ops.sqrt(x)"),
    )
    model = distances()
    install(model, [sqrt_guard(), elsewhere], ExitStack(), matches)
    model.predict(np.ones((1, 2)), verbose=0)
    assert matches[sqrt_guard()] == 2 and not matches[elsewhere]


def test_line_that_has_moved_is_guarded_by_its_function_and_its_text():
    moved = Guard("Sqrt", f"{FILE}:1", "right", E, f"{__name__}.call: return ops.sqrt(squares)")
    model = distances()
    install(model, [moved], ExitStack())
    np.testing.assert_allclose(model(tf.zeros((3, 2))), np.full((3, 1), 0.02), rtol=1e-6)


def test_guards_of_one_place_keep_what_was_given_to_both():
    """Where a guard takes the place of another, other factors may have been infinite."""
    weights, log_p = ("w", "infinite"), ("p", "infinite")
    first, later = (
        Guard("Mul by infinity", "a.py:1", None, epsilon, given=given)
        for epsilon, given in ((1e-9, (weights,)), (1e-4, (log_p, weights)))
    )
    (guard,) = Guards((first,)).joined(Guards((later,))).guards
    assert guard.epsilon == 1e-4 and guard.given == (weights, log_p)
