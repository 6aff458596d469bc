"""The example package: installed by pip, found by entry point, searched, replayed and
patched like what is built in.
"""

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import explosions
import keras
import pytest
import watching

import nanfix
from nanfix import Outcome
from nanfix.changes.plan import Plan
from nanfix.patch.locate import source_changes
from nanfix.remedies import registry
from nanfix.source.creation_sites import Places
from nanfix.source.fit_call import FitCall
from nanfix.testing import contract

ROOT = Path(__file__).parents[1]
NAME, MODULE = "freeze-normalization", "nanfix_freeze_normalization"
LIST = f"import {MODULE}; print({MODULE}.__file__); from nanfix.cli.app import main; main()"
# nanfix.fit, fix.json, nanfix.apply.
REPAIR = "test_repairs_a_training_and_the_fix_repairs_a_fresh_model"
SCRIPT = """
import keras
from keras import layers

model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(momentum=0.9), layers.Dense(1)])
model.compile("sgd", "mse")
"""  # noqa: E501


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A copy of the package, since building leaves files in its folder, and the folder
    that it is installed into.
    """
    source, installed = (
        tmp_path_factory.mktemp("example") / "custom_strategy",
        tmp_path_factory.mktemp("installed"),
    )
    leftovers = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".*")
    shutil.copytree(ROOT / "examples" / "custom_strategy", source, ignore=leftovers)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*pip, "--target", str(installed), str(source)], check=True)
    return source, installed


@pytest.fixture(scope="module")
def freezing(example):
    """The module of the example, installed for this process too."""
    _, installed = example
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(installed)
        registry._installed.cache_clear()
        yield import_module(MODULE)
    registry._installed.cache_clear()


def run(cwd, path, *arguments):
    """Run Python in the folder `cwd` with `path` to import from; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_is_found_by_its_entry_point(example, tmp_path):
    _, installed = example
    module, *listed = run(tmp_path, [installed], "-c", LIST, "strategies").splitlines()
    assert Path(module).parent == installed
    assert any(line.startswith(f"{NAME}\t5 architecture\tbatch statistics\t") for line in listed), (
        listed
    )


def test_its_own_tests_pass_where_it_is_installed(example):
    source, installed = example
    (source / f"{MODULE}.py").unlink()  # to be imported from where it was installed
    told = run(source, [installed], "-m", "pytest", "-v")
    assert f"{REPAIR} PASSED" in told and "skipped" not in told, told


def test_the_guide_shows_the_file_itself():
    shown = (ROOT / "examples" / "custom_strategy" / f"{MODULE}.py").read_text()
    assert shown in (ROOT / "docs" / "writing-a-strategy.md").read_text()


def test_a_change_of_its_kind_is_taken_back_when_it_does_not_help(freezing):
    model, x, y, arguments = explosions.constant_feature_without_epsilon()
    model.compile(keras.optimizers.SGD(1e30), "mse")
    report = nanfix.fit(model, x, y, strategies=[NAME], throw=False, **arguments)
    assert report.outcome is Outcome.EXHAUSTED and [trial.verdict for trial in report.trials] == [
        "non-finite"
    ]
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
    assert (change.target.callee, change.name, change.value) == (
        "BatchNormalization",
        "trainable",
        "False",
    )
    assert change.edits == [0]
