"""nanfix.fit: watch, diagnose, search, adopt, finish."""

import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nanfix.api.preconditions import check_arguments, check_memory, check_model, check_state
from nanfix.changes.guards import Guards
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.data.row_filter import filtered, unknown_length
from nanfix.data.streams import first_batches
from nanfix.data.training_data import TrainingData
from nanfix.explain.description import describe
from nanfix.explain.incident import NOTHING_KEPT, Incident, rolled_back, say, unrepaired
from nanfix.install.workbench import Workbench
from nanfix.model.faults import Net
from nanfix.model.randomness import preserved_randomness
from nanfix.model.snapshot import nonfinite_variables, restore, take
from nanfix.recorder.callbacks import logged, user_callbacks
from nanfix.recorder.snapshot_files import SnapshotStore
from nanfix.recorder.watch import Watched, Watching, watch
from nanfix.records.atomic import write_text
from nanfix.records.budget import Budget
from nanfix.records.errors import (
    CannotHandBack,
    FixFormatError,
    InputError,
    NanfixError,
    NothingLeftError,
    RunDirError,
    UnknownStrategyError,
    UnrepairedError,
)
from nanfix.remedies.fix import Fix
from nanfix.remedies.registry import broken, select
from nanfix.remedies.strategy import Strategy
from nanfix.report.export import FIX, MODEL, read_fix, save_model, to_json
from nanfix.report.report import Outcome, Report
from nanfix.report.run_dir import ADOPTED, SNAPSHOTS, fingerprint, opened
from nanfix.search.repair import Repair
from nanfix.search.validation_repair import ValidationIncident
from nanfix.search.workers.pool import ALONE, Workers

REFUSED = (
    InputError,
    NothingLeftError,
    RunDirError,
    UnknownStrategyError,
    FixFormatError,
    CannotHandBack,
)  # what is refused on purpose


def fit(
    model: Any,
    x: Any = None,
    y: Any = None,
    *,
    budget: Budget | None = None,
    strategies: Iterable[str] | None = None,
    forbid: Iterable[str] = (),
    seed: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    memory_bytes: int | None = None,
    workers: int | Workers = 1,
    throw: bool = True,
    fix: Fix | None = None,
    **fit_kwargs: Any,
) -> Report:
    """Train `model` as `model.fit(x, y, **fit_kwargs)` does, and repair the training if it turns non-finite.

    A run that stays finite comes out bit for bit as Keras would have made it. Otherwise the run is rolled back to a
    verified snapshot, its cause found by replaying the failing steps, fixes are searched from mild to strong, and the
    epochs completed with the smallest one that holds and learns. Where none does, the history and the callbacks get every
    epoch that Keras would have given, NaN from the failure on. What the user's own code raises passes unchanged; a fault of
    nanfix's own is a line of the report.

    Args:
        model: a compiled Keras model.
        x, y: the data, in any form that `model.fit` takes.
        budget: limits of the search; by default 30 trials.
        strategies: names of the strategies to search among; None for all installed.
        forbid: names of strategies that are not to be tried.
        seed: of the search alone; the random state of the run is the user's.
        run_dir: a folder to keep snapshots and the search in, so that the same call goes on where it was stopped; fix.json and
            model.keras are left there in the end.
        memory_bytes: what the flight recorder may hold of snapshots and batches; by default a tenth of the free memory.
            Snapshots that do not fit are kept on disk, and the report says so.
        workers: processes that try fixes at the same time, or `nanfix.Workers` to say where they meet; of use on a machine with
            cores to spare, for a model that can be saved, on arrays. Elsewhere one process searches, and the report says why.
        throw: raise UnrepairedError when no fix holds, and KeyboardInterrupt when interrupted; False to find the outcome in
            the report.
        fix: train with this fix from the start and search nothing.
        **fit_kwargs: everything else that `model.fit` takes.

    Returns:
        The report: outcome, model, history, diagnosis, fix.

    Raises:
        InputError: the model is not compiled or its weights are non-finite already, the data cannot be trained on, or an
            argument makes no sense; nothing was changed.
        UnknownStrategyError: `strategies`, `forbid` or `fix` names one that is not installed.
        RunDirError: `run_dir` belongs to another run or cannot be written.
        UnrepairedError: no fix held (with `throw`); the model is in its last good state.
    """
    begun, net = time.perf_counter(), Net()
    check_arguments(budget=budget, strategies=strategies, forbid=forbid, seed=seed, workers=workers, fix=fix)
    check_model(model)
    check_memory(memory_bytes)
    check_state(model)
    chosen = select(strategies, forbid)
    budget, seed, workers = budget or Budget(), seed or 0, workers if isinstance(workers, Workers) else Workers(workers)
    data = net.attempt("reading the data", lambda: TrainingData.of(x, y, fit_kwargs), None, REFUSED)
    identity = net.attempt("describing the run", lambda: data and fingerprint(model, data), None, REFUSED)
    if data is None or identity is None:
        report = _unwatched(model, x, y, fit_kwargs)
        report = replace(report, faults=tuple(net.faults), notes=net.notes(), seconds=time.perf_counter() - begun)
    else:
        net.data_failed = lambda: data.failed
        with opened(run_dir, {**identity, "strategies": sorted(chosen)}, data) as folder:
            store = SnapshotStore(folder / SNAPSHOTS)
            earlier = logged(user_callbacks(data)) if store.is_empty else {}
            watching = Watching(memory_bytes, store, durable=run_dir is not None, earlier=earlier, net=net)
            known = fix if fix is not None else _fix_found_before(folder)
            if known is not None:
                report = _train_with_known(known, model, data, replace(watching, durable=False), seed, folder)
            else:
                report = _watch_and_repair(model, data, watching, chosen, budget, seed, folder, workers)
            found = replace(report.fix, layers=identity["model"]) if report.fix else report.fix
            report = replace(report, fix=found, seed=seed, seconds=time.perf_counter() - begun, fingerprint=identity)
            if run_dir is not None and report.outcome is Outcome.REPAIRED:
                report = net.attempt("keeping the repaired model", partial(_kept, report, folder), report)
            notes = (*report.notes, *_left_out(report), *net.notes(folder if run_dir is not None else None))
            report = replace(report, faults=tuple(net.faults), notes=notes)
            if report.outcome is not Outcome.INTERRUPTED:
                store.clear()
                SnapshotStore(folder / ADOPTED).clear()
    if throw and report.outcome in (Outcome.UNREPAIRABLE, Outcome.EXHAUSTED):
        raise UnrepairedError(str(report), report)
    if throw and report.outcome is Outcome.INTERRUPTED:
        raise KeyboardInterrupt
    return report


def apply(model: Any, fix: Fix, x: Any = None, y: Any = None, **fit_kwargs: Any) -> Report:
    """Train a fresh model with a known fix and no search: `nanfix.fit(model, x, y, fix=fix, **fit_kwargs)`."""
    return fit(model, x, y, fix=fix, **fit_kwargs)


def _unwatched(model: Any, x: Any, y: Any, fit_kwargs: Mapping[str, Any]) -> Report:
    """Train as plain Keras does, since nanfix itself has failed before it could watch."""
    history = model.fit(x, y, **fit_kwargs)
    outcome = Outcome.EXHAUSTED if _is_ruined(model, history.history) else Outcome.HEALTHY
    return Report(outcome, model, history.history, history.epoch, dict(history.params or {}))


def _is_ruined(model: Any, history: Mapping[str, Sequence[float]]) -> bool:
    """Say whether a training that was not watched, or not to its end, has left NaN or inf in the loss or in the model."""
    losses = history.get("loss", ())
    return bool(nonfinite_variables(model)) or (bool(losses) and not math.isfinite(losses[-1]))


def _watch_and_repair(
    model: Any,
    data: TrainingData,
    watching: Watching,
    strategies: dict[str, Strategy],
    budget: Budget,
    seed: int,
    folder: Path,
    workers: Workers,
) -> Report:
    adopted = SnapshotStore(folder / ADOPTED)
    try:
        watched = watch(model, data, replace(watching, writes=adopted.is_empty))
    except KeyboardInterrupt:
        return _interrupted(model)
    if watched.incident is None:
        return _finished(model, data, watched, strategies, seed, watching.net)
    deadline = math.inf if budget.seconds is None else time.monotonic() + budget.seconds
    recording = watched.recorder.recording()
    say(data, f"nanfix: {watched.incident.what} became non-finite at {watched.incident.detected}; rolling back.")
    if not recording.snapshots:
        return unrepaired(model, data, watched, Outcome.EXHAUSTED, notes=(NOTHING_KEPT,))
    left = watched.recorder.memory_bytes - watched.recorder.nbytes
    incident_watching = replace(watching, memory_bytes=max(left, 1), store=adopted)
    diagnosis, outcome = None, Outcome.EXHAUSTED
    with rolled_back(recording):
        try:
            with preserved_randomness():
                run = Incident(model, data, watched, incident_watching, seed)
                diagnosis = run.diagnose(deadline)
            say(data, str(diagnosis))
            if not diagnosis.hopeless:
                return Repair(run, workers).report(diagnosis, strategies, budget, deadline, folder)
            outcome = Outcome.UNREPAIRABLE
        except KeyboardInterrupt:
            outcome = Outcome.INTERRUPTED
        except Exception as error:
            watching.net.caught("repairing the training", error)
        return unrepaired(model, data, watched, outcome, diagnosis=diagnosis)


def _interrupted(model: Any) -> Report:
    """Report a training that the user has ended: the model is as Keras leaves it or, where that is non-finite, rolled back."""
    history = getattr(model, "history", None)
    seen = dict(getattr(history, "history", {})), list(getattr(history, "epoch", []))
    return Report(Outcome.INTERRUPTED, model, *seen, dict(getattr(history, "params", None) or {}))


def _reported(outcome: Outcome, model: Any, watched: Watched, **more: Any) -> Report:
    """Return the report of one training from its beginning."""
    told = {"notes": watched.notes, **more}
    history, usage = dict(watched.history), watched.recorder.usage()
    return Report(outcome, model, history, watched.epoch, dict(watched.params), recorder=usage, **told)


def _finished(model: Any, data: TrainingData, watched: Watched, strategies: dict[str, Strategy], seed: int, net: Net) -> Report:
    """Report a run that stayed finite; a non-finite validation loss is explained, and repaired where the data cause it."""
    report = _reported(Outcome.HEALTHY, model, watched)
    if watched.recorder.failed:
        return replace(report, outcome=Outcome.EXHAUSTED) if _is_ruined(model, watched.history) else report
    incident = net.attempt("looking at the validation data", lambda: ValidationIncident.of(model, data, watched), None)
    if incident is None:
        return report
    say(data, str(incident.diagnosis))
    with preserved_randomness():
        repaired = net.attempt("repairing the validation", lambda: incident.repair(strategies, seed), None)
    if repaired is None:
        return replace(report, diagnosis=incident.diagnosis)
    told = {"fix": repaired.fix, "notes": repaired.notes, "history": repaired.history(report.history)}
    return replace(report, outcome=Outcome.REPAIRED, diagnosis=incident.diagnosis, **told)


def _train_with_known(fix: Fix, model: Any, data: TrainingData, watching: Watching, seed: int, folder: Path) -> Report:
    """Train with a known fix. Where that cannot be, train without, as plain Keras does, and repair nothing."""
    notes: tuple[str, ...] = ()
    report = None
    try:
        report = watching.net.attempt(
            "training with the fix", lambda: _train_with(fix, model, data, watching, seed), None, REFUSED
        )
    except KeyboardInterrupt:
        return _interrupted(model)
    except CannotHandBack as refused:
        notes = (str(refused), "Trained without the fix.")
    if report is None:
        data.rewind(0)
        report = _watch_and_repair(model, data, watching, {}, Budget(), seed, folder, ALONE)
    return replace(report, notes=(*notes, *report.notes))


def _train_with(fix: Fix, model: Any, data: TrainingData, watching: Watching, seed: int) -> Report:
    """Train with a known fix from the start."""
    first = _first_batches(data)
    run, sites = describe(model, data, first)
    stages = fix.stages(run)
    plan = (Plan(), *stages)[-1]
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    initial = take(model)
    if initial is None:
        raise InputError(
            "The model has non-finite weights before training. Expected: finite weights. Received: NaN or inf. Build it anew."
        )
    rows = plan.of(RowFilter)
    fed = filtered(data, rows)  # where no row is left it says so, before anything is changed
    bench = Workbench(run, data, data.held(first), sites)
    try:
        bench.open()
        bench.prepare(plan, initial, seed)
        with unknown_length(rows), bench.saving(plan):
            after = watch(model, fed, watching, adapt=bench.adapted(plan))
        if after.incident is None:
            notes = tuple(bench.hand_back(plan))
            useless = plan.of(Guards).guards and len(bench.idle(plan)) == len(fix.edits)  # what stays finite was not fixed by it
            outcome = Outcome.HEALTHY if useless else Outcome.REPAIRED
            return _reported(outcome, model, after, fix=fix, notes=notes, run=run.outline(), stages=stages)
    except BaseException:
        bench.close()
        restore(initial)  # what is trained so far may be meant for scaled data
        raise
    bench.close()
    return replace(unrepaired(model, data, after, Outcome.EXHAUSTED, state=initial), fix=fix)


def _left_out(report: Report) -> tuple[str, ...]:
    """Return a line for each installed strategy that could not be loaded, where a run has needed one."""
    return () if report.outcome is Outcome.HEALTHY else tuple(broken().values())


def _kept(report: Report, folder: Path) -> Report:
    """Keep the fix and the repaired model in the run's folder; a model that Keras cannot save is no failure, but is noted."""
    try:
        save_model(report.model, folder / MODEL)
    except NanfixError as unsaved:
        report = replace(report, notes=(*report.notes, str(unsaved)))
    write_text(folder / FIX, to_json(report))
    return report


def _fix_found_before(folder: Path) -> Fix | None:
    return read_fix(folder / FIX) if (folder / FIX).exists() else None


def _first_batches(data: TrainingData) -> list[Any]:
    """Return a few batches of a stream to learn its shapes from; a generator is rewound."""
    return [] if data.is_arrays else first_batches(data.x)
