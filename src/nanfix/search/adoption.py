"""Train the user's own epochs with a fix, and hand the repaired model back."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from nanfix.changes.guards import Guards
from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.data.row_filter import filtered, unknown_length
from nanfix.explain.incident import Incident, say
from nanfix.explain.loss_probe import what_to_look_for
from nanfix.install.players import untrained
from nanfix.install.workbench import Workbench
from nanfix.model.faults import is_refusal
from nanfix.model.outputs import output_names, trained_outputs
from nanfix.model.randomness import preserved_randomness
from nanfix.model.snapshot import nonfinite_variables, take_as_it_is
from nanfix.recorder.callbacks import end
from nanfix.recorder.recording import OUTGROWN
from nanfix.recorder.watch import Watched, merged_history, watch
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis
from nanfix.records.errors import CannotHandBack
from nanfix.remedies.fix import Fix
from nanfix.report.report import Outcome, Report
from nanfix.search._own_losses import BY_ITSELF, UNKNOWN
from nanfix.search._own_reach import OwnReach
from nanfix.search._proof import Proof
from nanfix.search._reach import Reach
from nanfix.search._shortcomings import NOT_MOVED, Began, Shortcomings
from nanfix.search.judge import Judge, beginning
from nanfix.search.verdict import holds

AS_KERAS = (
    "The loss is not finite, but its gradient is: trained on as Keras does, the model is finite, "
    "as it is without nanfix."
)

ENDED = {Outcome.REPAIRED: "repaired", Outcome.FINITE: "finite, but not repaired"}
BETTER_BEFORE = (
    "The last good state of the run is better than a training that stays finite: of that, {}."
)
OVERFITS = (
    "The loss on the validation data rises while that on the training rows falls, as it did before "
    "the failure: the training overfits."
)

UNPROVED = (
    "Not proved: it works in this training, but not with another seed or over more steps; nothing "
    "else did better."
)


class Adoption:
    """Trains the user's epochs with fixes, one after the other, until one works and learns.

    Args:
        notes: the notes of the repair, to which these trainings add theirs.
    """

    def __init__(self, run: Incident, bench: Workbench, judge: Judge, notes: list[str]):
        self._run, self._bench, self._judge, self._notes = run, bench, judge, notes
        self._shortcomings = Shortcomings(run, bench, judge)
        self._reached = run.detected.epoch  # of the latest training, from 1
        self._trained: list[Fix] = []
        self._own_reach = OwnReach(run.recording.good, run.watched.history, bench)
        # The losses and fixes of trainings that held, but did not learn.
        self.finite: list[tuple[float, Fix]] = []

    def has_trained(self, fix: Fix) -> bool:
        """Say whether the user's epochs were trained with this very fix already."""
        return fix in self._trained

    def adopt(
        self, fix: Fix, diagnosis: Diagnosis, proof: Proof | str, *, of_data: bool = False
    ) -> Report | None:
        """Return the report of the training with `fix`; None when it failed, did not learn, or
        could not be computed. `of_data` says that it only treats what the run was given.
        """
        return self._caught(partial(self._adopt, fix, diagnosis, proof, of_data=of_data))

    def settle(self, fix: Fix, diagnosis: Diagnosis) -> Report | None:
        """Return the report of a training that only has to stay finite, and to end no worse than
        the last good state of the run; None where it does not.
        """
        return self._caught(partial(self._adopt, fix, diagnosis, UNPROVED, learning=False))

    def _caught(self, train: Callable[[], Report | None]) -> Report | None:
        try:
            report = train()
        except Exception as error:
            if self._run.net.is_users_own(error) or not is_refusal(error):
                self._run.net.caught("training with the fix", error)
            report = None
        if report is None:  # what comes next looks at the user's own model
            self._bench.take_back()
        return report

    def as_keras(self, diagnosis: Diagnosis) -> Report | None:
        """Return the report of the training as Keras would have gone on with it, where that leaves
        a model with weights of their usual size: the loss was not finite, but its gradient was.
        None where it does not.
        """
        if diagnosis.gradient_norm is None:
            return None
        return self._caught(partial(self._as_keras, diagnosis))

    def _as_keras(self, diagnosis: Diagnosis) -> Report | None:
        run, recording = self._run, self._run.recording
        start = recording.start_of_epoch
        say(run.data, "nanfix: nothing worked; training on as Keras does.")
        run.written.keep()
        run.data.rewind(start.total)
        self._bench.prepare(Plan(), start, run.seed)
        watching = replace(run.watching, store=None)
        after = watch(run.model, run.data, watching, start=start, begun=run.begun, through=True)
        run.begun = after.begun
        norm = take_as_it_is(run.model).weight_norm
        if nonfinite_variables(run.model) or norm > OUTGROWN * recording.initial.weight_norm:
            return None
        ended = end(run.model, run.begun, after.history)
        run.begun = ()
        history, epoch = merged_history(run.watched, after, start.epoch)
        return Report(
            outcome=Outcome.EXHAUSTED,
            model=run.model,
            history=history,
            epoch=epoch,
            params=dict(after.params),
            diagnosis=diagnosis,
            notes=(
                *(*run.watched.notes, *self._notes, *ended),
                f"{AS_KERAS} {what_to_look_for(run.run)}",
            ),
            run=run.run.outline(),
        )

    def failure(self, fix: Fix) -> Diagnosis | None:
        """Train with `fix` until that fails, and return why; None when it does not."""
        plan = fix.plan(self._run.run)
        try:
            *_, after = self._train(
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
            evidence = self._run.look(plan, after.recorder.recording(), detected)
        return self._run.reasoned(detected, evidence)

    def _adopt(
        self,
        fix: Fix,
        diagnosis: Diagnosis,
        proof: Proof | str,
        *,
        of_data: bool = False,
        learning: bool = True,
    ) -> Report | None:
        run, stages = self._run, fix.stages(self._run.run)
        plan = (Plan(), *stages)[-1]
        begun = self._judge.begun(plan)
        reached, kept = self._reached_before(plan, diagnosis)
        trained = self._train_on(fix, plan)
        if trained is None:
            return None
        began, after = trained
        overfits = self._own_reach.overfits(plan, after.history)
        reached = math.inf if overfits else reached
        loss, lacking, held_back = self._shortcomings.of(
            after, began, begun, plan, diagnosis, reached=reached, of_data=of_data
        )
        # A training that has skipped every step is none.
        skipped = lacking == NOT_MOVED and plan.of(OptimizerSettings).skip_nonfinite
        if lacking is not None and not skipped and math.isfinite(loss):
            self.finite.append((loss, fix))
        lost = learning or skipped or not holds(loss, kept)
        if lacking not in (None, *UNKNOWN) and lost:
            say(run.data, f"nanfix: finite with the fix, but {lacking}; searching on.")
            self._notes += [] if learning else [BETTER_BEFORE.format(lacking)]
            return None
        ended = end(run.model, run.begun, after.history)
        run.begun = ()
        try:
            handed_back = self._bench.hand_back(plan)
        except CannotHandBack as refused:
            self._notes.append(str(refused))
            return None
        history, epoch = merged_history(run.watched, after, began.start.epoch)
        notes = self._told(lacking, handed_back, proof, overfits)
        report = Report(
            outcome=Outcome.REPAIRED if lacking is None else Outcome.FINITE,
            model=run.model,
            history=history,
            epoch=epoch,
            params=dict(after.params),
            diagnosis=diagnosis,
            fix=fix,
            notes=(*run.watched.notes, *after.notes, *notes, *held_back, *ended),
            recorder=after.recorder.usage(),
            run=run.run.outline(),
            stages=stages,
            spread=0.0 if isinstance(proof, str) else proof.spread,
        )
        say(run.data, f"nanfix: {ENDED[report.outcome]}. " + " ".join(str(fix).splitlines()))
        return report

    def _train_on(self, fix: Fix, plan: Plan) -> tuple[Began, Watched] | None:
        """Train on with a fix, and return what `_train` does; None where that is no training."""
        try:
            began, after = self._train(fix, plan, "training on with the fix.")
        except CannotHandBack as refused:  # at the first file that a callback saves
            self._notes.append(str(refused))
            return None
        if after.incident is not None:
            say(
                self._run.data,
                f"nanfix: the fix failed at {after.incident.detected}; searching on.",
            )
            return None
        return began, after

    def _reached_before(self, plan: Plan, diagnosis: Diagnosis) -> tuple[float, float]:
        """Return the losses that the user's own run had reached, in its best epoch and in its last
        good state; inf where the loss has no least value, so that a low one is no good.
        """
        if Cause.NO_LOWER_BOUND in diagnosis.causes:
            return math.inf, math.inf
        return self._own_reach.best(plan), self._own_reach.kept(plan)

    def _told(
        self, lacking: str | None, handed_back: list[str], proof: Proof | str, overfits: bool
    ) -> list[str]:
        """Return the notes of a training that held."""
        unjudged = [BY_ITSELF.format(self._bench.unjudged)] if self._bench.unjudged else []
        if lacking is not None:
            return [*handed_back, *unjudged, f"It falls short of a repair: {lacking}."]
        proved = proof if isinstance(proof, str) else proof.sentence(not self._bench.unjudged)
        overfitted = [OVERFITS] if overfits else []
        return [*self._notes, *unjudged, *handed_back, proved, *overfitted]

    def _reach(self, plan: Plan) -> Reach | None:
        """Look at the first gradients of the prepared plan, where they may be cut off unseen: by a
        guard, behind the loss of another output, or in a loss of which no constant is known that
        the training has to beat.
        """
        run, baselines = self._run.run, self._judge.baselines
        trained = {*trained_outputs(run)} & {*baselines.figures}  # one may have no loss
        if not (plan.of(Guards).guards or trained) and baselines.constant is not None:
            return None
        names = [f"{name}_loss" for name in output_names(run)]
        places = {name: place for place, name in enumerate(names) if name in trained}
        looking = partial(Reach, self._bench, places)
        return self._run.net.attempt("looking at the first gradients", looking, None)

    def _train(self, fix: Fix, plan: Plan, then: str) -> tuple[Began, Watched]:
        """Train the user's epochs with `plan`, which `fix` makes, the recorder on; return where
        that began, and what was seen.

        A durable run that was killed in this very training goes on with it. `then` says to the user
        what follows the rollback.
        """
        run, start = self._run, beginning(self._run.failed, self._judge.baselines, plan)
        whence = (
            f"from epoch {self._reached} to"
            if self._reached > start.epoch + 1
            else "to the beginning of"
        )
        say(run.data, f"nanfix: rolled back {whence} epoch {start.epoch + 1}; {then}")
        run.written.keep()
        run.data.rewind(start.total)
        self._bench.prepare(plan, start, run.seed)
        began = Began(start, untrained(run.model, start, run.recording.initial), self._reach(plan))
        store = run.watching.store and run.watching.store.part(fix.digest)
        if store is not None and (not run.watching.durable or self.has_trained(fix)):
            store.clear()
        self._trained.append(fix)
        rows = plan.of(RowFilter)
        data, watching = filtered(run.data, rows), replace(run.watching, store=store)
        with unknown_length(rows), self._bench.saving(plan):
            adapt = partial(plan.callbacks, run.run)
            after = watch(run.model, data, watching, adapt=adapt, start=start, begun=run.begun)
        run.begun = after.begun
        last = 1 + max(after.epoch, default=start.epoch)
        self._reached = after.incident.detected.epoch if after.incident is not None else last
        return began, after
