"""nanfix.fit: watch, diagnose, search, adopt, finish."""

import logging
import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from nanfix.audit import audit
from nanfix.baseline import constant_loss
from nanfix.data import Rewindable, TrainingData, flat_arrays, take_rows
from nanfix.diagnosis import Diagnosis
from nanfix.errors import InputError, UnrepairedError
from nanfix.export import read_fix, to_json, write_text
from nanfix.fix import Fix
from nanfix.folding import Sites, find_sites
from nanfix.reasoning import measure_growth, reason, validation_only
from nanfix.rebuild import can_rebuild
from nanfix.recorder import Recording
from nanfix.registry import select
from nanfix.replay import Replay, as_batch, flat_batch, observe, preserved_randomness, replay
from nanfix.report import Outcome, Report, TrialRecord
from nanfix.rows import filtered, kept_sample, unknown_length
from nanfix.rundir import FIX, fingerprint, opened
from nanfix.search import build_space, search
from nanfix.setup import Sample, Setup, current_learning_rate
from nanfix.snapshot import Snapshot, nonfinite_variables, restore, take
from nanfix.strategy import Strategy
from nanfix.watch import Watched, merged_history, watch
from nanfix.workbench import Workbench, rate_limit

log = logging.getLogger("nanfix")

ADOPTIONS = 4  # fixes trained in full before the search counts as exhausted
WHOLE = 120  # a probe trains this many steps, or as many as the run has
LEARNED = 0.01  # a run has learned when it is better than the marks by this share
HOLES = 32  # rows with holes that are tried in one step
LOST = 100.0  # times the untrained loss, a probe has diverged
SHARE = 0.04  # or this share of a long run


@dataclass(frozen=True)
class Budget:
    """How much a search may cost: trials, and seconds of searching (None for no limit)."""

    trials: int = 30
    seconds: float | None = None

    def __post_init__(self):
        if self.trials < 1 or (self.seconds is not None and self.seconds <= 0):
            raise InputError(
                "A budget allows at least one trial and some time. Expected: trials >= 1, seconds > 0 or None. "
                f"Received: trials={self.trials}, seconds={self.seconds}. To search nothing, pass strategies=()."
            )


def fit(
    model: Any,
    x: Any = None,
    y: Any = None,
    *,
    budget: Budget | None = None,
    strategies: Iterable[str] | None = None,
    seed: int | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    throw: bool = True,
    fix: Fix | None = None,
    **fit_kwargs: Any,
) -> Report:
    """Train `model` as `model.fit(x, y, **fit_kwargs)` does, and repair the training if it turns non-finite.

    A run that stays finite comes out bit for bit as Keras would have made it. Otherwise the run is rolled back to a
    verified snapshot, its cause found by replaying the failing steps, fixes are searched from mild to strong, and the
    epochs completed with the smallest one that holds and learns.

    Args:
        model: a compiled Keras model.
        x, y: the data, in any form that `model.fit` takes.
        budget: limits of the search; by default 30 trials.
        strategies: names of the strategies to search among; None for all installed.
        seed: of the search alone; the random state of the run is the user's.
        run_dir: a folder to keep the search in, so that the same call goes on where it was stopped.
        throw: raise UnrepairedError when no fix holds, and KeyboardInterrupt when interrupted; False to find the outcome in
            the report.
        fix: train with this fix from the start and search nothing.
        **fit_kwargs: everything else that `model.fit` takes.

    Returns:
        The report: outcome, model, history, diagnosis, fix.

    Raises:
        InputError: the model is not compiled, or the data cannot be trained on; nothing was changed.
        UnknownStrategyError: `strategies` or `fix` names one that is not installed.
        RunDirError: `run_dir` belongs to another run or cannot be written.
        UnrepairedError: no fix held (with `throw`); the model is in its last verified finite state.
    """
    begun = time.perf_counter()
    _check_model(model)
    data = TrainingData.of(x, y, fit_kwargs)
    chosen = select(strategies)
    budget, seed = budget or Budget(), seed or 0
    with opened(run_dir, fingerprint(model, data)) as folder:
        known = fix if fix is not None else _fix_found_before(folder)
        if known is not None:
            report = _train_with(known, model, data, seed)
        else:
            report = _watch_and_repair(model, data, chosen, budget, seed, folder)
        report = replace(report, seed=seed, seconds=time.perf_counter() - begun)
        if run_dir is not None and report.outcome is Outcome.REPAIRED:
            write_text(folder / FIX, to_json(report))
    if throw and report.outcome in (Outcome.UNREPAIRABLE, Outcome.EXHAUSTED):
        raise UnrepairedError(str(report), report)
    if throw and report.outcome is Outcome.INTERRUPTED:
        raise KeyboardInterrupt
    return report


def apply(model: Any, fix: Fix, x: Any = None, y: Any = None, **fit_kwargs: Any) -> Report:
    """Train a fresh model with a known fix and no search: `nanfix.fit(model, x, y, fix=fix, **fit_kwargs)`."""
    return fit(model, x, y, fix=fix, **fit_kwargs)


def _watch_and_repair(
    model: Any, data: TrainingData, strategies: dict[str, Strategy], budget: Budget, seed: int, folder: Path
) -> Report:
    watched = watch(model, data)
    if watched.incident is None:
        return _finished(model, data, watched, strategies, seed)
    recording = watched.recorder.recording()
    _say(data, f"nanfix: {watched.incident.what} became non-finite at {watched.incident.detected}; rolling back.")
    run = _Incident(model, data, watched, recording, seed)
    with preserved_randomness():
        diagnosis = run.diagnose()
    _say(data, str(diagnosis))
    if diagnosis.hopeless:
        return run.unrepaired(Outcome.UNREPAIRABLE, diagnosis)
    try:
        return run.repair(diagnosis, strategies, budget, folder)
    except KeyboardInterrupt:
        return run.unrepaired(Outcome.INTERRUPTED, diagnosis)


@dataclass(frozen=True)
class Marks:
    """Held losses of a model that has learned nothing: untrained, and predicting the best constant; None if unknown."""

    untrained: float | None = None
    constant: float | None = None

    @property
    def bar(self) -> float:
        """The loss that a repaired run has to stay below, by a margin that noise does not make."""
        bar = min((mark for mark in (self.untrained, self.constant) if mark is not None), default=math.inf)
        return bar - LEARNED * abs(bar) if math.isfinite(bar) else bar


class _Incident:
    """A run that turned non-finite, on its way from the recording to a report."""

    def __init__(self, model: Any, data: TrainingData, watched: Watched, recording: Recording, seed: int):
        self.model, self.data, self.watched, self.recording, self.seed = model, data, watched, recording, seed
        self.marks = Marks()
        self.trials: tuple[TrialRecord, ...] = ()
        restore(recording.newest)
        recorded = _recorded(data, recording)
        self.setup, self.sites = describe(model, data, recorded)
        self.held = data.held(recorded)
        self.steps_per_epoch = data.training_part().steps_per_epoch(_steps_seen(recording))

    def diagnose(self) -> Diagnosis:
        incident = self.watched.incident
        assert incident is not None
        seen = replay(self.model, self.recording, incident.detected)
        inputs, targets, whole = self._looked_at(seen)
        rate = current_learning_rate(self.model)
        growth = measure_growth(self.setup, self.recording.initial, seen, rate)
        looked = audit(self.setup, inputs, targets, whole=whole)
        if whole and looked.rows and seen.failing is not None and not seen.failing.tainted_input:
            looked = replace(looked, holes_ahead=self._fails_of_holes(looked.rows[:HOLES]))
        return reason(seen, looked, growth, self.setup, incident.detected)

    def repair(self, diagnosis: Diagnosis, strategies: dict[str, Strategy], budget: Budget, folder: Path) -> Report:
        space = build_space(strategies, diagnosis, self.setup)
        if not space.rungs:
            return self.unrepaired(Outcome.EXHAUSTED, diagnosis, ("No installed strategy treats this cause.",))
        bench = Workbench(self.model, self.data, self.held, self.setup, self.sites)
        bench.open()
        try:
            self.marks = self._measure_marks(bench, next(iter(space.data_fixes()), Fix()))
            found = search(
                space,
                lambda fix: self._judge(bench, fix),
                max_trials=budget.trials,
                seconds=budget.seconds,
                seed=self.seed,
                directory=folder,
                bar=math.inf if self.marks.constant is None else self.marks.constant,
            )
            self.trials = found.trials
            for fix in found.fixes[:ADOPTIONS]:
                report = self._adopt(bench, fix, diagnosis)
                if report is not None:
                    return report
        finally:
            bench.close()
        return self.unrepaired(Outcome.EXHAUSTED, diagnosis)

    def unrepaired(self, outcome: Outcome, diagnosis: Diagnosis, notes: tuple[str, ...] = ()) -> Report:
        restore(self.recording.newest)
        history, epoch = dict(self.watched.history), self.watched.epoch
        report = Report(outcome, self.model, history, epoch, dict(self.watched.params), diagnosis, Fix(), self.trials, notes)
        _say(self.data, outcome.value)
        return report

    def _looked_at(self, seen: Replay) -> tuple[list[Any], list[Any], bool]:
        """Return the arrays to audit: all the user passed, or the failing batch; and which of the two."""
        part = self.data.training_part()
        if part.is_arrays:
            return flat_arrays(part.x), flat_arrays(part.y), True
        return (*flat_batch(seen.batch), False) if seen.batch is not None else ([], [], False)

    def _fails_of_holes(self, rows: tuple[int, ...]) -> bool:
        """Say whether a step on these rows, from the initial weights, turns non-finite because of what is in them."""
        part = self.data.training_part()
        x, y, weight = (take_rows(given, list(rows)) for given in (part.x, part.y, part.sample_weight))
        restore(self.recording.initial)
        step = observe(self.model, as_batch(x, y, weight))
        ruined = step.loss is None or not math.isfinite(step.loss) or bool(nonfinite_variables(self.model))
        restore(self.recording.newest)
        return step.tainted_input and ruined

    def _start(self, setup: Setup) -> Snapshot:
        """Return the snapshot to train from: the best epoch before the failure, or the initial weights."""
        if not setup.keeps_weights:
            return self.recording.initial
        losses, untrained = self.watched.recorder.losses, self.marks.untrained
        ends = {s.epoch + 1: s for s in self.recording.snapshots if s.total and s.step == self.steps_per_epoch}
        judged = {epoch: losses[epoch - 1] for epoch in ends if epoch <= len(losses)}
        judged = {
            epoch: loss for epoch, loss in judged.items() if math.isfinite(loss) and (untrained is None or loss < untrained)
        }
        if not judged:
            return self.recording.initial
        bar = min(judged.values())
        newest_good = max(epoch for epoch, loss in judged.items() if loss <= bar + 0.1 * abs(bar))
        return replace(ends[newest_good], epoch=newest_good, step=0)

    def _probe_steps(self, start: Snapshot) -> int:
        """Return how long a probe trains: past the onset with margin, and a bounded share of the run."""
        detected = self.watched.recorder.total_steps - start.total
        planned = (self.steps_per_epoch or 100) * (self.data.epochs - start.epoch)
        return max(min(planned, math.ceil(1.5 * detected) + 8), min(max(WHOLE, int(SHARE * planned)), max(planned // 2, 30)))

    def _measure_marks(self, bench: Workbench, data_fix: Fix) -> Marks:
        """Measure the marks on data in which a change to the data, if one is called for, is made already."""
        setup = data_fix.apply(self.setup)
        bench.prepare(setup, self.recording.initial)
        untrained = bench.held_loss()
        kept = replace(setup, sample=kept_sample(setup.sample, setup.rows))
        return Marks(untrained if math.isfinite(untrained) else None, constant_loss(kept, filtered(self.held, setup.rows)))

    def _judge(self, bench: Workbench, fix: Fix) -> TrialRecord:
        setup = fix.apply(self.setup)
        start = self._start(setup)
        _rewind(self.data, start)
        probe = bench.probe(setup, start, self._probe_steps(start), self.seed, LOST * (self.marks.untrained or math.inf))
        verdict = "non-finite" if probe.loss is None else "held"
        if probe.loss is not None and self.marks.untrained is not None and probe.loss >= self.marks.untrained:
            verdict = "not learning"
        came_from = "initial weights" if start.total == 0 else f"epoch {start.epoch}"
        return TrialRecord(fix.edits, came_from, probe.steps, probe.loss, verdict, probe.seconds)

    def _adopt(self, bench: Workbench, fix: Fix, diagnosis: Diagnosis) -> Report | None:
        """Train the user's epochs with `fix`; None when it did not hold or did not learn."""
        setup = fix.apply(self.setup)
        start = self._start(setup)
        _rewind(self.data, start)
        bench.prepare(setup, start, self.seed)
        data = filtered(self.data, setup.rows)
        with unknown_length(setup.rows):
            after = watch(self.model, data, extra=rate_limit(setup), initial_epoch=start.epoch)
        if after.incident is not None:
            return None
        loss = bench.held_loss()
        if not math.isfinite(loss) or loss >= self.marks.bar:
            return None
        notes = tuple(bench.hand_back(setup))
        history, epoch = merged_history(self.watched, after, start.epoch)
        report = Report(Outcome.REPAIRED, self.model, history, epoch, dict(after.params), diagnosis, fix, self.trials, notes)
        _say(self.data, "Repaired. " + " ".join(str(fix).splitlines()))
        return report


def describe(model: Any, data: TrainingData, recorded: list[Any]) -> tuple[Setup, Sites]:
    """Return the run as data, and where its inputs and outputs meet the model's layers. The model is built if it was not."""
    rows = data.rows(recorded)
    inputs, targets = tuple(flat_arrays(rows.x)), tuple(flat_arrays(rows.y))
    with preserved_randomness():
        sites = find_sites(model, take_rows(rows.x, slice(0, 2)))
    rebuildable = can_rebuild(model)
    scalable = tuple(
        array.dtype.kind in "fiu" and not site.looked_up and (site.foldable or rebuildable)
        for array, site in zip(inputs, sites.inputs, strict=True)
    )
    imputable = tuple(array.dtype.kind == "f" and rebuildable for array in inputs)
    whole = (tuple(flat_arrays(data.x)), tuple(flat_arrays(data.y))) if data.is_arrays else None
    sample = Sample(inputs, targets, scalable, rows.x, imputable, whole)
    return Setup(model, sample, output_foldable=sites.output.foldable), sites


def _train_with(fix: Fix, model: Any, data: TrainingData, seed: int) -> Report:
    """Train with a known fix from the start."""
    first = _first_batches(data)
    setup, sites = describe(model, data, first)
    setup = fix.apply(setup)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    initial = take(model)
    if initial is None:
        raise InputError(
            "The model has non-finite weights before training. Expected: finite weights. Received: NaN or inf. Build it anew."
        )
    bench = Workbench(model, data, data.held(first), setup, sites)
    bench.open()
    try:
        bench.prepare(setup, initial, seed)
        with unknown_length(setup.rows):
            after = watch(model, filtered(data, setup.rows), extra=rate_limit(setup))
        if after.incident is not None:
            restore(after.recorder.recording().newest)
            bench.close()
            return Report(Outcome.EXHAUSTED, model, dict(after.history), after.epoch, dict(after.params), None, fix)
        notes = tuple(bench.hand_back(setup))
    finally:
        bench.close()
    return Report(Outcome.REPAIRED, model, dict(after.history), after.epoch, dict(after.params), None, fix, (), notes)


def _finished(model: Any, data: TrainingData, watched: Watched, strategies: dict[str, Strategy], seed: int) -> Report:
    """Report a run that stayed finite; a non-finite validation loss is explained, and repaired where the data cause it."""
    report = Report(Outcome.HEALTHY, model, dict(watched.history), watched.epoch, dict(watched.params))
    onset = watched.recorder.validation_onset
    if onset is None:
        return report
    recorded = _recorded(data, watched.recorder.recording())
    held = data.held(recorded)
    setup, sites = describe(model, data, recorded)
    inputs, targets = (flat_arrays(held.x), flat_arrays(held.y)) if held.is_arrays else ([], [])
    diagnosis = validation_only(audit(setup, inputs, targets, whole=True), onset)
    _say(data, str(diagnosis))
    report = replace(report, diagnosis=diagnosis)
    if isinstance(held.x, Iterator):  # what is drawn from a generator is lost to the user
        return report
    with preserved_randomness():
        return _validation_repaired(report, Workbench(model, data, held, setup, sites), setup, strategies, seed)


def _validation_repaired(report: Report, bench: Workbench, setup: Setup, strategies: dict[str, Strategy], seed: int) -> Report:
    """Make the first change to the data that gives a finite validation loss part of the model; its training stays."""
    assert report.diagnosis is not None
    fixes = build_space(strategies, report.diagnosis, setup).data_fixes()
    state = take(report.model)
    if state is None:
        return report
    bench.open()
    try:
        for fix in (*(Fix((edit,)) for whole in fixes for edit in whole.edits), *fixes):
            changed = fix.apply(setup)
            bench.prepare(changed, state, seed)
            finite = math.isfinite(bench.held_loss())
            restore(state)
            if finite:
                return replace(report, outcome=Outcome.REPAIRED, fix=fix, notes=tuple(bench.hand_back(changed)))
    finally:
        bench.close()
    return report


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise InputError(
            "nanfix.fit trains Keras models. Expected: a keras.Model. "
            f"Received: {type(model).__module__}.{type(model).__name__}. "
            "Models of the legacy package tf_keras have to be made with keras."
        )
    if not model.compiled:
        raise InputError(
            "The model is not compiled. Expected: a compiled model. Received: one without optimizer and loss. "
            "Call model.compile first."
        )


def _fix_found_before(folder: Path) -> Fix | None:
    return read_fix(folder / FIX) if (folder / FIX).exists() else None


def _steps_seen(recording: Recording) -> int | None:
    """Return the steps of an epoch, if one has ended."""
    ended = [s.step for s, after in zip(recording.snapshots, recording.snapshots[1:], strict=False) if after.epoch > s.epoch]
    return max(ended, default=None)


def _first_batches(data: TrainingData) -> list[Any]:
    """Return a few batches of a stream to learn its shapes from; a generator is rewound."""
    if data.is_arrays:
        return []
    if isinstance(data.x, Rewindable):
        batch = next(data.x.feed())
        data.x.rewind(0)
        return [batch]
    if isinstance(data.x, keras.utils.PyDataset):
        return [data.x[0]]
    return list(data.x.take(1))


def _recorded(data: TrainingData, recording: Recording) -> list[Any]:
    """Return the batches of a stream that are still at hand; arrays need none."""
    kept = [*recording.batches] or [recording.first_batch]
    return [] if data.is_arrays else [batch for batch in kept if batch is not None]


def _rewind(data: TrainingData, start: Snapshot) -> None:
    if isinstance(data.x, Rewindable):
        data.x.rewind(start.total)


def _say(data: TrainingData, text: str) -> None:
    """Tell the user, unless they asked Keras to be quiet."""
    quiet = (data.arguments or {}).get("verbose", "auto") == 0
    log.log(logging.INFO if quiet else logging.WARNING, text)
