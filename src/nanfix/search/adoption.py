"""Train the user's own epochs with a fix, and hand the repaired model back."""

import math
from dataclasses import replace

from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.data.row_filter import filtered, unknown_length
from nanfix.explain.counterfactuals import Counterfactuals
from nanfix.explain.incident import Incident, say
from nanfix.install.workbench import Workbench
from nanfix.model.faults import is_refusal
from nanfix.model.randomness import preserved_randomness
from nanfix.model.running_statistics import faults
from nanfix.model.snapshot import Snapshot
from nanfix.recorder.callbacks import end
from nanfix.recorder.watch import Watched, merged_history, watch
from nanfix.records.diagnosis import Diagnosis
from nanfix.records.errors import CannotHandBack
from nanfix.remedies.fix import Fix
from nanfix.report.report import Outcome, Report
from nanfix.search.judge import Baselines, beginning

UNJUDGED = (
    "The model has no call of its own, so it could not be evaluated: the training is finite, "
    "whether it learns is not known."
)


class Adoption:
    """Trains the user's epochs with fixes, one after the other, until one holds and learns.

    Args:
        notes: the notes of the repair, to which these trainings add theirs.
    """

    def __init__(self, run: Incident, bench: Workbench, baselines: Baselines, notes: list[str]):
        self._run, self._bench, self._baselines, self._notes = run, bench, baselines, notes
        self._reached = run.detected.epoch  # of the latest training, from 1

    def adopt(self, fix: Fix, diagnosis: Diagnosis, proof: str) -> Report | None:
        """Return the report of the training with `fix`; None when it failed, did not learn, or
        could not be computed.
        """
        try:
            return self._adopt(fix, diagnosis, proof)
        except Exception as error:
            if self._run.net.is_users_own(error) or not is_refusal(error):
                self._run.net.caught("training with the fix", error)
            return None

    def failure(self, fix: Fix) -> Diagnosis | None:
        """Train with `fix` until that fails, and return why; None when it does not."""
        plan = fix.plan(self._run.run)
        try:
            _, after = self._train(
                fix,
                plan,
                "training with what treats this cause, to see whether another is behind it.",
            )
        except CannotHandBack:  # at the first file that a callback saves
            return None
        if after.incident is None or not after.recorder.recording().snapshots:
            return None
        with preserved_randomness():
            detected = after.incident.detected
            seen, looked, growth = self._run.look(plan, after.recorder.recording(), detected)
        return self._run.reasoned(detected, seen, looked, growth, Counterfactuals())

    def _adopt(self, fix: Fix, diagnosis: Diagnosis, proof: str) -> Report | None:
        run, stages = self._run, fix.stages(self._run.run)
        plan = (Plan(), *stages)[-1]
        try:
            start, after = self._train(fix, plan, "training on with the fix.")
        except CannotHandBack as refused:  # at the first file that a callback saves
            self._notes.append(str(refused))
            return None
        if after.incident is not None:
            say(run.data, f"nanfix: the fix failed at {after.incident.detected}; searching on.")
            return None
        if not self._learned():
            say(
                run.data,
                "nanfix: finite with the fix, but no better than a constant prediction; searching "
                "on.",
            )
            return None
        end(run.begun, after.history)
        run.begun = ()
        unjudged = [] if self._bench.judges else [UNJUDGED]
        try:
            handed_back = self._bench.hand_back(plan)
        except CannotHandBack as refused:
            self._notes.append(str(refused))
            return None
        history, epoch = merged_history(run.watched, after, start.epoch)
        report = Report(
            outcome=Outcome.REPAIRED,
            model=run.model,
            history=history,
            epoch=epoch,
            params=dict(after.params),
            diagnosis=diagnosis,
            fix=fix,
            notes=(*run.watched.notes, *after.notes, *self._notes, *unjudged, *handed_back, proof),
            recorder=after.recorder.usage(),
            run=run.run.outline(),
            stages=stages,
        )
        say(run.data, "nanfix: repaired. " + " ".join(str(fix).splitlines()))
        return report

    def _learned(self) -> bool:
        """Say whether the model is better than one that has learned nothing; of one
        that cannot be judged that it is. One whose statistics are of no use has learned nothing.
        """
        if faults(self._run.model):
            return False
        loss = self._bench.validation_loss()
        return not self._bench.judges or (math.isfinite(loss) and loss < self._baselines.threshold)

    def _train(self, fix: Fix, plan: Plan, then: str) -> tuple[Snapshot, Watched]:
        """Train the user's epochs with `plan`, which `fix` makes, the recorder on; return where
        that began and what was seen.

        A durable run that was killed in this very training goes on with it. `then` tells the user
        what follows the rollback.
        """
        run, start = self._run, beginning(self._run.failed, self._baselines, plan)
        whence = (
            f"from epoch {self._reached} to"
            if self._reached > start.epoch + 1
            else "to the beginning of"
        )
        say(run.data, f"nanfix: rolled back {whence} epoch {start.epoch + 1}; {then}")
        run.written.keep()
        run.data.rewind(start.total)
        self._bench.prepare(plan, start, run.seed)
        store = run.watching.store and run.watching.store.part(fix.digest)
        if store is not None and not run.watching.durable:
            store.clear()
        rows = plan.of(RowFilter)
        data, watching = filtered(run.data, rows), replace(run.watching, store=store)
        with unknown_length(rows), self._bench.saving(plan):
            adapt = self._bench.adapted(plan)
            after = watch(run.model, data, watching, adapt=adapt, start=start, begun=run.begun)
        run.begun = after.begun
        last = 1 + max(after.epoch, default=start.epoch)
        self._reached = after.incident.detected.epoch if after.incident is not None else last
        return start, after
