"""Repair a saved model, given with its data as files, and prove the fix on the model
loaded afresh.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from nanfix.api.diagnose import FINITE, train_and_explain
from nanfix.api.fit import fit
from nanfix.api.plan import train_and_plan
from nanfix.cli._loading import load_data, load_model
from nanfix.model.snapshot import nonfinite_variables
from nanfix.records.atomic import check_writable
from nanfix.records.budget import Budget
from nanfix.records.errors import ExitCode, InputError
from nanfix.remedies.registry import check_choice
from nanfix.report.export import fix_paths, save_model, write_fix
from nanfix.report.fix_file import FixFile, diagnosis_record, run_record
from nanfix.report.report import Outcome, Report
from nanfix.scripts.parent import NOTHING
from nanfix.scripts.results import CallResult, Proof, ScriptResult
from nanfix.search.workers.pool import ALONE, Workers


@dataclass(frozen=True)
class SavedModel:
    """A compiled model in a file, and its training: the data file, the column of a .csv to predict,
    `model.fit`'s arguments.

    `trusted` lets Python code in the model file be loaded; `seed` is that of the
    training and of the search.
    """

    model: Path
    data: Path
    target: str | None = None
    epochs: int = 1
    batch_size: int = 32
    trusted: bool = False
    seed: int = 0
    verbose: int = 2

    def loaded(self) -> tuple[keras.Model, dict[str, Any]]:
        """Return the model, and the arguments to fit it with; seeded. Raises InputError
        for what cannot be loaded.
        """
        data = load_data(self.data, self.target)
        arguments = {"epochs": self.epochs, "batch_size": self.batch_size, "verbose": self.verbose}
        model = load_model(self.model, trusted=self.trusted)
        keras.utils.set_random_seed(self.seed)
        return model, {**data, **arguments}


def repair_saved(  # long: a third of it explains the arguments
    saved: SavedModel,
    *,
    out: Path,
    model_out: Path,
    budget: Mapping[str, Any] = NOTHING,
    strategies: Sequence[str] | None = None,
    forbid: Sequence[str] = (),
    repair_divergence: bool = False,
    run_dir: Path | None = None,
    workers: Workers = ALONE,
) -> ScriptResult:
    """Train the saved model; if it has to be repaired, prove the fix on a fresh copy,
    and write fix and repaired model.

    Args:
        out: the fix.json to write; also written into `run_dir`.
        model_out: the .keras file that the repaired model goes to.
        budget: arguments of `nanfix.Budget`.
        run_dir: folder for the search, in "call-0" as for the first fit call of a script.
        workers: the processes that try fixes at the same time.

    Raises:
        InputError: model or data cannot be used, `model_out` is no .keras, or `forbid`
            leaves no strategy.
        UnknownStrategyError: a strategy is not installed.
        NanfixError: something cannot be written, or `run_dir` belongs to another run.
    """
    check_choice(strategies, forbid)
    if model_out.suffix != ".keras":
        raise InputError(
            "Keras saves models to .keras files. Expected: a path that ends in .keras. Received: "
            f"{str(model_out)!r}. Rename it."
        )
    check_writable(model_out)
    targets = fix_paths(out, run_dir)
    model, arguments = saved.loaded()
    options = {
        "budget": Budget(**budget),
        "strategies": strategies,
        "forbid": forbid,
        "repair_divergence": repair_divergence,
        "run_dir": run_dir and run_dir / "call-0",
    }
    report = fit(model, seed=saved.seed, throw=False, workers=workers, **options, **arguments)
    if not report.outcome.has_fix:
        return ScriptResult(
            ExitCode.INTERRUPTED if report.outcome is Outcome.INTERRUPTED else 0, (_call(report),)
        )
    fresh, arguments = saved.loaded()
    again = fit(fresh, seed=saved.seed, throw=False, fix=report.fix, **arguments)
    held = again.outcome is Outcome.REPAIRED and not nonfinite_variables(again.model)
    call = _call(report, "works" if held else "fails", again)
    if not held:
        return ScriptResult(0, (call,))
    write_fix(FixFile(runs=[call.record] if call.record else []), targets)
    save_model(model, model_out)
    return ScriptResult(0, (call,), written=out, model=model_out)


def diagnose_saved(saved: SavedModel) -> ScriptResult:
    """Train the saved model until it goes non-finite, and say why; nothing is written.

    Raises:
        InputError: model or data cannot be used.
    """
    model, arguments = saved.loaded()
    _, diagnosis = train_and_explain(model, **arguments)
    text = FINITE if diagnosis is None else str(diagnosis)
    found = None if diagnosis is None else diagnosis_record(diagnosis)
    return ScriptResult(0, (CallResult(0, model.name, text, diagnosis=found),))


def plan_saved(
    saved: SavedModel,
    *,
    budget: Mapping[str, Any] = NOTHING,
    strategies: Sequence[str] | None = None,
    forbid: Sequence[str] = (),
    repair_divergence: bool = False,
) -> ScriptResult:
    """Train the saved model until it fails, and list what `repair_saved` would try, in
    order; nothing is written.

    Raises:
        InputError, UnknownStrategyError: as in `repair_saved`.
    """
    check_choice(strategies, forbid)
    model, arguments = saved.loaded()
    _, plan = train_and_plan(
        model,
        budget=Budget(**budget),
        strategies=strategies,
        forbid=forbid,
        repair_divergence=repair_divergence,
        **arguments,
    )
    found = None if plan.diagnosis is None else diagnosis_record(plan.diagnosis)
    candidates = [[edit.as_json() for edit in fix.edits] for fix in plan.fixes]
    return ScriptResult(
        0, (CallResult(0, model.name, str(plan), diagnosis=found, candidates=candidates),)
    )


def _call(
    report: Report, proof: Proof | None = None, proved_by: Report | None = None
) -> CallResult:
    record = run_record(report).model_copy(update={"proof": proof})
    last = {
        name: repr(values[-1]) for name, values in (proved_by or report).history.items() if values
    }
    finite = not nonfinite_variables(report.model)
    return CallResult(
        0, report.model.name, str(report), report.outcome, finite, last, record, proof=proof
    )
