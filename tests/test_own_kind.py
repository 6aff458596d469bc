"""A kind of change that somebody else's package adds: the one that the guide to writing a strategy shows."""

import re
from importlib import import_module
from pathlib import Path

import explosions
import keras
import numpy as np
import pytest
import watching

import nanfix
from nanfix import Cause, Outcome
from nanfix.changes.plan import Plan
from nanfix.patch.locate import source_changes
from nanfix.remedies import registry
from nanfix.source.creation_sites import Places
from nanfix.source.fit_call import FitCall
from nanfix.testing import contract

GUIDE = Path(__file__).parents[1] / "docs" / "writing-a-strategy.md"
NAME = "freeze-normalization"
PACKAGE = {
    "METADATA": "Metadata-Version: 2.1\nName: freezing\nVersion: 1.0\n",
    "entry_points.txt": f"[{registry.GROUP}]\n{NAME} = freezing:FreezeNormalization\n",
}
SCRIPT = """
import keras
from keras import layers

model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(momentum=0.9), layers.Dense(1)])
model.compile("sgd", "mse")
"""


@pytest.fixture(scope="module")
def freezing(tmp_path_factory):
    """The module that the guide shows, installed."""
    (source,) = [code for code in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL) if "(Change)" in code]
    folder = tmp_path_factory.mktemp("installed")
    (folder / "freezing.py").write_text(source)
    (folder / "freezing-1.0.dist-info").mkdir()
    for name, text in PACKAGE.items():
        (folder / "freezing-1.0.dist-info" / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        registry._installed.cache_clear()
        yield import_module("freezing")
    registry._installed.cache_clear()


def test_its_strategy_keeps_the_contract(freezing):
    run = contract.run_of(*explosions.constant_feature_without_epsilon()[:3])
    contract.check_strategy(freezing.FreezeNormalization(), contract.diagnosis(Cause.BATCH_STATISTICS), run)


def test_it_repairs_a_training_and_stays_with_the_model(freezing):
    report, *_ = contract.check_repair(NAME, explosions.constant_feature_without_epsilon)
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


def test_its_place_in_the_source_is_the_call_that_makes_the_layer(freezing, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    watching.put_back(monkeypatch)
    places, names = Places(), {}
    places.install(keras)
    Path("train.py").write_text(SCRIPT)
    exec(compile(SCRIPT, "train.py", "exec"), names)
    x, y = explosions.table(rows=16)
    run = contract.run_of(names["model"], x, y)
    plan = Plan().with_change(freezing.Frozen(("batch_normalization[0]",)))
    (change,) = source_changes(run, [plan], FitCall.of(places, run.model, None, {"x": x, "y": y}))
    assert (change.target.callee, change.name, change.value) == ("BatchNormalization", "trainable", "False")
    assert change.edits == [0]
