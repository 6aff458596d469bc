"""Scripts as users write them, each failing for another cause: repaired, proved,
patched, and run plainly after that.
"""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nanfix.patch.patch import apply_patch, patch_of
from nanfix.records.cause import Cause
from nanfix.report.fix_file import load
from nanfix.report.report import Outcome
from nanfix.scripts.parent import repair_script

HERE = Path(__file__).parent
# What the scripts are written to fail for; the diagnosis has to name it.
CAUSES = {
    "house_prices": Cause.UNSCALED_INPUT,
    "command_line": Cause.LEARNING_RATE,
    "cross_entropy": Cause.LOGITS_BY_HAND,
    "distance": Cause.GRADIENT_SINGULARITY,
    "classes": Cause.INVALID_LABEL,
    "sensors": Cause.NONFINITE_INPUT,
    "attention": Cause.LAYER_DOMAIN,
    "mileage": Cause.RUINED_STATISTICS,
    "turnover": Cause.UNSCALED_TARGET,
    "growth": Cause.UNSTABLE_ACTIVATION,
    "careless": Cause.BAD_INITIALIZATION,
    "pipeline": Cause.OPTIMIZER_CONSTANT,
    "relative_error": Cause.LOSS_DOMAIN,
}
# The others take minutes: `make scripts` and `make soak` run all of them.
EVERY_TIME = ("cross_entropy",)
ALL = os.environ.get("NANFIX_ALL_SCRIPTS") or os.environ.get("NANFIX_SOAK")
SCRIPTS = tuple(CAUSES) if ALL else EVERY_TIME
LEARNED = 0.8  # times the loss of the first epoch


@pytest.fixture(scope="module")
def repaired(tmp_path_factory):
    """Repair and patch every script, then run the patched ones; return what came of
    each, by name.
    """
    folder, found = tmp_path_factory.mktemp("scripts"), {}
    before = Path.cwd()
    for name in SCRIPTS:
        home = folder / name
        home.mkdir()
        shutil.copy(HERE / "user_scripts" / f"{name}.py", home)
        os.chdir(home)
        try:
            result = repair_script(Path(f"{name}.py"), out=Path("fix.json"), seed=0, budget={})
            patch = patch_of(load(Path("fix.json")), Path()) if result.written else None
            copies = apply_patch(patch, Path()) if patch else {}
        finally:
            os.chdir(before)
        found[name] = SimpleNamespace(home=home, result=result, patch=patch, copies=copies)
    scripts = [str(each.home / f"{name}.py") for name, each in found.items()]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(HERE / "plainly.py"), str(folder / "losses.json"), *scripts]
    subprocess.run(command, check=True, env=environment, timeout=600)
    for name, losses in json.loads((folder / "losses.json").read_text()).items():
        found[name].losses = losses
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_repaired_and_the_fix_proved(repaired, name):
    result = repaired[name].result
    failed = [call for call in result.calls if call.outcome is not Outcome.HEALTHY]
    assert [(call.outcome, call.proof) for call in failed] == [(Outcome.REPAIRED, "works")]
    assert CAUSES[name].name in [finding.cause for finding in failed[0].record.diagnosis.findings]


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_patch_alone_makes_the_plain_script_train_and_learn(repaired, name):
    seen = repaired[name]
    assert not isinstance(seen.losses, str), seen.losses
    assert seen.patch.left_over == () and [copy.name for copy in seen.copies.values()] == [
        f"{name}.py.orig"
    ]
    for losses in seen.losses:
        assert all(map(math.isfinite, losses)) and losses[-1] < LEARNED * losses[0], losses
