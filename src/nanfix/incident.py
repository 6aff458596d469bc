"""A run that turned non-finite, on its way from the recording to a report."""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from nanfix.audit import Audit, audit
from nanfix.baseline import constant_loss
from nanfix.budget import Budget
from nanfix.checkpoint import save_after_all
from nanfix.counterfactual import Counterfactuals, try_otherwise
from nanfix.data import Rewindable, TrainingData, flat_arrays, take_rows
from nanfix.diagnosis import Diagnosis
from nanfix.fix import Fix
from nanfix.folding import Sites, find_sites
from nanfix.reasoning import Growth, measure_growth, reason
from nanfix.rebuild import can_rebuild, container
from nanfix.recording import Recording
from nanfix.replay import Replay, as_batch, flat_batch, observe, preserved_randomness, replay
from nanfix.report import Outcome, Report, TrialRecord
from nanfix.resumption import user_callbacks
from nanfix.rows import filtered, kept_sample, unknown_length
from nanfix.search import Space, build_space, search
from nanfix.setup import Sample, Setup, current_learning_rate, walk
from nanfix.snapshot import Snapshot, nonfinite_variables, restore
from nanfix.strategy import Strategy
from nanfix.watch import Watched, Watching, merged_history, watch
from nanfix.workbench import Workbench

log = logging.getLogger("nanfix")

TURNS = 3  # causes that are treated one after the other, each uncovered by the treatment of the one before
ADOPTIONS = 4  # fixes trained in full before the search counts as exhausted
WHOLE = 120  # a probe trains this many steps, or as many as the run has
LEARNED = 0.01  # a run has learned when it is better than the marks by this share
HOLES = 32  # rows with holes that are tried in one step
LOST = 100.0  # times the untrained loss, a probe has diverged
WEIGHTED = (keras.layers.Dense, keras.layers.RNN, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
SHARE = 0.04  # or this share of a long run
DIAGNOSIS_SECONDS, DIAGNOSIS_SHARE = 2.0, 0.3  # what reruns may take: so long, or this share of the failed run
UNJUDGED = (
    "The model has no call of its own, so it could not be evaluated: the training is finite, whether it learns is not known."
)


@dataclass(frozen=True)
class Marks:
    """Held losses of a model that has learned nothing: untrained, and predicting the best constant; None if unknown.

    `on_training_rows` is the untrained loss on rows that are trained on, among which single ones may be far off.
    """

    untrained: float | None = None
    constant: float | None = None
    on_training_rows: float | None = None

    @property
    def highest(self) -> float:
        """The loss to begin with, whatever the rows."""
        known = [mark for mark in (self.untrained, self.on_training_rows) if mark is not None]
        return max(known, default=math.inf)

    @property
    def bar(self) -> float:
        """The loss that a repaired run has to stay below, by a margin that noise does not make."""
        bar = min((mark for mark in (self.untrained, self.constant) if mark is not None), default=math.inf)
        return bar - LEARNED * abs(bar) if math.isfinite(bar) else bar


class Incident:
    """A run that turned non-finite, on its way from the recording to a report."""

    def __init__(self, model: Any, data: TrainingData, watched: Watched, watching: Watching, seed: int):
        self.model, self.data, self.watched, self.watching, self.seed = model, data, watched, watching, seed
        self.recording = recording = watched.recorder.recording()
        self.marks = Marks()
        self.trials: tuple[TrialRecord, ...] = ()
        self.refused: Mapping[str, str] = {}
        self.uncovered: list[str] = []
        restore(recording.newest)
        model._initial_epoch = None  # set for good by BackupAndRestore; every training from here on names its own
        recorded = recorded_batches(data, recording)
        self.setup, self.sites = describe(model, data, recorded)
        self.held, self.sampled = data.held(recorded), data.rows(recorded)
        self.steps_per_epoch = data.training_part().steps_per_epoch(recording.steps_per_epoch)

    def diagnose(self) -> Diagnosis:
        """Replay the failing steps, look at data and weights, and try the steps otherwise."""
        incident = self.watched.incident
        assert incident is not None
        seen, looked, growth = self.measured()
        return reason(seen, looked, growth, self.setup, incident.detected, self.tried_otherwise(seen, looked, growth))

    def measured(self) -> tuple[Replay, Audit, Growth]:
        """Return what the failing steps, the data and the weights show."""
        incident = self.watched.incident
        assert incident is not None
        seen = replay(self.model, self.recording, incident.detected)
        inputs, targets, weights, whole = self._looked_at(seen)
        growth = measure_growth(self.setup, self.recording, seen, current_learning_rate(self.model))
        looked = audit(self.setup, inputs, targets, weights, whole=whole)
        if whole and looked.rows and seen.failing is not None and not seen.failing.tainted_input:
            looked = replace(looked, holes_ahead=self._fails_of_holes(looked.rows[:HOLES]))
        return seen, looked, growth

    def tried_otherwise(self, seen: Replay, looked: Audit, growth: Growth, seconds: float | None = None) -> Counterfactuals:
        """Return what the failing steps come to with one thing changed, in `seconds` or what a diagnosis may take."""
        if seconds is None:
            seconds = max(DIAGNOSIS_SECONDS, DIAGNOSIS_SHARE * self.watched.seconds)
        situation = self.model, self.data, self.setup, self.recording
        return try_otherwise(*situation, seen, looked, wide=bool(growth.wide), seconds=seconds)

    def repair(self, diagnosis: Diagnosis, strategies: dict[str, Strategy], budget: Budget, folder: Path) -> Report:
        """Search, and train with what holds. Where nothing does, search on from what treats the cause but uncovers another."""
        deadline = math.inf if budget.seconds is None else time.monotonic() + budget.seconds
        bench = Workbench(self.model, self.data, self.held, self.setup, self.sites)
        bench.open()
        ground, shown = Fix(), diagnosis
        try:
            for turn in range(TURNS):
                space = build_space(strategies, shown, ground.apply(self.setup))
                self.refused = {**space.refused, **self.refused}
                if not space.rungs:
                    break
                if turn == 0:
                    self.marks = self._measure_marks(bench, next(iter(space.data_fixes()), Fix()))
                left = Budget(budget.trials - len(self.trials), None if math.isinf(deadline) else deadline - time.monotonic())
                report = self._searched(bench, space, ground, diagnosis, left, folder / f"turn-{turn + 1}")
                if report is not None:
                    return report
                ground = Fix((*ground.edits, *space.called_for().edits))
                if len(self.trials) >= budget.trials or time.monotonic() > deadline or not self._uncovers(ground):
                    break
                found = self._fails_of(bench, ground)
                if found is None or replace(found.place, values=None) == replace(shown.place, values=None):
                    break
                shown = found
                self.uncovered.append(f"With the edits that treat this cause, another shows: {found.cause.value}, {found.place}.")
        finally:
            bench.close()
        notes = () if self.trials else ("No installed strategy treats this cause.",)
        return self.unrepaired(Outcome.EXHAUSTED, diagnosis, (*self.uncovered, *notes))

    def _searched(
        self, bench: Workbench, space: Space, ground: Fix, diagnosis: Diagnosis, budget: Budget, folder: Path
    ) -> Report | None:
        """Search among the candidates of `space`, each on top of the `ground`, and train with the best; None when none held."""
        found = search(
            space,
            lambda fix: self._judge(bench, Fix((*ground.edits, *fix.edits))),
            budget=budget,
            seed=self.seed,
            directory=folder,
            bar=math.inf if self.marks.constant is None else self.marks.constant,
        )
        self.trials = (*self.trials, *found.trials)
        for fix in found.fixes[:ADOPTIONS]:
            report = self._adopt(bench, Fix((*ground.edits, *fix.edits)), diagnosis)
            if report is not None:
                return report
        return None

    def _uncovers(self, fix: Fix) -> bool:
        """Say whether this very fix was tried and its probe turned non-finite, so that there is a failure to look at."""
        return any(trial.edits == fix.edits and trial.verdict == "non-finite" for trial in self.trials)

    def _fails_of(self, bench: Workbench, fix: Fix) -> Diagnosis | None:
        """Train with `fix` until it fails, and say of what; None when it does not."""
        setup = fix.apply(self.setup)
        start = self._start(setup)
        _rewind(self.data, start)
        bench.prepare(setup, start, self.seed)
        if self.watching.store is not None:
            self.watching.store.clear()
        with unknown_length(setup.rows):
            after = watch(self.model, filtered(self.data, setup.rows), self.watching, adapt=bench.adapted(setup), start=start)
        if after.incident is None or not after.recorder.recording().snapshots:
            return None
        recording = after.recorder.recording()
        with preserved_randomness():
            seen = replay(self.model, recording, after.incident.detected)
        growth = measure_growth(setup, recording, seen, current_learning_rate(self.model))
        inputs, targets, weights, whole = self._looked_at(seen)
        looked = audit(setup, inputs, targets, weights, whole=whole)
        return reason(seen, looked, growth, setup, after.incident.detected, Counterfactuals())

    def unrepaired(self, outcome: Outcome, diagnosis: Diagnosis, notes: tuple[str, ...] = ()) -> Report:
        restore(self.recording.newest)
        history, epoch = dict(self.watched.history), self.watched.epoch
        notes = (*self.watched.notes, *notes)
        usage = self.watched.recorder.usage()
        report = Report(
            outcome,
            self.model,
            history,
            epoch,
            dict(self.watched.params),
            diagnosis,
            Fix(),
            self.trials,
            notes,
            self.refused,
            recorder=usage,
        )
        say(self.data, outcome.value)
        return report

    def _looked_at(self, seen: Replay) -> tuple[list[Any], list[Any], list[Any], bool]:
        """Return the arrays to audit: all the user passed, or the failing batch; and which of the two."""
        part = self.data.training_part()
        if part.is_arrays:
            return flat_arrays(part.x), flat_arrays(part.y), flat_arrays(part.sample_weight), True
        return (*flat_batch(seen.batch), False) if seen.batch is not None else ([], [], [], False)

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
        losses, untrained = self.recording.epoch_losses, self.marks.untrained
        begins = {s.epoch: s for s in self.recording.snapshots if s.total and s.step == 0}
        judged = {epoch: losses[epoch - 1] for epoch in begins if math.isfinite(losses.get(epoch - 1, math.nan))}
        judged = {epoch: loss for epoch, loss in judged.items() if untrained is None or loss < untrained}
        if not judged:
            return self.recording.initial
        best = min(judged.values())
        return begins[max(epoch for epoch, loss in judged.items() if loss <= best + 0.1 * abs(best))]

    def _probe_steps(self, setup: Setup, start: Snapshot) -> int:
        """Return how long a probe trains: past the onset with margin, and a bounded share of the run."""
        detected = self.watched.recorder.total_steps - start.total + (setup.stepping.warm_up or 0)
        planned = (self.steps_per_epoch or 100) * (self.data.epochs - start.epoch)
        return max(min(planned, math.ceil(1.5 * detected) + 8), min(max(WHOLE, int(SHARE * planned)), max(planned // 2, 30)))

    def _measure_marks(self, bench: Workbench, data_fix: Fix) -> Marks:
        """Measure the marks on data in which a change to the data, if one is called for, is made already."""
        setup = data_fix.apply(self.setup)
        bench.prepare(setup, self.recording.initial)
        untrained, begun = (_known(loss) for loss in (bench.held_loss(), bench.loss_on(self.sampled)))
        kept = replace(setup, sample=kept_sample(setup.sample, setup.rows))
        return Marks(untrained, constant_loss(kept, filtered(self.held, setup.rows)), begun)

    def _judge(self, bench: Workbench, fix: Fix) -> TrialRecord:
        setup = fix.apply(self.setup)
        start = self._start(setup)
        _rewind(self.data, start)
        probe = bench.probe(setup, start, self._probe_steps(setup, start), self.seed, LOST * self.marks.highest)
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
        if self.watching.store is not None:
            self.watching.store.clear()
        with unknown_length(setup.rows):
            after = watch(self.model, data, self.watching, adapt=bench.adapted(setup), start=start)
        if after.incident is not None:
            return None
        loss = bench.held_loss()
        if bench.judges and (not math.isfinite(loss) or loss >= self.marks.bar):
            return None
        notes = (*self.watched.notes, *self.uncovered, *([] if bench.judges else [UNJUDGED]), *bench.hand_back(setup))
        history, epoch = merged_history(self.watched, after, start.epoch)
        if bench.moment(setup) is None:
            save_after_all(user_callbacks(self.data), self.model, history, epoch)
        usage = after.recorder.usage()
        report = Report(
            Outcome.REPAIRED,
            self.model,
            history,
            epoch,
            dict(after.params),
            diagnosis,
            fix,
            self.trials,
            notes,
            self.refused,
            recorder=usage,
        )
        say(self.data, "Repaired. " + " ".join(str(fix).splitlines()))
        return report


def _known(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None


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
    whole = tuple(tuple(flat_arrays(part)) for part in (data.x, data.y, data.sample_weight)) if data.is_arrays else None
    sample = Sample(inputs, targets, scalable, rows.x, imputable, whole, *_batch_sizes(data, recorded))
    steps = data.training_part().steps_per_epoch()
    planned = None if steps is None else steps * data.epochs
    entries = {id(layer) for site in sites.inputs for layer in site.layers}
    behind = tuple(position for position, layer in _normalizable(model) if id(layer) not in entries)
    known = {"normalizable": behind, "rebuildable": rebuildable, "planned_steps": planned}
    return Setup(model, sample, output_foldable=sites.output.foldable, **known), sites


def _normalizable(model: Any) -> list[tuple[int, Any]]:
    """Return position and layer of the layers of weights, the first apart, that another layer can be put in front of."""
    weighted = [(position, layer) for position, layer in walk(model) if isinstance(layer, WEIGHTED)]
    return [(position, layer) for position, layer in weighted[1:] if container(model, layer) is not None]


def _batch_sizes(data: TrainingData, recorded: list[Any]) -> tuple[int | None, int | None]:
    """Return the rows of a full batch, of a stream as far as recorded, and of all that is trained on, None for a stream."""
    if data.is_arrays:
        return int((data.arguments or {}).get("batch_size") or 32), len(flat_arrays(data.training_part().x)[0])
    batches = (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in recorded)
    return max((len(flat_arrays(x)[0]) for x in batches), default=None), None


def recorded_batches(data: TrainingData, recording: Recording) -> list[Any]:
    """Return the batches of a stream that are still at hand; arrays need none."""
    kept = [step.whole_batch for step in recording.steps] or [recording.first_batch]
    return [] if data.is_arrays else [batch for batch in kept if batch is not None]


def _rewind(data: TrainingData, start: Snapshot) -> None:
    if isinstance(data.x, Rewindable):
        data.x.rewind(start.total)


def say(data: TrainingData, text: str) -> None:
    """Tell the user, unless they asked Keras to be quiet."""
    quiet = (data.arguments or {}).get("verbose", "auto") == 0
    log.log(logging.INFO if quiet else logging.WARNING, text)
