"""The table of crossentropies says what Keras does: names, targets, activations, logits."""

import inspect

import keras
import numpy as np
import pytest

from nanfix.model.crossentropies import CROSSENTROPIES, Targets, crossentropy_of

ROWS, CLASSES = 8, 3
EACH = pytest.mark.parametrize("each", CROSSENTROPIES.values(), ids=lambda each: each.name)


def test_every_crossentropy_of_keras_is_in_the_table():
    assert {name for name in vars(keras.losses) if name.endswith("_crossentropy")} <= set(
        CROSSENTROPIES
    )


@EACH
def test_crossentropy_is_known_by_every_form_that_compile_takes(each):
    stock = getattr(keras.losses, each.class_name)()
    for loss in (each.name, getattr(keras.losses, each.name), stock):
        assert crossentropy_of(loss) is each
    assert ("from_logits" in inspect.signature(type(stock)).parameters) == each.from_logits


@EACH
def test_loss_of_probabilities_and_of_their_logits_is_the_same_finite_number(each):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(ROWS, CLASSES))
    truth, kind = each.draw_targets(rng, ROWS, CLASSES), getattr(keras.losses, each.class_name)
    probabilities = each.probabilities(logits)
    np.testing.assert_allclose(
        probabilities, keras.activations.get(each.activation)(logits), rtol=1e-6
    )
    np.testing.assert_allclose(
        each.probabilities(each.logits(probabilities)), probabilities, rtol=1e-6
    )
    plain = float(kind()(truth, probabilities))
    assert np.isfinite(plain) and plain > 0
    for given in (logits, each.logits(probabilities)) if each.from_logits else ():
        assert float(kind(from_logits=True)(truth, given)) == pytest.approx(plain, rel=1e-4)


@EACH
def test_frequencies_are_the_best_constant_prediction_unless_it_is_focal(each):
    rng = np.random.default_rng(0)
    truth, loss = each.draw_targets(rng, 200, 2), getattr(keras.losses, each.class_name)()
    table = np.eye(2)[truth] if each.targets is Targets.CLASS else truth
    shares = table.mean(axis=0) if each.targets is not Targets.EACH else table[:, :1].mean(axis=0)
    truth = truth[:, :1] if each.targets is Targets.EACH else truth
    losses = {}
    for moved in (-0.03, 0.0, 0.03):
        p = shares + moved * np.array([1.0, -1.0])[: len(shares)]
        losses[moved] = float(loss(truth, np.broadcast_to(p, (200, len(p)))))
    assert each.focal or losses[0.0] == min(losses.values())


@pytest.mark.parametrize(
    "loss",
    ["mse", keras.losses.Huber(), lambda y, p: p, None, {"a": "mse"}],
    ids=["mse", "huber", "function", "none", "dict"],
)
def test_other_losses_are_none(loss):
    assert crossentropy_of(loss) is None
