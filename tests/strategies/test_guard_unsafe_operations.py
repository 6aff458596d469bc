"""guard-unsafe-operations: the operation that failed is guarded, and the user's own
object stays repaired.
"""

from functools import cache

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import nanfix
from nanfix.changes.guards import Guard, Guards
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase, Place
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "guard-unsafe-operations"


def diagnosis(
    cause=Cause.LOSS_DOMAIN, phase=Phase.LOSS, operation="Sqrt", source="loss.py:12", layer=None
):
    return contract.diagnosis(cause, place=Place(phase, layer, operation, source))


@pytest.fixture(scope="module")
def run():
    return contract.run_of(explosions.mlp(), *explosions.table(rows=16))


def test_names_the_operation_its_line_and_the_address_of_its_layer(run):
    layer = run.model.layers[1].name
    levels = contract.levels(
        get(NAME), diagnosis(Cause.LAYER_DOMAIN, Phase.FORWARD, "RealDiv", "net.py:7", layer), run
    )
    expected = {"operation": "RealDiv", "source": "net.py:7", "layer": "dense[1]", "code": None}
    assert levels == [{**expected, "epsilon": epsilon} for epsilon in (0.0, 1e-10, 1e-7, 1e-4)]


@pytest.mark.parametrize(
    ("operation", "phase", "epsilons"),
    [
        ("Sqrt", Phase.GRADIENT, [1e-10, 1e-7, 1e-4]),
        ("Log", Phase.FORWARD, [1e-10, 1e-7, 1e-4]),
        ("Log", Phase.LOSS, [1e-7]),
        ("Exp", Phase.FORWARD, [1e-34, 1e-17, 1e-8]),
        ("Exp", Phase.LOSS, [1e-34]),
        ("Cosh", Phase.LOSS, [1e-34]),
    ],
)
def test_levels_fit_the_operation(run, operation, phase, epsilons):
    found = contract.levels(get(NAME), diagnosis(phase=phase, operation=operation), run)
    assert [params["epsilon"] for params in found] == epsilons


@pytest.mark.parametrize(
    ("operation", "edge", "epsilons"),
    [
        ("Log", 1e-3, [1e-3, 1e-10, 1e-7, 1e-4]),
        ("Log", 1e-7, [1e-7, 1e-10, 1e-4]),
        ("RealDiv", 1e-2, [0.0, 1e-2, 1e-10, 1e-7, 1e-4]),
    ],
)
def test_what_is_held_stands_beside_what_the_layer_was_given(run, operation, edge, epsilons):
    place = Place(Phase.FORWARD, None, operation, "net.py:7", edge=edge)
    found = contract.levels(get(NAME), contract.diagnosis(Cause.LAYER_DOMAIN, place=place), run)
    assert [params["epsilon"] for params in found] == epsilons


@pytest.mark.parametrize(
    "changed",
    [
        {"operation": "MatMul"},
        {"operation": None},
        {"phase": Phase.UPDATE, "source": None, "layer": "dense"},
        {"cause": Cause.LEARNING_RATE},
        {"source": None, "layer": None},
        {"source": None, "layer": "no_such_layer"},
        {"cause": Cause.BATCH_STATISTICS, "source": None, "layer": "dense"},
    ],
    ids=str,
)
def test_refuses_what_it_cannot_place_or_guard(run, changed):
    assert contract.applies(get(NAME), diagnosis(), run)
    assert not contract.applies(get(NAME), diagnosis(**changed), run)


def test_refuses_a_model_that_runs_eagerly():
    run = contract.run_of(explosions.mlp(run_eagerly=True), *explosions.table(rows=16))
    assert not contract.applies(get(NAME), diagnosis(), run)


def test_second_guard_of_the_same_operation_takes_the_place_of_the_first(run):
    params = {"operation": "Log", "source": "loss.py:3", "layer": None}
    once = get(NAME).apply(run, Plan(), **params, epsilon=1e-7)
    twice = get(NAME).apply(run, once, **params, epsilon=1e-4)
    assert once.of(Guards).guards == (Guard("Log", "loss.py:3", None, 1e-7),)
    assert twice.of(Guards).guards == (Guard("Log", "loss.py:3", None, 1e-4),)


@pytest.mark.parametrize(
    ("operation", "snippet"),
    [
        ("Log", "ops.log(ops.maximum(x, 1e-07))  # at loss.py:24"),
        ("Exp", "ops.exp(ops.minimum(x, 16.12))  # at loss.py:24"),
        (
            "RealDiv",
            (
                "a / ops.where(b < 0, ops.minimum(b, -1e-07), ops.maximum(b, 1e-07))  # at "
                "loss.py:24"
            ),
        ),
    ],
)
def test_snippet_is_what_a_person_would_write(operation, snippet):
    assert (
        get(NAME).snippet(
            {"operation": operation, "source": "loss.py:24", "layer": None, "epsilon": 1e-7}
        )
        == snippet
    )


def test_division_by_zero_that_counts_as_nothing_is_said_so():
    params = {"operation": "RealDiv", "source": "loss.py:24", "layer": None, "epsilon": 0.0}
    assert get(NAME).snippet(params) == "ops.divide_no_nan(a, b)  # at loss.py:24"


@pytest.mark.parametrize(
    ("operation", "given", "snippet"),
    [
        (
            "Mul by infinity",
            [["self.weights", "infinite"], ["m", "infinite"]],
            (
                "ops.clip(ops.convert_to_tensor(self.weights), -1e+07, 1e+07) and "
                "ops.clip(ops.convert_to_tensor(m), -1e+07, 1e+07)"
            ),
        ),
        ("Mul by infinity", [], "a * ops.clip(ops.convert_to_tensor(b), -1e+07, 1e+07)"),
        ("Pow", [["1 / p", "a fraction"]], "ops.power(ops.maximum(x, 1e-07), y)"),
        (
            "Pow",
            [["-p", "a whole number below 1"]],
            "ops.power(ops.where(x < 0, ops.minimum(x, -1e-07), ops.maximum(x, 1e-07)), y)",
        ),
    ],
)
def test_snippet_names_what_was_at_fault(run, operation, given, snippet):
    params = {"operation": operation, "source": "loss.py:2", "layer": None, "epsilon": 1e-7}
    assert get(NAME).snippet({**params, "given": given}) == f"{snippet}  # at loss.py:2"
    plan = get(NAME).apply(run, Plan(), **params, given=given)
    assert plan.of(Guards).guards[0].given == tuple(map(tuple, given))


def test_half_precision_is_given_a_number_that_it_can_hold():
    """-1e9 is an infinity there, so that a bound of 1e9 would be no bound."""
    model = explosions.mlp()
    model.layers[0].dtype_policy = keras.DTypePolicy("mixed_float16")
    run = contract.run_of(model, *explosions.table(rows=16))
    layer = model.layers[0].name
    found = diagnosis(Cause.LAYER_DOMAIN, Phase.FORWARD, "Mul by infinity", "net.py:7", layer)
    for params in contract.levels(get(NAME), found, run):
        plan = get(NAME).apply(run, Plan(), **params)
        assert plan.of(Guards).guards[0].half
        written = get(NAME).snippet({**params, "given": [["self.big", "infinite"]]})
        bound = "16000" if params["epsilon"] == 1e-9 else "10000"
        assert written.startswith(f'ops.clip(ops.cast(self.big, "float16"), -{bound}, {bound})')


class SoftmaxByHand(layers.Layer):
    def call(self, inputs):
        e = ops.exp(inputs)
        return e / ops.sum(e, axis=-1, keepdims=True)


def overflowing_softmax():
    """Attention weights over raw scores, whose exponentials overflow."""
    x, _ = explosions.table(rows=1280)
    x = 300.0 * x
    y = x[:, :1] / 300.0 * (x[:, :1] > x[:, 1:2]) + 0.1 * np.random.default_rng(0).normal(
        size=(1280, 1)
    )
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    weights = SoftmaxByHand()(layers.Dense(4, kernel_initializer="identity")(inputs))
    outputs = layers.Dense(1)(
        layers.Dense(16, "relu")(layers.Rescaling(1 / 300.0)(inputs * weights))
    )
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model, x, y.astype("float32"), {**explosions.ARGUMENTS, "epochs": 10}


@pytest.mark.soak
def test_softmax_by_hand_is_as_good_as_the_stock_one():
    def stock(model, x, y, arguments):
        next(layer for layer in model.layers if isinstance(layer, SoftmaxByHand)).call = (
            lambda inputs: ops.softmax(inputs, axis=-1)
        )
        return repairs.trained(model, x, y, arguments)

    report, *_ = repairs.check_repair(NAME, overflowing_softmax, stock)
    assert "largest exponent taken off first" in str(report.diagnosis)
    assert report.fix.edits[0].params["epsilon"] == 0 and len(report.trials) == 1
    assert "exp(x - max(x, axis=-1, keepdims=True))" in str(report.fix)


def assert_finite_on_zeros(model):
    """Zeros are where the distance has no slope: predictions and the gradient of a
    direct call are finite there.
    """
    zeros = tf.zeros((2, 4))
    with tf.GradientTape() as tape:
        tape.watch(zeros)
        outputs = model(zeros)
    assert np.isfinite(outputs).all() and np.isfinite(tape.gradient(outputs, zeros)).all()
    assert np.isfinite(model.predict(np.zeros((2, 4)), verbose=0)).all()


@cache
def distance():
    """Repair the root of a distance, once for all tests that look at it; return what the repaired
    model predicted, too.
    """
    report, held_x, held_y = repairs.check_repair(NAME, explosions.root_of_distance)
    _, x, *_ = explosions.root_of_distance()
    return report, held_x, held_y, report.model.predict(x, verbose=0)


def test_repairs_a_gradient_that_is_infinite_at_zero():
    report, *_ = distance()
    assert report.fix.edits[0].params["operation"] == "Sqrt"
    assert_finite_on_zeros(report.model)


def test_found_fix_works_on_a_fresh_model_whose_layers_have_other_names():
    found, *_, predicted = distance()
    keras.layers.Lambda(lambda h: h)  # counts the automatic names on
    fresh, x, y, arguments = explosions.root_of_distance()
    report = nanfix.apply(fresh, found.fix, x, y, **arguments)
    assert report.outcome is nanfix.Outcome.REPAIRED and report.trials == ()
    np.testing.assert_allclose(fresh.predict(x, verbose=0), predicted, rtol=1e-5)


def test_model_trains_on_after_its_repair():
    report, x, y, _ = distance()
    report.model.fit(
        np.concatenate([x, np.zeros_like(x)]), np.concatenate([y, np.zeros_like(y)]), verbose=0
    )
    assert all(np.isfinite(weight).all() for weight in report.model.get_weights())


def root_of_error(y, p):
    return ops.sqrt(ops.mean(ops.square(y - p), axis=-1))


def root_in_the_loss():
    """The slope of the loss is infinite where the model predicts a target exactly, as
    it does for zeros at first.
    """
    x, y = explosions.table()
    x[0] = y[0] = 0.0
    return (
        explosions.mlp(keras.optimizers.Adam(0.01), root_of_error),
        x,
        y,
        {**explosions.ARGUMENTS, "shuffle": False},
    )


class RootInTheModel(keras.Model):
    """A model whose own call computes the root, in no layer."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = layers.Dense(8, use_bias=False), layers.Dense(1)

    def call(self, inputs, training=False):
        return self.out(ops.sqrt(ops.sum(ops.square(self.hidden(inputs)), axis=-1, keepdims=True)))


def root_in_the_model():
    _, x, y, arguments = explosions.root_of_distance()
    model = RootInTheModel()
    model.compile(keras.optimizers.Adam(0.03), "mse")
    return model, x, y, arguments


def test_repairs_a_loss():
    report, *_ = repairs.check_repair(NAME, root_in_the_loss)
    assert report.fix.edits[0].params["layer"] is None


def test_repairs_a_model_that_computes_in_its_own_call():
    report, *_ = repairs.check_repair(NAME, root_in_the_model)
    assert_finite_on_zeros(report.model)


@pytest.mark.soak
def test_is_as_good_as_a_guard_written_by_hand():
    x, _ = explosions.table(rows=1280)
    x[40] = 0.0
    y = np.linalg.norm(x, axis=1, keepdims=True) + 0.1 * np.random.default_rng(0).normal(
        size=(1280, 1)
    )

    def guarded(model, x, y, arguments):
        model.layers[2].function = lambda h: ops.sqrt(
            ops.maximum(ops.sum(ops.square(h), axis=-1, keepdims=True), 1e-7)
        )
        return repairs.trained(model, x, y, arguments)

    build = explosions.with_data(explosions.root_of_distance, x, y.astype("float32"), epochs=6)
    repairs.check_repair(NAME, build, guarded)


def test_a_logarithm_is_guarded_in_the_words_of_its_line():
    params = {"operation": "Log", "source": "net.py:7", "layer": None, "epsilon": 1e-7}
    for line, words in (("10 * ops.log10(mse)", "log10"), ("tf.math.log(p)", "log")):
        told = get(NAME).explain({**params, "code": f"net.loss: return {line}"})
        assert f"Compute {words}(maximum(x, 1e-07)) at net.py:7" in told
