"""A kind of change that somebody else's package adds: the one that the guide to writing a strategy shows."""

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import explosions
import keras
import numpy as np
import pytest

import nanfix
from nanfix import Cause, Outcome, registry, testing

GUIDE = Path(__file__).parents[1] / "docs" / "writing-a-strategy.md"
NAME = "freeze-normalization"


@dataclass(frozen=True)
class Entry:
    """An entry point of the guide's module."""

    module: object
    name: str = NAME
    value: str = "freezing:FreezeNormalization"

    def load(self):
        return self.module.FreezeNormalization


@pytest.fixture
def freezing(tmp_path, monkeypatch):
    """The module that the guide shows, installed beside nanfix' own."""
    (source,) = [code for code in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL) if "(Change)" in code]
    path = tmp_path / "freezing.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("freezing", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "freezing", module)
    spec.loader.exec_module(module)
    installed = registry.entry_points(group=registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [*installed, Entry(module)])
    registry._installed.cache_clear()
    yield module
    registry._installed.cache_clear()


def test_its_strategy_keeps_the_contract(freezing):
    run = testing.run_of(*explosions.constant_feature_without_epsilon()[:3])
    testing.check_strategy(freezing.FreezeNormalization(), testing.diagnosis(Cause.BATCH_STATISTICS), run)


def test_it_repairs_a_training_and_stays_with_the_model(freezing):
    report, *_ = testing.check_repair(NAME, explosions.constant_feature_without_epsilon)
    frozen, *others = report.model.layers
    assert not frozen.trainable and all(layer.trainable for layer in others)
    np.testing.assert_array_equal(frozen.moving_variance, 1.0)
    fresh, x, y, arguments = explosions.constant_feature_without_epsilon()
    assert nanfix.apply(fresh, report.fix, x, y, **arguments).outcome is Outcome.REPAIRED
    assert not fresh.layers[0].trainable


def test_what_does_not_hold_is_taken_back(freezing):
    model, x, y, arguments = explosions.constant_feature_without_epsilon()
    model.compile(keras.optimizers.SGD(1e30), "mse")
    report = nanfix.fit(model, x, y, strategies=[NAME], throw=False, **arguments)
    assert report.outcome is Outcome.EXHAUSTED and [trial.verdict for trial in report.trials] == ["non-finite"]
    assert all(layer.trainable for layer in model.layers)
