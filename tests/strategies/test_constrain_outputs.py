"""constrain-outputs: an activation of the last layer that keeps its outputs where the
loss is defined.
"""

import explosions
import keras
import pytest

from nanfix.changes.layers import LayerAttributes
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase, Place
from nanfix.remedies.registry import get
from nanfix.testing import contract, repairs

NAME = "constrain-outputs"
IN_LOSS = contract.diagnosis(Cause.LOSS_DOMAIN, place=Place(Phase.LOSS, None, "Log", "loss.py:3"))


def run_of(loss=explosions.poisson, last=None):
    return contract.run_of(explosions.mlp(loss=loss, last=last), *explosions.table(rows=16))


def test_last_layer_gets_what_the_loss_is_defined_for():
    run = run_of()
    (only,) = contract.levels(get(NAME), IN_LOSS, run)
    assert only == {"layer": "dense[2]", "activation": "softplus"}
    changed = get(NAME).apply(run, Plan(), **only)
    assert changed.of(LayerAttributes).attributes == {"dense[2]": {"activation": "softplus"}}
    assert get(NAME).explain(only) == "Use the activation softplus in the output layer, dense[2]."
    assert get(NAME).snippet(only) == "# layer dense[2]: activation='softplus'"


@pytest.mark.parametrize(
    ("diagnosis", "loss", "last"),
    [
        (
            contract.diagnosis(Cause.LEARNING_RATE, place=Place(Phase.LOSS)),
            explosions.poisson,
            None,
        ),
        (
            contract.diagnosis(Cause.LOSS_DOMAIN, place=Place(Phase.FORWARD)),
            explosions.poisson,
            None,
        ),
        (IN_LOSS, keras.losses.BinaryCrossentropy(from_logits=True), None),
        (IN_LOSS, explosions.poisson, "softplus"),
        (IN_LOSS, explosions.poisson, "sigmoid"),
    ],
)
def test_is_left_alone_where_the_outputs_are_not_at_fault(diagnosis, loss, last):
    assert not contract.applies(get(NAME), diagnosis, run_of(loss, last))


@pytest.mark.soak
def test_is_as_good_as_softplus_by_hand():
    def with_softplus(model, x, y, arguments):
        model.layers[-1].activation = keras.activations.softplus
        return repairs.trained(model, x, y, arguments)

    report, *_ = repairs.check_repair(NAME, explosions.counts, with_softplus)
    assert (report.model.predict(explosions.counts()[1], verbose=0) > 0).all()
