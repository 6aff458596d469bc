"""Scripts as users write them, each failing for another cause: repaired, proved,
patched, and run without nanfix after that.
"""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from nanfix.patch.patch import apply_patch
from nanfix.records.cause import Cause
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
BUDGET = {} if ALL else {"trials": 8}


@pytest.fixture(scope="module")
def repaired(tmp_path_factory):
    """Repair and patch every script; return what came of each, by name."""
    folder, found = tmp_path_factory.mktemp("scripts"), {}
    before = Path.cwd()
    for name in SCRIPTS:
        home = folder / name
        home.mkdir()
        shutil.copy(HERE / "user_scripts" / f"{name}.py", home)
        os.chdir(home)
        try:
            result = repair_script(Path(f"{name}.py"), out=Path("fix.json"), seed=0, budget=BUDGET)
            copies = apply_patch(result.patch, Path()) if result.patch else {}
        finally:
            os.chdir(before)
        found[name] = SimpleNamespace(result=result, copies=copies)
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_repaired_and_the_fix_proved(repaired, name):
    result = repaired[name].result
    failed = [call for call in result.calls if call.outcome is not Outcome.HEALTHY]
    assert [(call.outcome, call.proof) for call in failed] == [(Outcome.REPAIRED, "works")]
    assert CAUSES[name].name in [finding.cause for finding in failed[0].record.diagnosis.findings]


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_patch_alone_makes_the_plain_script_train_and_learn(repaired, name):
    result, copies = repaired[name].result, repaired[name].copies
    assert result.patch_run.verdict == "works" and result.code == 0, result.patch_run.text
    assert result.patch.left_over == ()
    assert [copy.name for copy in copies.values()] == [f"{name}.py.orig"]
