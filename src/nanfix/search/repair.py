"""From a diagnosis to a repaired model: search, and search on where a treatment
uncovers another cause.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from nanfix.changes.guards import Guards
from nanfix.explain.incident import Incident
from nanfix.install.workbench import Workbench
from nanfix.model.quiet import quiet
from nanfix.records.budget import Budget
from nanfix.records.diagnosis import Diagnosis
from nanfix.remedies.fix import Fix
from nanfix.remedies.strategy import Strategy
from nanfix.report.report import Outcome, Report
from nanfix.report.trial import TrialRecord
from nanfix.search._own_reach import overfitted
from nanfix.search.adoption import Adoption
from nanfix.search.judge import Judge, measure_baselines
from nanfix.search.search_round import SearchRound
from nanfix.search.space import Space, build_space
from nanfix.search.verdict import Baselines
from nanfix.search.workers.pool import Workers
from nanfix.search.workers.shared_run import SharedRun

# Causes that are treated one after the other, each uncovered by the treatment of the one before.
ROUNDS = 3
SETTLED = 2  # fixes that did not learn are trained with at most, to find one that stays finite
FURTHER = 1.25  # times the validation loss of a run that overfits, what it may go on to


class Repair:
    """The repair of one run, in rounds: what was tried, and what the report says of it."""

    def __init__(self, run: Incident, workers: Workers):
        self._run = run
        self._net = run.net
        self._bench = Workbench(run.run, run.data, run.validation, run.sites, run.recorded)
        self._trials: tuple[TrialRecord, ...] = ()
        self._refused: Mapping[str, str] = {}
        self._notes: list[str] = []
        self._shared = SharedRun(workers, self._notes)
        self._adoption: Adoption | None = None

    @quiet()
    def report(
        self,
        diagnosis: Diagnosis,
        strategies: dict[str, Strategy],
        budget: Budget,
        deadline: float,
        folder: Path,
    ) -> Report:
        """Search, and train with what holds. Where nothing does, search on from what treats the
        cause but uncovers another.

        After the `deadline`, in seconds of `time.monotonic`, no trial and no proof begins, and no
        training but one with the best fix found by then.
        """
        self._shared.share(folder / "worker-input", self._run.failed)  # before the model is changed
        self._bench.open()
        try:
            report = self._rounds(diagnosis, strategies, budget, deadline, folder)
            report = report or self._settled(diagnosis)
            report = report or self._adopting().as_keras(diagnosis)
        finally:
            self._bench.close()
        if report is None:
            notes = (
                *self._notes,
                *(() if self._trials else ("No installed strategy treats this cause.",)),
            )
            report = self._run.unrepaired(Outcome.EXHAUSTED, diagnosis, notes)
        # What one round has refused, another may have tried.
        tried = {edit.strategy for trial in self._trials for edit in trial.edits}
        refused = {name: why for name, why in self._refused.items() if name not in tried}
        return replace(report, trials=self._trials, refused=refused)

    def _rounds(
        self,
        diagnosis: Diagnosis,
        strategies: dict[str, Strategy],
        budget: Budget,
        deadline: float,
        folder: Path,
    ) -> Report | None:
        """Search round after round, each on top of the edits that treat the causes found so far."""
        base_fix, shown = Fix(), diagnosis
        baselines, tiers = Baselines(), {n: each.tier for n, each in strategies.items()}
        for number in range(ROUNDS):
            space = build_space(
                strategies, shown, self._run.run, base_fix.plan(self._run.run), self._net
            )
            self._refused = {**space.refused, **self._refused}
            if not space.families:
                return None
            if number == 0:
                baselines = self._measured(space)
            judge = Judge(self._run.failed, self._bench, baselines, base_fix, self._net)
            adoption = self._adopting(judge)
            treated = Fix((*base_fix.edits, *space.called_for().edits))
            ahead = shown.behind is not None and treated != base_fix
            if not ahead:
                this_round = SearchRound(
                    self._run,
                    space,
                    base_fix,
                    tiers=tiers,
                    judge=judge,
                    adoption=adoption,
                    shared=self._shared,
                    folder=folder / f"round-{number + 1}",
                )
                report = this_round.report(
                    diagnosis, replace(budget, trials=budget.trials - len(self._trials)), deadline
                )
                self._trials = (*self._trials, *this_round.trials)
                if report is not None:
                    return report
                if len(self._trials) >= budget.trials or not self._uncovers(treated):
                    return None
            treated, found = self._next(treated, strategies, shown, deadline)
            if found is not None:
                shown, base_fix = found, self._at_work(treated)
            elif ahead:  # it does not fail of that after all
                shown = replace(shown, behind=None)
            else:
                return None
            if found is not None and not ahead:
                another = f"{found.cause.sentence}, {found.place}"
                self._notes.append(f"Once this cause was treated, another one appeared: {another}.")
        return None

    def _next(
        self, treated: Fix, strategies: dict[str, Strategy], shown: Diagnosis, deadline: float
    ) -> tuple[Fix, Diagnosis | None]:
        """Return what treats the causes found so far, and why a training with it fails, if it does.

        Where the diagnosis has said what is behind, the cause is treated as it was there. Together
        with what does the same in another way, as a formula that is written anew beside a guard, it
        may fail elsewhere.
        """
        adoption, names = self._adopting(), {edit.strategy for edit in treated.edits}
        found = self._uncovered(treated, adoption, shown, deadline)
        single = [e for e in treated.edits if not strategies[e.strategy].instead_of & names]
        alone, behind = Fix(tuple(single)), shown.behind
        if found is None or behind is None or behind.spot == found.place.spot or alone == treated:
            return treated, found
        again = self._uncovered(alone, adoption, shown, deadline)
        as_said = again is not None and again.place.spot == behind.spot
        return (alone, again) if as_said else (treated, found)

    def _uncovered(
        self, treated: Fix, adoption: Adoption, shown: Diagnosis, deadline: float
    ) -> Diagnosis | None:
        """Train with what treats the causes found so far until that fails; return why, None where
        it does not, or of what was shown before.
        """
        # So long it may take to fail again.
        if time.monotonic() + self._run.watched.seconds > deadline:
            return None
        found = self._net.attempt(
            "looking for another cause", partial(adoption.failure, treated), None
        )
        return found if found and found.place.spot != shown.place.spot else None

    def _adopting(self, judge: Judge | None = None) -> Adoption:
        """Return what trains with fixes, made with the first judge there is."""
        if self._adoption is None:
            judge = judge or Judge(self._run.failed, self._bench, Baselines(), net=self._net)
            self._adoption = Adoption(self._run, self._bench, judge, self._notes)
        return self._adoption

    def _settled(self, diagnosis: Diagnosis) -> Report | None:
        """Return the report of a training that stays finite, where none learned; None where none
        does.

        What was trained in full counts first, then what only did not learn as a probe.
        """
        if self._adoption is None:
            return None
        probed = [
            (trial.loss, Fix(trial.edits))
            for trial in self._trials
            if trial.verdict == "not learning" and trial.loss is not None
        ]
        known = self._adoption.finite or probed
        for _, fix in sorted(known, key=lambda each: (each[0], len(each[1].edits)))[:SETTLED]:
            report = self._adoption.settle(fix, diagnosis)
            if report is not None:
                return report
        return None

    def _measured(self, space: Space) -> Baselines:
        """Return the baselines, on data without the faults that the evidence calls to
        be mended first.
        """
        cleaned = next(iter(space.data_fixes()), Fix())
        measure = partial(measure_baselines, self._run.failed, self._bench, cleaned)
        baselines = self._net.attempt(
            "measuring what a model that has learned nothing reaches", measure, Baselines()
        )
        risen = overfitted(self._run.watched.history)
        return baselines if risen is None else replace(baselines, overfitted=FURTHER * risen)

    def _at_work(self, fix: Fix) -> Fix:
        """Return the fix without the edits that are guards of what no graph computes: they did
        nothing in the training just now.
        """
        idle = set(self._bench.idle(fix.plan(self._run.run)))
        kept = []
        for edit in fix.edits:
            guards = Fix((edit,)).plan(self._run.run).of(Guards).guards
            if not guards or {*guards} - idle:
                kept.append(edit)
        return Fix(tuple(kept))

    def _uncovers(self, fix: Fix) -> bool:
        """Say whether this very fix was tried and its probe turned non-finite, so that
        there is a failure to look at.
        """
        return any(
            trial.edits == fix.edits and trial.verdict == "non-finite" for trial in self._trials
        )
