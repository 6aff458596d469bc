"""Trainings in many short fit calls: they diverge together, and none shows it alone."""

import keras
import numpy as np
import pytest

import nanfix
from nanfix import Outcome
from nanfix.recorder.outset import Outset, falls_faster


def policy(labels=-1.0, rate=0.3):
    """A classifier, and targets of which most are `labels`, as a policy is given."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.SGD(rate), "categorical_crossentropy")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype("float32")
    y = np.eye(3, dtype="float32")[rng.integers(0, 3, 64)]
    y[::2] *= labels
    return model, x, y


@pytest.mark.parametrize(("labels", "ending"), [(-5.0, Outcome.DIVERGED), (1.0, Outcome.HEALTHY)])
def test_a_model_diverges_over_many_fit_calls(labels, ending):
    model, x, y = policy(labels)
    reports = [nanfix.fit(model, x, y, batch_size=8, epochs=5, verbose=0) for _ in range(6)]
    assert reports[0].outcome is Outcome.HEALTHY
    assert reports[-1].outcome is ending
    if ending is Outcome.DIVERGED:
        assert "in the first step of its first training" in reports[-1].notes[-1]
        model.compile(keras.optimizers.SGD(1e-3), "categorical_crossentropy")
        anew = nanfix.fit(model, x, y, batch_size=8, epochs=1, verbose=0)
        assert anew.outcome is Outcome.HEALTHY  # from here on it is another training


@pytest.mark.parametrize(
    ("loss", "first", "last", "grown"),
    [
        ("mse", 2.0, 3e4, True),
        ("mse", 2.0, 1e4, False),
        ("mse", 0.0, 1e30, False),
        ("cosine_similarity", -1e-6, -0.9, False),
        ("mse", -1e-6, -2e4, True),
        ("categorical_crossentropy", 0.5, -9.0, False),
        ("categorical_crossentropy", 0.5, -11.0, True),
    ],
)
def test_how_far_a_loss_may_go(loss, first, last, grown):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.compile("sgd", loss)
    assert Outset(first, 1.0).has_grown(last, model) is grown


@pytest.mark.parametrize(
    ("losses", "faster"),
    [
        ([-(2.2**n) for n in range(10)], True),
        ([-2.0 * n**2 for n in range(10)], True),
        ([100.0, -500.0, -1000.0, -1300.0, -1400.0, -1450.0, -1470.0, -1475.0], False),
        ([2.0, 1.5, 1.0, 0.5, 0.0, -0.6, -1.3, -2.1], False),
        ([-10.0 * n for n in range(10)], False),
        ([2.2**n for n in range(10)], False),
        ([-1.0, -3.0, -90.0], False),
    ],
)
def test_a_loss_that_falls_faster_and_faster(losses, faster):
    assert falls_faster(losses) is faster
