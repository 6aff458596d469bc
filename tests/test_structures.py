"""All that can be changed at once, in models of every structure: trained, handed back, saved, and
loaded without nanfix.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
import structures
import tensorflow as tf

import nanfix
from nanfix import Outcome
from nanfix.changes.insertion import can_rebuild
from nanfix.changes.plan import Plan
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Phase, Place
from nanfix.remedies.fix import Edit, Fix
from nanfix.remedies.registry import catalogue
from nanfix.remedies.strategy import Tier
from nanfix.search.candidates import Family, in_order
from nanfix.testing import contract

LEVELS = {"mild": 0, "strong": -1}
FILLING = {"impute-codes", "impute-nonfinite"}
BOTH = (structures.sequential, structures.multi_input, structures.image)
CASES = [
    (build, level)
    for build in structures.STRUCTURES
    for level in LEVELS
    if level == "strong" or build in BOTH
]
NAMES = [f"{build.__name__}-{level}" for build, level in CASES]
LOAD = """
import json, sys
sys.modules["nanfix"] = None  # as if it were not installed
import keras, numpy as np, tensorflow as tf, structures
tf.config.optimizer.set_experimental_options(json.loads(sys.argv[1]))  # graphs as in the tests
for path in sys.argv[2:]:
    model = keras.models.load_model(path, compile=False)
    builder = getattr(structures, path.rsplit("/", 1)[1].partition("-")[0])
    x = builder()[1]
    expected = np.load(path.replace(".keras", ".npz"))
    outputs = keras.tree.flatten(model.predict(x, verbose=0))
    assert len(outputs) == len(expected), path
    for output, name in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(output, expected[name], err_msg=path)
"""


def everything(run, level):
    """Return the fix of all strategies that apply to a run, one on top of the other,
    each at this level.
    """
    place = Place(Phase.UPDATE)
    families = tuple(Family(name, int(strategy.tier), 1) for name, strategy in catalogue().items())
    fix, plan = Fix(), Plan()
    for name, _ in in_order(tuple((name, 0) for name in catalogue()), families):
        strategy = catalogue()[name]
        if strategy.tier is Tier.ARCHITECTURE and isinstance(run.model, structures.Subclass):
            continue  # loaded, the class makes its layers anew
        causes = sorted(strategy.treats | strategy.eases, key=lambda cause: cause.name)
        diagnosis = contract.diagnosis(*causes, place=place, batch_rows=1)
        if contract.applies(strategy, diagnosis, run, plan):
            edit = Edit(name, contract.levels(strategy, diagnosis, run, plan)[level])
            plan, fix = Fix((edit,)).plan(run, plan), Fix((*fix.edits, edit))
    return fix


@cache
def repaired(build, level):
    model, x, y = build()
    model.optimizer.build(model.trainable_variables)
    fix = everything(contract.run_of(model, x, y), LEVELS[level])
    report = nanfix.apply(model, fix, x, y, epochs=2, batch_size=16, verbose=0)
    return report, x, y


@pytest.mark.parametrize(("build", "level"), CASES, ids=NAMES)
def test_the_users_own_object_is_the_repaired_model(build, level):
    report, x, y = repaired(build, level)
    changed = {edit.strategy for edit in report.fix.edits}
    assert report.outcome is Outcome.REPAIRED and len(changed) > 8, changed
    model = report.model
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    outputs = keras.tree.flatten(model.predict(x, verbose=0))
    for output, target in zip(outputs, keras.tree.flatten(y), strict=True):
        assert output.shape == target.shape and np.isfinite(output).all()
    losses = model.evaluate(x, y, verbose=0)
    assert np.isfinite(losses).all()
    # In front of a call of its own no layer can be put that fills holes.
    left = {"call"} if changed & FILLING and not can_rebuild(model) else set()
    assert {"call", "compute_loss"} & {*vars(model)} == left, "nothing of nanfix is left in it"


def test_saved_models_predict_the_same_without_nanfix(tmp_path):
    paths = []
    for (build, level), name in zip(CASES, NAMES, strict=True):
        report, x, _ = repaired(build, level)
        paths.append(str(tmp_path / f"{name}.keras"))
        report.model.save(paths[-1])
        np.savez(tmp_path / f"{name}.npz", *keras.tree.flatten(report.model.predict(x, verbose=0)))
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    graphs = json.dumps(tf.config.optimizer.get_experimental_options())
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, graphs, *paths],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr[-2000:]


def test_the_fix_read_again_is_the_same():
    report, *_ = repaired(structures.image, "strong")
    again = Fix.from_json(json.loads(json.dumps([edit.as_json() for edit in report.fix.edits])))
    assert again == report.fix


def test_a_class_is_told_what_its_own_code_has_to_say():
    model, x, y = structures.subclass()
    run = contract.run_of(model, x, y)
    strategy = catalogue()["swap-activation"]
    params = contract.levels(strategy, contract.diagnosis(Cause.UNSTABLE_ACTIVATION), run)[0]
    report = nanfix.apply(model, Fix((Edit(strategy.name, params),)), x, y, verbose=0)
    assert report.notes == (
        "A saved model is made anew by its own code when it is loaded: change dense[0] there, too.",
    )
