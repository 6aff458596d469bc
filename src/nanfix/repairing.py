"""From a diagnosis to a repaired model: search, adopt, and search on where a treatment uncovers another cause."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nanfix.baseline import constant_loss
from nanfix.budget import Budget
from nanfix.checkpoint import save_after_all
from nanfix.counterfactual import Counterfactuals
from nanfix.data import Rewindable, TrainingData
from nanfix.diagnosis import Diagnosis
from nanfix.fix import Fix
from nanfix.incident import Incident, say
from nanfix.reasoning import reason
from nanfix.replay import preserved_randomness
from nanfix.report import Outcome, Report, TrialRecord
from nanfix.resumption import user_callbacks
from nanfix.rows import filtered, kept_sample, unknown_length
from nanfix.search import Space, build_space, search
from nanfix.setup import Setup
from nanfix.snapshot import Snapshot
from nanfix.strategy import Strategy
from nanfix.watch import Watched, merged_history, watch
from nanfix.workbench import Workbench

SOON = 1e-3  # seconds of a budget that is all but spent
TURNS = 3  # causes that are treated one after the other, each uncovered by the treatment of the one before
ADOPTIONS = 4  # fixes trained in full before the search counts as exhausted
WHOLE = 120  # a probe trains this many steps, or as many as the run has
SHARE = 0.04  # or this share of a long run
LEARNED = 0.01  # a run has learned when it is better than the marks by this share
LOST = 100.0  # times the untrained loss, a probe has diverged
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


class Repair:
    """The repair of one run: what was tried, and what a model that has learned nothing reaches."""

    def __init__(self, run: Incident):
        self._run = run
        self._bench = Workbench(run.model, run.data, run.held, run.setup, run.sites)
        self._marks = Marks()
        self._trials: tuple[TrialRecord, ...] = ()
        self._refused: Mapping[str, str] = {}
        self._uncovered: list[str] = []

    def report(self, diagnosis: Diagnosis, strategies: dict[str, Strategy], budget: Budget, folder: Path) -> Report:
        """Search, and train with what holds. Where nothing does, search on from what treats the cause but uncovers another."""
        deadline = math.inf if budget.seconds is None else time.monotonic() + budget.seconds
        self._bench.open()
        ground, shown = Fix(), diagnosis
        try:
            for turn in range(TURNS):
                space = build_space(strategies, shown, ground.apply(self._run.setup))
                self._refused = {**space.refused, **self._refused}
                if not space.rungs:
                    break
                if turn == 0:
                    self._marks = self._measure_marks(next(iter(space.data_fixes()), Fix()))
                left = Budget(
                    budget.trials - len(self._trials), None if math.isinf(deadline) else max(deadline - time.monotonic(), SOON)
                )
                report = self._searched(space, ground, diagnosis, left, folder / f"turn-{turn + 1}")
                if report is not None:
                    return report
                ground = Fix((*ground.edits, *space.called_for().edits))
                if len(self._trials) >= budget.trials or time.monotonic() > deadline or not self._uncovers(ground):
                    break
                found = self._fails_of(ground)
                if found is None or replace(found.place, values=None) == replace(shown.place, values=None):
                    break
                shown = found
                told = f"{found.cause.value}, {found.place}"
                self._uncovered.append(f"With the edits that treat this cause, another shows: {told}.")
        finally:
            self._bench.close()
        notes = (*self._uncovered, *(() if self._trials else ("No installed strategy treats this cause.",)))
        return self._run.unrepaired(Outcome.EXHAUSTED, diagnosis, notes, trials=self._trials, refused=self._refused)

    def _searched(self, space: Space, ground: Fix, diagnosis: Diagnosis, budget: Budget, folder: Path) -> Report | None:
        """Search among the candidates of `space`, each on top of the `ground`, and train with the best; None when none held."""
        found = search(
            space,
            lambda fix: self._judge(Fix((*ground.edits, *fix.edits))),
            budget=budget,
            seed=self._run.seed,
            directory=folder,
            bar=math.inf if self._marks.constant is None else self._marks.constant,
        )
        self._trials = (*self._trials, *found.trials)
        for fix in found.fixes[:ADOPTIONS]:
            report = self._adopt(Fix((*ground.edits, *fix.edits)), diagnosis)
            if report is not None:
                return report
        return None

    def _uncovers(self, fix: Fix) -> bool:
        """Say whether this very fix was tried and its probe turned non-finite, so that there is a failure to look at."""
        return any(trial.edits == fix.edits and trial.verdict == "non-finite" for trial in self._trials)

    def _trained(self, setup: Setup) -> tuple[Snapshot, Watched]:
        """Train the user's epochs with `setup`, the recorder on; return where that began and what was seen."""
        run, start = self._run, self._start(setup)
        _rewind(run.data, start)
        self._bench.prepare(setup, start, run.seed)
        if run.watching.store is not None:
            run.watching.store.clear()
        data, adapt = filtered(run.data, setup.rows), self._bench.adapted(setup)
        with unknown_length(setup.rows):
            return start, watch(run.model, data, run.watching, adapt=adapt, start=start)

    def _fails_of(self, fix: Fix) -> Diagnosis | None:
        """Train with `fix` until it fails, and say of what; None when it does not."""
        setup = fix.apply(self._run.setup)
        _, after = self._trained(setup)
        if after.incident is None or not after.recorder.recording().snapshots:
            return None
        with preserved_randomness():
            seen, looked, growth = self._run.look(setup, after.recorder.recording(), after.incident.detected)
        return reason(seen, looked, growth, setup, after.incident.detected, Counterfactuals())

    def _start(self, setup: Setup) -> Snapshot:
        """Return the snapshot to train from: the best epoch before the failure, or the initial weights."""
        if not setup.keeps_weights:
            return self._run.recording.initial
        losses, untrained = self._run.recording.epoch_losses, self._marks.untrained
        begins = {s.epoch: s for s in self._run.recording.snapshots if s.total and s.step == 0}
        judged = {epoch: losses[epoch - 1] for epoch in begins if math.isfinite(losses.get(epoch - 1, math.nan))}
        judged = {epoch: loss for epoch, loss in judged.items() if untrained is None or loss < untrained}
        if not judged:
            return self._run.recording.initial
        best = min(judged.values())
        return begins[max(epoch for epoch, loss in judged.items() if loss <= best + 0.1 * abs(best))]

    def _probe_steps(self, setup: Setup, start: Snapshot) -> int:
        """Return how long a probe trains: past the onset with margin, and a bounded share of the run."""
        detected = self._run.watched.recorder.total_steps - start.total + (setup.stepping.warm_up or 0)
        planned = (self._run.steps_per_epoch or 100) * (self._run.data.epochs - start.epoch)
        return max(min(planned, math.ceil(1.5 * detected) + 8), min(max(WHOLE, int(SHARE * planned)), max(planned // 2, 30)))

    def _measure_marks(self, data_fix: Fix) -> Marks:
        """Measure the marks on data in which a change to the data, if one is called for, is made already."""
        setup = data_fix.apply(self._run.setup)
        self._bench.prepare(setup, self._run.recording.initial)
        untrained, begun = (_known(loss) for loss in (self._bench.held_loss(), self._bench.loss_on(self._run.sampled)))
        kept = replace(setup, sample=kept_sample(setup.sample, setup.rows))
        return Marks(untrained, constant_loss(kept, filtered(self._run.held, setup.rows)), begun)

    def _judge(self, fix: Fix) -> TrialRecord:
        setup = fix.apply(self._run.setup)
        start = self._start(setup)
        _rewind(self._run.data, start)
        probe = self._bench.probe(setup, start, self._probe_steps(setup, start), self._run.seed, LOST * self._marks.highest)
        verdict = "non-finite" if probe.loss is None else "held"
        if probe.loss is not None and self._marks.untrained is not None and probe.loss >= self._marks.untrained:
            verdict = "not learning"
        came_from = "initial weights" if start.total == 0 else f"epoch {start.epoch}"
        return TrialRecord(fix.edits, came_from, probe.steps, probe.loss, verdict, probe.seconds)

    def _adopt(self, fix: Fix, diagnosis: Diagnosis) -> Report | None:
        """Train the user's epochs with `fix`; None when it did not hold or did not learn."""
        run, bench, stages = self._run, self._bench, fix.stages(self._run.setup)
        setup = (self._run.setup, *stages)[-1]
        start, after = self._trained(setup)
        if after.incident is not None:
            return None
        loss = bench.held_loss()
        if bench.judges and (not math.isfinite(loss) or loss >= self._marks.bar):
            return None
        unjudged = [] if bench.judges else [UNJUDGED]
        notes = (*run.watched.notes, *self._uncovered, *unjudged, *bench.hand_back(setup))
        history, epoch = merged_history(run.watched, after, start.epoch)
        if bench.moment(setup) is None:
            save_after_all(user_callbacks(run.data), run.model, history, epoch)
        told = {"trials": self._trials, "refused": self._refused, "notes": notes, "recorder": after.recorder.usage()}
        report = Report(Outcome.REPAIRED, run.model, history, epoch, dict(after.params), diagnosis, fix, stages=stages, **told)
        say(run.data, "Repaired. " + " ".join(str(fix).splitlines()))
        return report


def _known(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None


def _rewind(data: TrainingData, start: Snapshot) -> None:
    if isinstance(data.x, Rewindable):
        data.x.rewind(start.total)
