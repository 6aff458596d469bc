"""What nanfix relies on in every strategy, built-in or installed: run it over yours.

from nanfix.testing import contract, repairs

def test_my_strategy():
    run = contract.run_of(model, x, y)  # a compiled model and data that the strategy is for
    contract.check_strategy(MyStrategy(), contract.diagnosis(Cause.LEARNING_RATE), run)

def test_my_strategy_repairs():
    # build() returns model, x, y, arguments of a training that dies;
    # expert(*build()) repairs it by hand, and says how well
    repairs.check_repair("my-strategy", build, expert)
"""

import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import keras_tuner
import numpy as np

from nanfix.changes.plan import Plan
from nanfix.data.training_data import TrainingData
from nanfix.explain.description import describe
from nanfix.model.run import base_optimizer
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis, Finding, Onset
from nanfix.remedies.fix import Edit
from nanfix.remedies.registry import GROUP, catalogue
from nanfix.remedies.strategy import Tier
from nanfix.search.space import build_space

NOTHING = Plan()


def diagnosis(*causes, **facts):
    """Return the diagnosis of these causes, each certain; `facts` are other fields of
    `Diagnosis`.
    """
    known = {"learning_rate": 0.1, "gradient_norm": 5.0, "weight_norm": 2.0}
    return Diagnosis(
        Onset(1, 1),
        tuple(Finding(cause, 1.0, "as the test says") for cause in causes),
        **{**known, **facts},
    )


def run_of(model, x, y):
    """Return the run that nanfix.fit makes of a compiled model and its data."""
    return describe(model, TrainingData.of(x, y, {}), [])[0]


def applies(strategy, diagnosis, run, plan=NOTHING):
    """Say whether the search would try the strategy: it answers a cause of the
    diagnosis, and does not refuse.
    """
    return strategy.answers(diagnosis) and strategy.refusal(diagnosis, run, plan) is None


def levels(strategy, diagnosis, run, plan=NOTHING):
    """Return what the strategy's `space` gives at each of its levels, mild to strong."""
    name, found = strategy.name, []
    space = build_space({name: strategy}, diagnosis, run, plan)
    for values in space.levels[name]:
        hp: keras_tuner.HyperParameters = space.hyperparameters.copy()
        hp.values = {name: True, **values}
        with hp.conditional_scope(name, [True]), hp.name_scope(name):
            found.append(strategy.space(hp, diagnosis, run, plan))
    return found


def check_strategy(strategy, diagnosis, run, plan=NOTHING):
    """Run every check; an AssertionError says which rule is broken and how.

    Args:
        strategy: an instance of the strategy, installed in the entry-point group.
        diagnosis: one that the strategy treats.
        run: one that it can be applied to.
        plan: what is changed about it already; nothing as a rule.
    """
    for check in CHECKS:
        check(strategy, diagnosis, run, plan)


def check_class_attributes(strategy, diagnosis, run, plan):
    """The name is what a fix.json says, tier and causes are what the search goes by."""
    words = r"[a-z]+(-[a-z]+)*"
    assert re.fullmatch(words, strategy.name), (
        f"name is lower-case words joined by hyphens, not {strategy.name!r}"
    )
    assert isinstance(strategy.tier, Tier), (
        f"{strategy.name}: tier is a nanfix.Tier, not {strategy.tier!r}"
    )
    for name in ("treats", "eases"):
        causes = getattr(strategy, name)
        known = isinstance(causes, frozenset) and all(isinstance(cause, Cause) for cause in causes)
        assert known, f"{strategy.name}: {name} is a frozenset of nanfix.Cause, not {causes!r}"
    assert strategy.treats | strategy.eases, (
        f"{strategy.name}: treats or eases names at least one nanfix.Cause"
    )
    assert not strategy.treats & strategy.eases, (
        f"{strategy.name}: a cause that it treats is not one that it eases"
    )


def check_docstring(strategy, diagnosis, run, plan):
    """The docstring opens with the effect and says when it does not help and where it
    comes from.
    """
    text = type(strategy).__doc__ or ""
    assert strategy.summary.endswith("."), (
        f"{strategy.name}: the docstring's first paragraph is a sentence ending with a period, not "
        f"{strategy.summary!r}"
    )
    assert "does not help" in " ".join(text.lower().split()), (
        f"{strategy.name}: the docstring says when it does not help"
    )
    assert "Reference:" in text, (
        f"{strategy.name}: the docstring names its source after 'Reference:'"
    )


def check_installed(strategy, diagnosis, run, plan):
    """A fix names its strategies, so each has to be found by name."""
    assert strategy.name in catalogue(), (
        f"{strategy.name} is not installed: declare it as entry point in the group {GROUP!r}"
    )


def check_refusal(strategy, diagnosis, run, plan):
    """It answers its own causes alone, gives no reason against itself where it can be
    applied, and changes nothing.
    """
    before = _state(run, plan)
    assert strategy.answers(diagnosis), (
        f"{strategy.name}: none of the diagnosis' causes is in `treats` or `eases`"
    )
    reason = strategy.refusal(diagnosis, run, plan)
    assert reason is None, (
        f"{strategy.name}: refusal gives {reason!r} for the given diagnosis and run, not None"
    )
    foreign = tuple(
        Finding(cause, 1.0, "foreign")
        for cause in Cause
        if cause not in strategy.treats | strategy.eases
    )
    assert not strategy.answers(replace(diagnosis, findings=foreign)), (
        f"{strategy.name}: answers a cause that it does not name"
    )
    _assert_same(before, _state(run, plan), f"{strategy.name}: refusal changes")


def check_space(strategy, diagnosis, run, plan):
    """Every level's parameters are plain JSON and say what was drawn; drawing them
    changes nothing.
    """
    before = _state(run, plan)
    for params in levels(strategy, diagnosis, run, plan):
        try:
            again = json.loads(json.dumps(params, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise AssertionError(
                f"{strategy.name}: space returns what JSON cannot hold ({error}): {params!r}"
            ) from error
        assert again == params and type(params) is dict, (
            f"{strategy.name}: JSON makes {again!r} of {params!r}"
        )
    _assert_same(before, _state(run, plan), f"{strategy.name}: space changes")


def check_apply(strategy, diagnosis, run, plan):
    """`apply` is a pure function: the same changed plan each time, the given one and
    the model as they were.
    """
    for params in levels(strategy, diagnosis, run, plan):
        before = _state(run, plan)
        changed = strategy.apply(run, plan, **params)
        _assert_same(before, _state(run, plan), f"{strategy.name}: apply changes what it is given:")
        assert isinstance(changed, Plan), (
            f"{strategy.name}: apply returns a Plan, not {type(changed).__name__}"
        )
        assert content(changed) != content(plan), (
            f"{strategy.name}: apply with {params!r} changes nothing"
        )
        again = strategy.apply(run, plan, **params)
        assert content(again) == content(changed), (
            f"{strategy.name}: apply with {params!r} gives another plan each time"
        )


def check_edit(strategy, diagnosis, run, plan):
    """A written edit, read again, is the same edit and makes the same plan."""
    for params in levels(strategy, diagnosis, run, plan):
        edit = Edit(strategy.name, params)
        again = Edit.from_json(json.loads(json.dumps(edit.as_json())))
        assert again == edit, f"{strategy.name}: read from JSON, {edit!r} is {again!r}"
        same = content(strategy.apply(run, plan, **again.params)) == content(
            strategy.apply(run, plan, **params)
        )
        assert same, f"{strategy.name}: read from JSON, {edit!r} makes another plan"


def check_words(strategy, diagnosis, run, plan):
    """`explain` is one sentence for a user, `snippet` is Python."""
    for params in levels(strategy, diagnosis, run, plan):
        sentence, written = strategy.explain(params), strategy.snippet(params)
        one = sentence.endswith(".") and ". " not in sentence and "\n" not in sentence
        assert one, (
            f"{strategy.name}: explain is one sentence ending with a period, not {sentence!r}"
        )
        assert "None" not in sentence, f"{strategy.name}: explain says None: {sentence!r}"
        try:
            compile(written, "snippet", "exec")
        except SyntaxError as error:
            raise AssertionError(
                f"{strategy.name}: snippet is no Python ({error}): {written!r}"
            ) from error


CHECKS = (
    check_class_attributes,
    check_docstring,
    check_installed,
    check_refusal,
    check_space,
    check_apply,
    check_edit,
    check_words,
)


def content(value):
    """Return what a record holds, for comparison: arrays by their bytes, everything
    else by its value.
    """
    if is_dataclass(value):
        return type(value).__name__, _fields(value)
    if isinstance(value, Mapping):
        return {key: content(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value).__name__, [content(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return value


def _fields(record) -> dict[str, Any]:
    """Return by name what the fields of a record hold, for comparison."""
    return {field.name: content(getattr(record, field.name)) for field in fields(record)}


def _state(run, plan):
    """Return by name all that a strategy must leave alone: run and plan, the model's
    variables, and its attributes.
    """
    model, optimizer = run.model, base_optimizer(run.model)
    state = {f"run.{name}": fact for name, fact in _fields(run).items()}
    state |= {f"plan.{kind}": content(change) for kind, change in plan.changes.items()}
    state |= {
        f"variable {v.path}": np.asarray(v).tobytes()
        for v in (*model.variables, *optimizer.variables)
    }
    owners = {"model": model, "optimizer": optimizer}
    owners |= {f"layer {address}": layer for address, layer in run.members.items()}
    return state | {
        f"{owner}.{name}": _Object(value)
        for owner, it in owners.items()
        for name, value in vars(it).items()
    }


class _Object:
    """An attribute's value, equal to itself alone: what it holds is the model's business."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, _Object) and self.value is other.value


def _assert_same(before, after, what):
    changed = sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )
    assert not changed, f"{what} {', '.join(changed)}"
