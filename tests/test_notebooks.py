"""Notebooks as users write them, each failing for another cause: repaired, proved, and patched."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from notebooks import sources

from nanfix.records.cause import Cause
from nanfix.records.notebook_paths import cell_of
from nanfix.report.report import Outcome
from nanfix.scripts.parent import repair_script

HERE = Path(__file__).parent / "user_notebooks"
# What the notebooks are written to fail for; the diagnosis has to name it.
CAUSES = {
    "prices": Cause.UNSCALED_INPUT,
    "clicks": Cause.LOGITS_BY_HAND,
    "weather": Cause.NONFINITE_INPUT,
    "waves": Cause.LEARNING_RATE,
}
IMPORTS = 1  # the cell behind which constants and definitions go
# `make scripts` and `make soak` run all of them.
ALL = os.environ.get("NANFIX_ALL_SCRIPTS") or os.environ.get("NANFIX_SOAK")
NOTEBOOKS = tuple(CAUSES) if ALL else ("waves",)
STRATEGIES = None if ALL else ("swap-optimizer",)  # a short search


@pytest.fixture(scope="module", params=NOTEBOOKS)
def repaired(request, tmp_path_factory):
    """Repair a notebook; return what came of it, and the notebook before and after."""
    home, name, before = tmp_path_factory.mktemp("notebooks"), request.param, Path.cwd()
    path = Path(shutil.copy(HERE / f"{name}.ipynb", home))
    os.chdir(home)
    try:
        save = Path("patched.ipynb")
        result = repair_script(
            Path(path.name), out=Path("fix.json"), save=save, seed=0, strategies=STRATEGIES
        )
        after = save.read_bytes()
    finally:
        os.chdir(before)
    return SimpleNamespace(name=name, result=result, path=path, after=after)


def test_a_notebook_is_repaired_and_the_fix_proved(repaired):
    (call,) = repaired.result.calls
    assert (call.outcome, call.proof) == (Outcome.REPAIRED, "works")
    assert CAUSES[repaired.name].name in [each.cause for each in call.record.diagnosis.findings]


def test_the_patched_notebook_trains_as_well_without_nanfix(repaired):
    result = repaired.result
    assert result.patch_run.verdict == "works" and result.code == 0, result.patch_run.text
    assert result.patch.left_over == () and result.notebook == Path("patched.ipynb")


def test_only_the_cells_that_have_to_change_do(repaired):
    original = (HERE / f"{repaired.name}.ipynb").read_bytes()
    assert repaired.path.read_bytes() == original
    pairs = zip(sources(original), sources(repaired.after), strict=True)
    changed = {number for number, (old, new) in enumerate(pairs, 1) if old != new}
    placed = repaired.result.patch.placed
    places = {cell_of(each.change.where.rpartition(":")[0]) for each in placed}
    assert places <= changed <= places | {IMPORTS}
