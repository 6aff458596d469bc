"""From a diagnosis to a repaired model: search, prove, adopt, and search on where a treatment uncovers another cause."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.data.row_filter import filtered, unknown_length
from nanfix.explain.counterfactuals import Counterfactuals
from nanfix.explain.incident import Incident, say, shows
from nanfix.install.workbench import Workbench
from nanfix.model.faults import is_refusal
from nanfix.model.quiet import quiet
from nanfix.model.randomness import preserved_randomness
from nanfix.model.snapshot import Snapshot
from nanfix.recorder.callbacks import end
from nanfix.recorder.watch import Watched, merged_history, watch
from nanfix.records.budget import Budget
from nanfix.records.diagnosis import Diagnosis
from nanfix.records.errors import CannotHandBack, NanfixError
from nanfix.remedies.fix import Fix
from nanfix.remedies.strategy import Strategy
from nanfix.report.report import Outcome, Report
from nanfix.report.trial import TrialRecord
from nanfix.search._progress import Progress
from nanfix.search._proof import OutOfTime, Proof, prove
from nanfix.search.judge import Baselines, Judge, beginning, measure_baselines
from nanfix.search.ladder import Candidate
from nanfix.search.search import Found, search
from nanfix.search.space import Space, build_space
from nanfix.search.workers._worker_input import CannotShare, hand_out, share
from nanfix.search.workers.pool import ALONE, WorkerPool, Workers

SOON = 1e-3  # seconds of a budget that is all but spent
ROUNDS = 3  # causes that are treated one after the other, each uncovered by the treatment of the one before
ADOPTIONS = 4  # fixes trained in full before the search counts as exhausted
PROOFS = 8  # fixes that are proved at most
UNJUDGED = (
    "The model has no call of its own, so it could not be evaluated: the training is finite, whether it learns is not known."
)
NO_TIME = "Not proved: the seconds of the budget were spent; it held in its trial and in this training."
UNPROVED = "Not proved: it holds in this training, but not with another seed or over more steps; nothing else did better."


@dataclass(frozen=True)
class SearchRound:
    """One search: its space, on top of the edits of the rounds before it, who judges, and the folder it is kept in."""

    space: Space
    base_fix: Fix
    judge: Judge
    folder: Path

    def whole(self, fix: Fix) -> Fix:
        return Fix((*self.base_fix.edits, *fix.edits))


class Repair:
    """The repair of one run: what was tried, and what a model that has learned nothing reaches."""

    def __init__(self, run: Incident, workers: Workers):
        self._run = run
        self._net = run.net
        self._workers = workers
        self._bench = Workbench(run.run, run.data, run.held, run.sites)
        self._baselines = Baselines()
        self._input_folder: Path | None = None
        self._trials: tuple[TrialRecord, ...] = ()
        self._refused: Mapping[str, str] = {}
        self._told: list[str] = []
        self._reached = run.watched.incident.detected.epoch if run.watched.incident else 0  # epoch of the latest training, from 1

    @quiet()
    def report(
        self, diagnosis: Diagnosis, strategies: dict[str, Strategy], budget: Budget, deadline: float, folder: Path
    ) -> Report:
        """Search, and train with what holds. Where nothing does, search on from what treats the cause but uncovers another.

        After the `deadline`, in seconds of `time.monotonic`, no trial and no proof begins, and no training but one with the
        best fix found by then.
        """
        self._input_folder = self._shared(folder / "worker-input")  # before the model is changed
        self._bench.open()
        base_fix, shown = Fix(), diagnosis
        try:
            for number in range(ROUNDS):
                space = build_space(strategies, shown, self._run.run, base_fix.plan(self._run.run), self._net)
                self._refused = {**space.refused, **self._refused}
                if not space.families:
                    break
                if number == 0:
                    cleaned = next(iter(space.data_fixes()), Fix())
                    measure = partial(measure_baselines, self._run.failed, self._bench, cleaned)
                    self._baselines = self._net.attempt(
                        "measuring what a model that has learned nothing reaches", measure, Baselines()
                    )
                judge = Judge(self._run.failed, self._bench, self._baselines, base_fix, self._net)
                left = replace(budget, trials=budget.trials - len(self._trials))
                report = self._searched(
                    SearchRound(space, base_fix, judge, folder / f"round-{number + 1}"), diagnosis, left, deadline
                )
                if report is not None:
                    return report
                base_fix = Fix((*base_fix.edits, *space.called_for().edits))
                late = time.monotonic() + self._run.watched.seconds > deadline  # so long it may take to fail again
                if len(self._trials) >= budget.trials or late or not self._uncovers(base_fix):
                    break
                found = self._net.attempt("looking for another cause", partial(self._fails_of, base_fix), None)
                if found is None or replace(found.place, values=None) == replace(shown.place, values=None):
                    break
                shown = found
                told = f"{found.cause.sentence}, {found.place}"
                self._told.append(f"Once this cause was treated, another one appeared: {told}.")
        finally:
            self._bench.close()
        notes = (*self._told, *(() if self._trials else ("No installed strategy treats this cause.",)))
        return self._run.unrepaired(Outcome.EXHAUSTED, diagnosis, notes, trials=self._trials, refused=self._refused)

    def _searched(self, this_round: SearchRound, diagnosis: Diagnosis, budget: Budget, deadline: float) -> Report | None:
        """Search, prove and train with the best; None when nothing held.

        A trial that was only lucky counts with what its proof comes to, and what fails in its proof or in the whole training
        goes back to the search. When nothing else is left, what held here but not with other seeds is trained with after all,
        and the report says so.
        """
        earlier, baseline, adoptions = self._trials, self._baselines.constant_or_inf, 0
        revised, proofs, unproved = dict[Candidate, float | None](), dict[Candidate, Proof](), list[Fix]()
        data = [edit for whole in this_round.space.data_fixes()[:1] for edit in whole.edits]
        while adoptions < (1 if time.monotonic() > deadline else ADOPTIONS):
            left = replace(budget, seconds=None if math.isinf(deadline) else max(deadline - time.monotonic(), SOON))
            found = self._net.attempt("searching for a fix", partial(self._found, this_round, left, baseline, revised), None)
            if found is None:
                break
            self._trials = (*earlier, *found.trials)
            candidate = next((c for c in found.fixes if c in proofs or len(revised) < PROOFS), None)
            if candidate is None:
                break
            if candidate not in proofs:
                proving = partial(
                    prove, this_round.judge, found.fixes[candidate], keep=data, baseline=baseline, deadline=deadline
                )
                try:
                    proof = self._net.attempt("proving a fix", proving, None, (OutOfTime,))
                except OutOfTime:
                    return self._adopted(this_round.whole(found.fixes[candidate]), diagnosis, NO_TIME)
                if proof is None:
                    unproved.append(found.fixes[candidate])
                else:
                    proofs[candidate] = proof
                revised[candidate] = proof and max(min(proof.losses), found.losses[candidate])
                continue
            report = self._adopted(this_round.whole(proofs[candidate].fix), diagnosis, str(proofs[candidate]))
            if report is not None:
                return report
            revised[candidate] = None
            adoptions += 1
        for fix in unproved[: ADOPTIONS - adoptions]:
            if adoptions and time.monotonic() > deadline:
                break
            report = self._adopted(this_round.whole(fix), diagnosis, UNPROVED)
            if report is not None:
                return report
            adoptions += 1
        return None

    def _found(
        self, this_round: SearchRound, budget: Budget, baseline: float, revised: Mapping[Candidate, float | None]
    ) -> Found:
        """Search on, by the workers where there are any; without them where they fail."""
        with Progress(shown=shows(self._run.data)) as progress:
            go_on = partial(
                search,
                this_round.space,
                this_round.judge,
                budget=budget,
                seed=self._run.seed,
                directory=this_round.folder,
                baseline=baseline,
                revised=revised,
                progress=progress,
                net=self._net,
            )
            pool = self._worker_pool(this_round)
            try:
                return go_on(pool=pool)
            except NanfixError as failed:
                if pool is None:
                    raise
                self._told.append(f"Searched by one process in the end, since the workers failed: {failed}")
                self._input_folder = None
                return go_on()

    def _adopted(self, fix: Fix, diagnosis: Diagnosis, proof: str) -> Report | None:
        """Train the user's epochs with `fix`; None when it did not hold, did not learn, or could not be computed."""
        try:
            return self._adopt(fix, diagnosis, proof)
        except Exception as error:
            if self._net.is_users_own(error) or not is_refusal(error):
                self._net.caught("training with the fix", error)
            return None

    def _shared(self, folder: Path) -> Path | None:
        """Return the folder from which worker processes take up the run, or None where this process searches alone."""
        if self._workers == ALONE:
            return None
        try:
            share(folder, self._run.failed)
        except CannotShare as reason:
            self._tell_alone(reason)
            return None
        return folder

    def _worker_pool(self, this_round: SearchRound) -> WorkerPool | None:
        if self._input_folder is None:
            return None
        try:
            hand_out(
                self._input_folder, self._run.failed, this_round.space, this_round.base_fix, self._baselines, this_round.folder
            )
        except CannotShare as reason:
            self._tell_alone(reason)
            self._input_folder = None
            return None
        return WorkerPool(self._workers, self._input_folder)

    def _tell_alone(self, reason: CannotShare) -> None:
        self._told.append(f"Searched by one process, since {reason}.")

    def _uncovers(self, fix: Fix) -> bool:
        """Say whether this very fix was tried and its probe turned non-finite, so that there is a failure to look at."""
        return any(trial.edits == fix.edits and trial.verdict == "non-finite" for trial in self._trials)

    def _trained(self, fix: Fix, plan: Plan, then: str) -> tuple[Snapshot, Watched]:
        """Train the user's epochs with `plan`, which `fix` makes, the recorder on; return where that began and what was seen.

        A durable run that was killed in this very training goes on with it. `then` tells the user what follows the rollback.
        """
        run, start = self._run, beginning(self._run.failed, self._baselines, plan)
        whence = f"from epoch {self._reached} to" if self._reached > start.epoch + 1 else "to the beginning of"
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
        self._reached = after.incident.detected.epoch if after.incident is not None else 1 + max(after.epoch, default=start.epoch)
        return start, after

    def _fails_of(self, fix: Fix) -> Diagnosis | None:
        """Train with `fix` until it fails, and say of what; None when it does not."""
        plan = fix.plan(self._run.run)
        try:
            _, after = self._trained(fix, plan, "training with what treats this cause, to see whether another is behind it.")
        except CannotHandBack:  # at the first file that a callback saves
            return None
        if after.incident is None or not after.recorder.recording().snapshots:
            return None
        with preserved_randomness():
            detected = after.incident.detected
            seen, looked, growth = self._run.look(plan, after.recorder.recording(), detected)
        return self._run.reasoned(detected, seen, looked, growth, Counterfactuals())

    def _adopt(self, fix: Fix, diagnosis: Diagnosis, proof: str) -> Report | None:
        """Train the user's epochs with `fix`; None when it did not hold or did not learn."""
        run, bench, stages = self._run, self._bench, fix.stages(self._run.run)
        plan = (Plan(), *stages)[-1]
        try:
            start, after = self._trained(fix, plan, "training on with the fix.")
        except CannotHandBack as refused:  # at the first file that a callback saves
            self._told.append(str(refused))
            return None
        if after.incident is not None:
            say(run.data, f"nanfix: the fix failed at {after.incident.detected}; searching on.")
            return None
        loss = bench.validation_loss()
        if bench.judges and (not math.isfinite(loss) or loss >= self._baselines.threshold):
            say(
                run.data,
                "nanfix: finite with the fix, but no better than a constant prediction; searching on.",
            )
            return None
        end(run.begun, after.history)
        run.begun = ()
        unjudged = [] if bench.judges else [UNJUDGED]
        try:
            handed_back = bench.hand_back(plan)
        except CannotHandBack as refused:
            self._told.append(str(refused))
            return None
        notes = (*run.watched.notes, *after.notes, *self._told, *unjudged, *handed_back, proof)
        history, epoch = merged_history(run.watched, after, start.epoch)
        told = {"trials": self._trials, "refused": self._refused, "notes": notes, "recorder": after.recorder.usage()}
        report = Report(
            Outcome.REPAIRED,
            run.model,
            history,
            epoch,
            dict(after.params),
            diagnosis,
            fix,
            run=run.run.outline(),
            stages=stages,
            **told,
        )
        say(run.data, "nanfix: repaired. " + " ".join(str(fix).splitlines()))
        return report
