"""The contract suite over every installed strategy, and over strategies that break one
rule each.
"""

import importlib.util
from functools import cache
from pathlib import Path

import explosions
import keras
import numpy as np
import pytest

from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase, Place
from nanfix.records.fallen_weight import FallenWeight
from nanfix.records.nonfinite_constant import NonfiniteConstant
from nanfix.remedies.registry import catalogue, get
from nanfix.testing import contract

LOWER = type(get("lower-learning-rate"))
HELD = NonfiniteConstant("1 -inf, 1 of the 3 numbers of `q`", (("neginf", -2.0),), "q")
FALLEN = FallenWeight("precision[0]", "tau", 1.0, -0.1)
PLACES = (
    Place(Phase.FORWARD, operation="Sqrt", source="model.py:12"),
    Place(Phase.UPDATE),
    Place(Phase.LOSS),
    Place(Phase.LOSS, operation="Log", source="loss.py:3"),
    Place(Phase.LOSS, source="loss.py:3", constant=HELD),
)


@cache
def situations():
    """Return runs that strategies are for. One that only one strategy is for stands in
    its test, as `situations` too.
    """
    x, y = explosions.table(rows=16)
    classes = np.eye(3, dtype="float32")[np.arange(16) % 3]
    classifier = explosions.mlp(loss="categorical_crossentropy", outputs=3, last="softmax")
    return {
        "regression": contract.run_of(explosions.mlp(), x, y),
        "classification": contract.run_of(classifier, x, classes),
        "labels from 1": contract.run_of(
            explosions.mlp(loss="sparse_categorical_crossentropy", outputs=3, last="softmax"),
            x,
            1 + np.arange(16) % 3,
        ),
        "constants out of range": contract.run_of(
            explosions.mlp(keras.optimizers.Adam(epsilon=0.0)), x, y
        ),
        "moments": contract.run_of(built(explosions.mlp("adam")), x, y),
        "half precision": contract.run_of(half(), x, y),
        "recurrence": contract.run_of(
            explosions.recurrence()[0], *(part[:16] for part in explosions.recurrence()[1:3])
        ),
        "likelihood": contract.run_of(*explosions.counts()[:3]),
        "one far out": contract.run_of(
            explosions.mlp(), *(part[:40] for part in explosions.sentinel_values()[1:3])
        ),
    }


def built(model):
    model.optimizer.build(model.trainable_variables)
    return model


def half():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, dtype="mixed_float16"), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    return model


@cache
def own_situations(name):
    """Return the runs that the test of a strategy adds to those above."""
    path = Path(__file__).with_name("strategies") / f"test_{name.replace('-', '_')}.py"
    spec = importlib.util.spec_from_file_location(f"situations_of_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, "situations", dict)()


def fitting(strategy, diagnosis):
    """Return the runs that the strategy can be applied to under this diagnosis."""
    runs = {**situations(), **own_situations(strategy.name)}
    return [run for run in runs.values() if contract.applies(strategy, diagnosis, run)]


@pytest.mark.parametrize("name", catalogue())
def test_installed_strategy_keeps_the_contract(name):
    """In every situation that it is for, under one of its causes there."""
    strategy, checked = get(name), {}
    for cause in strategy.treats | strategy.eases:
        shown = {"batch_rows": 1, "fallen_weights": (FALLEN,)}
        diagnoses = [contract.diagnosis(cause, place=place, **shown) for place in PLACES]
        pairs = [
            (diagnosis, run) for diagnosis in diagnoses for run in fitting(strategy, diagnosis)
        ]
        assert pairs, (
            f"{name} treats {cause.name} but applies to none of: {', '.join(situations())}. Its "
            "test can add a run."
        )
        checked.update({id(run): (diagnosis, run) for diagnosis, run in pairs})
    for diagnosis, run in checked.values():
        contract.check_strategy(strategy, diagnosis, run)


class Lower(LOWER):
    """Lower the learning rate.

    Does not help when the data are NaN. Reference: Bengio (2012).
    """

    def __init_subclass__(cls):
        cls.__doc__ = cls.__doc__ or Lower.__doc__


class ShoutsItsName(Lower):
    name = "Lower_Rate"


class HasNoTier(Lower):
    tier = 2


class TreatsNothing(Lower):
    treats = eases = frozenset()


class PromisesTooMuch(Lower):
    """Lower the learning rate.

    Reference: Bengio (2012).
    """


class IsFromNowhere(Lower):
    """Lower the learning rate.

    Does not help when the data are NaN.
    """


class TrailsOff(Lower):
    """Lower the learning rate

    Does not help when the data are NaN. Reference: Bengio (2012).
    """


class NotInstalled(Lower):
    name = "not-installed"


class AnswersEverything(Lower):
    def answers(self, diagnosis):
        return True


class AnswersNothing(Lower):
    def answers(self, diagnosis):
        return False


class RefusesItsOwn(Lower):
    def refusal(self, diagnosis, run, plan):
        return "the optimizer is too good for it"


class TouchesTheModelEarly(Lower):
    def refusal(self, diagnosis, run, plan):
        run.model.layers[0].seen = True
        return super().refusal(diagnosis, run, plan)


class TrainsInSpace(Lower):
    def space(self, hp, diagnosis, run, plan):
        kernel = run.model.layers[0].kernel
        kernel.assign(kernel * 2.0)
        return super().space(hp, diagnosis, run, plan)


class ReturnsFloat32(Lower):
    def space(self, hp, diagnosis, run, plan):
        return {"learning_rate": np.float32(0.01)}


class ReturnsNan(Lower):
    def space(self, hp, diagnosis, run, plan):
        return {"learning_rate": float("nan")}


class ReturnsATuple(Lower):
    def space(self, hp, diagnosis, run, plan):
        return {"learning_rate": (0.1, 0.2)}


class ChangesThePlan(Lower):
    def apply(self, run, plan, *, learning_rate):
        plan.of(OptimizerSettings).settings["momentum"] = 0.0
        return super().apply(run, plan, learning_rate=learning_rate)


class ChangesTheSample(Lower):
    def apply(self, run, plan, *, learning_rate):
        run.sample.inputs[0][0] += 1.0
        return super().apply(run, plan, learning_rate=learning_rate)


class ChangesTheModel(Lower):
    def apply(self, run, plan, *, learning_rate):
        run.model.optimizer.learning_rate = learning_rate
        return super().apply(run, plan, learning_rate=learning_rate)


class ChangesNothing(Lower):
    def apply(self, run, plan, *, learning_rate):
        return plan


class ReturnsNone(Lower):
    def apply(self, run, plan, *, learning_rate):
        return None


class DiffersEachTime(Lower):
    def apply(self, run, plan, *, learning_rate):
        self.calls = getattr(self, "calls", 0) + 1
        return super().apply(run, plan, learning_rate=learning_rate / self.calls)


class HidesAParameter(Lower):
    def space(self, hp, diagnosis, run, plan):
        return {**super().space(hp, diagnosis, run, plan), "strategy": "lower-learning-rate"}

    def apply(self, run, plan, *, learning_rate, strategy=""):
        return super().apply(run, plan, learning_rate=learning_rate)


class SaysNone(Lower):
    def explain(self, params):
        return f"Lower the learning rate to {params.get('rate')}."


class SaysTooMuch(Lower):
    def explain(self, params):
        return "Lower the learning rate. It was too high."


class WritesNoPython(Lower):
    def snippet(self, params):
        return "set the learning rate lower"


BROKEN = {
    ShoutsItsName: "lower-case words joined by hyphens, not 'Lower_Rate'",
    HasNoTier: "tier is a nanfix.Tier, not 2",
    TreatsNothing: "at least one nanfix.Cause",
    PromisesTooMuch: "says when it does not help",
    IsFromNowhere: "names its source",
    TrailsOff: "first paragraph is a sentence ending with a period, not 'Lower the learning rate'",
    NotInstalled: "not-installed is not installed",
    AnswersEverything: "answers a cause that it does not name",
    AnswersNothing: "none of the diagnosis' causes is in `treats` or `eases`",
    RefusesItsOwn: "refusal gives 'the optimizer is too good for it'",
    TouchesTheModelEarly: r"refusal changes layer dense\[0\]\.seen",
    TrainsInSpace: "space changes variable .*kernel",
    ReturnsFloat32: "what JSON cannot hold .*float32",
    ReturnsNan: "what JSON cannot hold .*nan",
    ReturnsATuple: r"JSON makes .*\[0.1, 0.2\].* of .*\(0.1, 0.2\)",
    ChangesThePlan: "apply changes what it is given: plan.optimizer",
    ChangesTheSample: "apply changes what it is given: run.sample",
    ChangesTheModel: "apply changes what it is given: variable .*learning_rate",
    ChangesNothing: "changes nothing",
    ReturnsNone: "returns a Plan, not NoneType",
    DiffersEachTime: "gives another plan each time",
    HidesAParameter: "read from JSON",
    SaysNone: "says None",
    SaysTooMuch: "one sentence",
    WritesNoPython: "snippet is no Python",
}


@pytest.fixture
def run():
    return contract.run_of(explosions.mlp(), *explosions.table(rows=16))


@pytest.fixture
def plan():
    return Plan().with_change(OptimizerSettings({"momentum": 0.5}))


def test_unbroken_strategy_passes(run, plan):
    contract.check_strategy(Lower(), contract.diagnosis(Cause.LEARNING_RATE), run, plan)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_broken_strategy_is_caught(broken, run, plan):
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        contract.check_strategy(broken(), contract.diagnosis(Cause.LEARNING_RATE), run, plan)
