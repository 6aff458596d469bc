"""One search, on top of what an earlier one has left: search, prove, and train the
user's epochs with the best.
"""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from nanfix.explain.incident import Incident, shows
from nanfix.records.budget import Budget
from nanfix.records.diagnosis import Diagnosis
from nanfix.records.errors import NanfixError
from nanfix.remedies.fix import Fix
from nanfix.remedies.strategy import Tier
from nanfix.report.report import Report
from nanfix.report.trial import TrialRecord
from nanfix.search._contest import Contest
from nanfix.search._progress import Progress
from nanfix.search._proof import Longer, OutOfTime, Proof, prove
from nanfix.search.adoption import UNPROVED, Adoption
from nanfix.search.candidates import Candidate, Hindsight
from nanfix.search.judge import Judge
from nanfix.search.search import Found, search
from nanfix.search.space import Space
from nanfix.search.workers.shared_run import SharedRun

SOON = 1e-3  # seconds of a budget that is all but spent
ADOPTIONS = 4  # fixes trained in full before the search counts as exhausted
PROOFS = 8  # fixes that are proved at most
NO_TIME = (
    "Not proved: the seconds of the budget were spent; it worked in its trial and in this training."
)


class SearchRound:
    """One search through `space` for what is to be added to `base_fix`, kept in `folder`.

    `tiers` are those of all strategies, by name.
    """

    def __init__(
        self,
        run: Incident,
        space: Space,
        base_fix: Fix,
        *,
        tiers: Mapping[str, Tier],
        judge: Judge,
        adoption: Adoption,
        shared: SharedRun,
        folder: Path,
    ):
        self._run, self._space, self._base_fix, self._folder = run, space, base_fix, folder
        self._judge, self._adoption, self._shared = judge, adoption, shared
        self._tiers = tiers
        self._progress = Progress(shown=shows(run.data))
        self._baseline = judge.baselines.constant_or_inf
        self._mean = judge.baselines.means.get("loss", math.inf)
        self._longer = Longer(judge)
        known = min(self._baseline, self._mean)
        self._contest = Contest(self._longer, space.families, known)
        # Losses found out after the trial, None for what failed.
        self._revised: dict[Candidate, float | None] = {}
        self._proofs: dict[Candidate, Proof] = {}
        self._unproved: list[Fix] = []
        self.trials: tuple[TrialRecord, ...] = ()

    def report(self, diagnosis: Diagnosis, budget: Budget, deadline: float) -> Report | None:
        """Search, prove and train with the best; None when nothing held.

        A trial that was only lucky counts with what its proof comes to, and what fails in its proof
        or in the whole training goes back to the search. When nothing else is left, what held here
        but not with other seeds is trained with after all, and the report says so.
        """
        adoptions = 0
        while adoptions < (1 if time.monotonic() > deadline else ADOPTIONS):
            left = None if math.isinf(deadline) else max(deadline - time.monotonic(), SOON)
            searching = partial(self._found, replace(budget, seconds=left))
            found = self._run.net.attempt("searching for a fix", searching, None)
            if found is None:
                break
            self.trials = found.trials
            left_to_prove = len(self._revised) < PROOFS
            candidate = next(
                (c for c in self._ranked(found, deadline) if c in self._proofs or left_to_prove),
                None,
            )
            if candidate is None:
                break
            if candidate not in self._proofs:
                try:
                    self._prove(candidate, found, deadline)
                except OutOfTime:
                    return self._adopted(found.fixes[candidate], diagnosis, NO_TIME)
                continue
            proof = self._proofs[candidate]
            self._revised[candidate] = None
            if self._adoption.has_trained(self._whole(proof.fix)):
                continue
            report = self._adopted(proof.fix, diagnosis, proof)
            if report is not None:
                return report
            adoptions += 1
        return self._last_resort(diagnosis, ADOPTIONS - adoptions, deadline)

    def _ranked(self, found: Found, deadline: float) -> Iterable[Candidate]:
        """Return what holds in the order in which it is proved."""
        comparing = partial(self._contest.ranked, found, self._noise, deadline)
        with self._progress as progress:
            progress.comparing()
            return self._run.net.attempt("comparing fixes", comparing, found.fixes)

    def _last_resort(self, diagnosis: Diagnosis, left: int, deadline: float) -> Report | None:
        """Train with what held, but not in its proof; after the deadline only if nothing else was
        trained with.
        """
        unproved = [f for f in self._unproved if not self._adoption.has_trained(self._whole(f))]
        for number, fix in enumerate(unproved[:left]):
            if (number or left < ADOPTIONS) and time.monotonic() > deadline:
                break
            report = self._adopted(fix, diagnosis, UNPROVED)
            if report is not None:
                return report
        return None

    def _prove(self, candidate: Candidate, found: Found, deadline: float) -> None:
        """Prove what a search has found, and let the result count in the next. Raises
        OutOfTime at the `deadline`.
        """
        fix = found.fixes[candidate]
        data = [edit for whole in self._space.data_fixes()[:1] for edit in whole.edits]
        exact = {family.strategy for family in self._space.families if family.exact}
        proving = partial(
            prove,
            self._longer,
            fix,
            keep=[*data, *(edit for edit in fix.edits if edit.strategy in exact)],
            baseline=min(self._baseline, self._mean),
            deadline=deadline,
        )
        with self._progress as progress:
            progress.proving(fix)
            proof = self._run.net.attempt("proving a fix", proving, None, (OutOfTime,))
        if proof is None:
            self._unproved.append(fix)
            self._revised[candidate] = None
        else:
            self._proofs[candidate] = proof
            # A lucky trial counts no more.
            self._revised[candidate] = max(min(proof.losses), found.losses[candidate])

    @property
    def _noise(self) -> float:
        return max((proof.spread for proof in self._proofs.values()), default=0.0)

    def _whole(self, fix: Fix) -> Fix:
        return Fix((*self._base_fix.edits, *fix.edits))

    def _adopted(self, fix: Fix, diagnosis: Diagnosis, proof: Proof | str) -> Report | None:
        whole = self._whole(fix)
        of_data = all(self._tiers.get(edit.strategy) == Tier.DATA for edit in whole.edits)
        return self._adoption.adopt(whole, diagnosis, proof, of_data=of_data)

    def _found(self, budget: Budget) -> Found:
        """Search on, by the workers where there are any; without them where they fail."""
        failed = self._run.failed
        with self._progress as progress:
            go_on = partial(
                search,
                self._space,
                self._judge,
                budget=budget,
                seed=self._run.seed,
                directory=self._folder,
                baseline=self._baseline,
                hindsight=Hindsight(self._revised, self._noise, self._mean),
                progress=progress,
                net=self._run.net,
            )
            pool = self._shared.pool(
                failed, self._space, self._base_fix, self._judge.baselines, self._folder
            )
            try:
                return go_on(pool=pool)
            except NanfixError as error:
                if pool is None:
                    raise
                self._shared.give_up(error)
                return go_on()
