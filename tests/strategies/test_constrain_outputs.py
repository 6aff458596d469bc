"""constrain-outputs: an activation of the last layer that keeps its outputs where the
loss is defined.
"""

import explosions
import keras
import numpy as np
import pytest

import nanfix
from nanfix.changes.behind_outputs import BehindOutputs
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
    assert only == {"activations": {"dense[2]": "softplus"}}
    changed = get(NAME).apply(run, Plan(), **only)
    assert changed.of(LayerAttributes).attributes == {"dense[2]": {"activation": "softplus"}}
    assert get(NAME).explain(only) == "Use the activation softplus in the output layer, dense[2]."
    assert get(NAME).snippet(only) == "# layer dense[2]: activation='softplus'"


def of_a_mean_and_a_deviation(y, p):
    mean, deviation = p[:, :1], p[:, 1:]
    return keras.ops.log(deviation) + 0.5 * keras.ops.square((y - mean) / deviation)


@pytest.mark.soak
def test_the_deviation_becomes_positive_and_the_mean_stays_as_it_is():
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(160, 2)).astype("float32")
    y = x[:, :1] - 2.0 + 0.1 * x[:, 1:]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="normal")])
    model.compile(keras.optimizers.Adam(0.05), of_a_mean_and_a_deviation)
    report = nanfix.fit(model, x, y, strategies=[NAME], epochs=6, batch_size=16, verbose=0)
    assert report.outcome is nanfix.Outcome.REPAIRED, str(report)
    assert "Use softplus of column 1 in the output layer, normal." in str(report)
    predicted = model.predict(x, verbose=0)
    assert (predicted[:, 1] > 0).all() and (predicted[:, 0] < 0).any()


def test_of_a_mean_and_a_deviation_only_the_deviation_is_changed():
    model = explosions.mlp(loss=of_a_mean_and_a_deviation, outputs=2)
    run = contract.run_of(model, *explosions.table(rows=16))
    (only,) = contract.levels(get(NAME), IN_LOSS, run)
    assert only == {"activations": {"dense[2]": [[1, None], [1, "softplus"]]}}
    changed = get(NAME).apply(run, Plan(), **only).of(LayerAttributes).attributes
    assert changed == {"dense[2]": {"activation": ((1, None), (1, "softplus"))}}
    words = "softplus of column 1 in the output layer, dense[2]"
    assert get(NAME).explain(only) == f"Use {words}."
    assert get(NAME).snippet(only) == "# layer dense[2]: softplus of column 1"


def test_what_a_product_gives_is_changed_behind_it():
    model, x, y, _ = explosions.factorized()
    run = contract.run_of(model, x, y)
    (only,) = contract.levels(get(NAME), IN_LOSS, run)
    assert only == {"activations": {}, "behind": {"output": "softplus"}}
    changed = get(NAME).apply(run, Plan(), **only)
    assert [*changed.changes.values()] == [BehindOutputs({"output": "softplus"})]
    assert get(NAME).explain(only) == "Use the activation softplus behind the output."
    assert get(NAME).snippet(only) == "output = keras.layers.Activation('softplus')(output)"


def test_repairs_what_a_product_gives():
    model, x, y, arguments = explosions.factorized()
    few = {**arguments, "epochs": 3}
    report = nanfix.fit(model, x, y, strategies=[NAME], **few)
    assert report.outcome is nanfix.Outcome.REPAIRED, str(report)
    assert report.fix.edits[0].params["behind"] == {"output": "softplus"}
    assert (model.predict(x, verbose=0) > 0).all()


def test_columns_behind_one_of_several_outputs_are_told_by_its_name():
    params = {"activations": {}, "behind": {"rate": [[1, None], [2, "softplus"]]}}
    words = "softplus of columns 1 to 2 behind the output rate"
    assert get(NAME).explain(params) == f"Use {words}."
    assert get(NAME).snippet(params) == "# behind the output rate: softplus of columns 1 to 2"


class TwoRates(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.second = keras.layers.Dense(1), keras.layers.Dense(1)

    def call(self, inputs):
        return {"first": 2.0 * self.first(inputs), "second": 2.0 * self.second(inputs)}


def test_says_why_nothing_can_be_put_behind_one_of_several_outputs_of_an_own_call():
    model = TwoRates()
    model.compile("sgd", {"first": explosions.poisson, "second": "mse"})
    x, y = explosions.table(rows=16)
    run = contract.run_of(model, x, {"first": y, "second": y})
    refusal = get(NAME).refusal(IN_LOSS, run, Plan())
    assert "one of several of a model with a call of its own" in refusal


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


@pytest.mark.soak
def test_is_as_good_as_softplus_behind_a_product_by_hand():
    def with_softplus(model, x, y, arguments):
        expert = keras.Model(model.inputs, keras.layers.Activation("softplus")(model.outputs[0]))
        expert.compile(model.optimizer, explosions.poisson)
        return repairs.trained(expert, x, y, arguments)

    report, *_ = repairs.check_repair(NAME, explosions.factorized, with_softplus)
    assert (report.model.predict(explosions.factorized()[1], verbose=0) > 0).all()
