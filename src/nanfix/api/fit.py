"""nanfix.fit: the front door. What it refuses, what it keeps in a folder, and what it
reports or raises.
"""

import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras

from nanfix.api._data_lines import with_data_lines
from nanfix.api._known_fix import train_with_known
from nanfix.api._training import SearchSettings, is_ruined, watch_and_repair
from nanfix.api.preconditions import check_arguments, check_memory, check_model
from nanfix.data.training_data import TrainingData
from nanfix.model.faults import Net
from nanfix.recorder.callbacks import logged, user_callbacks
from nanfix.recorder.snapshot_files import SnapshotStore
from nanfix.recorder.watch import Watching
from nanfix.records.atomic import write_text
from nanfix.records.budget import Budget
from nanfix.records.errors import REFUSALS, NanfixError, UnrepairedError
from nanfix.remedies.fix import Fix
from nanfix.remedies.registry import broken, select
from nanfix.report.export import FIX, MODEL, read_fix, save_model, to_json
from nanfix.report.report import Outcome, Report
from nanfix.report.run_dir import ADOPTED, SNAPSHOTS, fingerprint, opened
from nanfix.search.workers.pool import Workers


def fit(  # noqa: PLR0913  # long: most of it explains the arguments
    model: keras.Model,
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
    repair_divergence: bool = False,
    **fit_kwargs: Any,
) -> Report:
    """Train `model` as `model.fit(x, y, **fit_kwargs)` does, and repair the training if
    it turns non-finite.

    A run that stays finite comes out bit for bit as Keras would have made it. Otherwise the run is
    rolled back to a verified snapshot, its cause found by replaying the failing steps, fixes are
    searched from mild to strong, and the epochs completed with the smallest one that works and
    learns. Where none does, the history and the callbacks get every epoch that Keras would have
    given, NaN from the failure on. What the user's own code raises passes unchanged; a fault of
    nanfix's own is a line of the report.

    Args:
        model: a compiled Keras model.
        x, y: the data, in any form that `model.fit` takes.
        budget: limits of the search; by default 30 trials.
        strategies: names of the strategies to search among; None for all installed.
        forbid: names of strategies that are not to be tried.
        seed: of the search alone; the random state of the run is the user's.
        run_dir: a folder to keep snapshots and the search in, so that the same call goes on where
            it was stopped; fix.json and model.keras are left there in the end.
        memory_bytes: what the flight recorder may hold of snapshots and batches; by default a tenth
            of the free memory. Snapshots that do not fit are kept on disk, and the report says so.
        workers: processes that try fixes at the same time, or `nanfix.Workers` to say where they
            meet; of use on a machine with cores to spare, for a model that can be saved, on arrays.
            Elsewhere one process searches, and the report says why.
        throw: raise UnrepairedError when no fix works, and KeyboardInterrupt when interrupted;
            False to find the outcome in the report.
        fix: train with this fix from the start and search nothing.
        repair_divergence: treat a training that stayed finite, but whose loss and weights have
            grown by orders of magnitude when it ends (outcome DIVERGED without this), as one that
            turned non-finite: diagnosed, rolled back and repaired.
        **fit_kwargs: everything else that `model.fit` takes.

    Returns:
        The report: outcome, model, history, diagnosis, fix.

    Raises:
        InputError: the model is not compiled, the data cannot be trained on, or an argument makes
            no sense; nothing was changed.
        UnknownStrategyError: `strategies`, `forbid` or `fix` names one that is not installed.
        RunDirError: `run_dir` belongs to another run or cannot be written.
        UnrepairedError: no fix worked (with `throw`); the model is in its last good state.
    """
    begun, net = time.perf_counter(), Net()
    check_arguments(
        budget=budget,
        strategies=strategies,
        forbid=forbid,
        seed=seed,
        workers=workers,
        fix=fix,
        repair_divergence=repair_divergence,
    )
    check_model(model)
    check_memory(memory_bytes)
    settings = SearchSettings(
        strategies=select(strategies, forbid),
        budget=budget or Budget(),
        seed=seed or 0,
        workers=workers if isinstance(workers, Workers) else Workers(workers),
    )
    data = net.attempt(
        "reading the data", partial(TrainingData.of, x, y, fit_kwargs), None, REFUSALS
    )
    describing = "describing the run"
    identity = data and net.attempt(describing, partial(fingerprint, model, data), None, REFUSALS)
    if data is None or identity is None:
        report = _unwatched(model, x, y, fit_kwargs)
        report = replace(
            report, faults=tuple(net.faults), notes=net.notes(), seconds=time.perf_counter() - begun
        )
    else:
        durable = run_dir is not None
        watching = Watching(memory_bytes, durable=durable, stop_diverged=repair_divergence, net=net)
        report = _watched(
            model, data, identity, watching, settings, fix=fix, run_dir=run_dir, begun=begun
        )
    found = with_data_lines(report.diagnosis, sys._getframe(1), fit.__name__)
    report = replace(report, diagnosis=found)
    if throw and report.outcome in (Outcome.UNREPAIRABLE, Outcome.EXHAUSTED):
        raise UnrepairedError(str(report), report)
    if throw and report.outcome is Outcome.INTERRUPTED:
        raise KeyboardInterrupt
    return report


def apply(model: keras.Model, fix: Fix, x: Any = None, y: Any = None, **fit_kwargs: Any) -> Report:
    """Train a fresh model with a known fix and no search:
    `nanfix.fit(model, x, y, fix=fix, **fit_kwargs)`.
    """
    return fit(model, x, y, fix=fix, **fit_kwargs)


def _watched(
    model: keras.Model,
    data: TrainingData,
    identity: dict[str, Any],
    watching: Watching,
    settings: SearchSettings,
    *,
    fix: Fix | None,
    run_dir: str | os.PathLike[str] | None,
    begun: float,
) -> Report:
    """Train with the recorder on, with a known fix or with a search where one is needed; keep the
    result in `run_dir`.
    """
    net = watching.net
    net.data_failed = lambda: data.failed
    with opened(run_dir, {**identity, "strategies": sorted(settings.strategies)}, data) as folder:
        store = SnapshotStore(folder / SNAPSHOTS)
        earlier = logged(user_callbacks(data)) if store.is_empty else {}
        watching = replace(watching, store=store, earlier=earlier)
        known = fix if fix is not None else _fix_found_before(folder)
        if known is not None:
            report = train_with_known(
                known, model, data, replace(watching, durable=False), settings, folder
            )
        else:
            report = watch_and_repair(model, data, watching, settings, folder)
        found = replace(report.fix, layers=identity["model"]) if report.fix else report.fix
        seconds = time.perf_counter() - begun
        report = replace(
            report, fix=found, seed=settings.seed, seconds=seconds, fingerprint=identity
        )
        if run_dir is not None and report.outcome.has_fix:
            report = net.attempt(
                "keeping the repaired model", partial(_kept, report, folder), report
            )
        notes = (
            *report.notes,
            *_left_out(report),
            *net.notes(folder if run_dir is not None else None),
        )
        if report.outcome is not Outcome.INTERRUPTED:
            store.clear()
            SnapshotStore(folder / ADOPTED).clear()
        return replace(report, faults=tuple(net.faults), notes=notes)


def _unwatched(model: keras.Model, x: Any, y: Any, fit_kwargs: Mapping[str, Any]) -> Report:
    """Train as plain Keras does, since nanfix itself has failed before it could watch."""
    history = model.fit(x, y, **fit_kwargs)
    outcome = Outcome.EXHAUSTED if is_ruined(model, history.history) else Outcome.HEALTHY
    return Report(
        outcome=outcome,
        model=model,
        history=history.history,
        epoch=history.epoch,
        params=dict(history.params or {}),
    )


def _left_out(report: Report) -> tuple[str, ...]:
    """Return a line for each installed strategy that could not be loaded, where a run
    has needed one.
    """
    return () if report.outcome is Outcome.HEALTHY else tuple(broken().values())


def _kept(report: Report, folder: Path) -> Report:
    """Keep the fix and the repaired model in the run's folder.

    A model that Keras cannot save is no failure, but is noted.
    """
    try:
        save_model(report.model, folder / MODEL)
    except NanfixError as unsaved:
        report = replace(report, notes=(*report.notes, str(unsaved)))
    write_text(folder / FIX, to_json(report))
    return report


def _fix_found_before(folder: Path) -> Fix | None:
    return read_fix(folder / FIX) if (folder / FIX).exists() else None
