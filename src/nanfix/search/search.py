"""The search for a fix, driven by keras-tuner: try candidates until the ladder is done
or the budget spent.
"""

import contextlib
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nanfix.model.faults import Net
from nanfix.private.tuner import forget
from nanfix.records.budget import Budget
from nanfix.remedies.fix import Fix
from nanfix.report.trial import TrialRecord
from nanfix.search._progress import Progress
from nanfix.search._project import claim, mend
from nanfix.search.candidates import NO_HINDSIGHT, Candidate, Hindsight, stable_losses
from nanfix.search.choice import choose
from nanfix.search.oracle import UNLIMITED, LadderOracle
from nanfix.search.space import Space
from nanfix.search.tuner import PROJECT, Judge, ProbeTuner
from nanfix.search.workers.pool import WorkerPool


@dataclass(frozen=True)
class Found:
    """What a search came to: the candidates that held, the one to adopt first in front,
    and every trial in order.
    """

    fixes: Mapping[Candidate, Fix]
    losses: Mapping[Candidate, float]
    trials: tuple[TrialRecord, ...]


def search(
    space: Space,
    judge: Judge,
    *,
    budget: Budget,
    seed: int,
    directory: Path,
    baseline: float = math.inf,
    hindsight: Hindsight = NO_HINDSIGHT,
    progress: Progress | None = None,
    pool: WorkerPool | None = None,
    net: Net | None = None,
) -> Found:
    """Try candidate fixes until the ladder is done or the budget spent; a project in
    `directory` is gone on with.

    Args:
        judge: trains one candidate as a probe and says what came of it.
        budget: a trial that runs when the seconds are spent is finished.
        baseline: the validation loss of a model that has learned nothing; differences
            are judged against it.
        hindsight: what was found out about candidates after their trials.
        progress: shows the trials.
        pool: processes that run the trials in the place of this one.
        net: keeps the faults of strategies, whose candidates are left out.
    """
    deadline = math.inf if budget.seconds is None else time.monotonic() + budget.seconds
    mend(directory / PROJECT)
    claim(directory / PROJECT, space)
    oracle = LadderOracle(
        space,
        max_trials=budget.trials,
        deadline=deadline,
        seed=seed,
        baseline=baseline,
        revised=hindsight.losses,
        progress=progress,
        net=net,
    )
    try:
        with _leading():
            tuner = ProbeTuner(oracle, space, judge, directory)
            tuner.save()  # a later search goes on with this one if it finds its file
            if pool is None:
                tuner.search(verbose=0)
        if pool is not None and oracle.proposes():
            oracle.verbose = 0
            pool.run(oracle)
        finished = oracle.finished()
        ranked = choose(finished, space.families, min(baseline, hindsight.mean), hindsight.noise)
        return Found(
            {candidate: space.fix_of(candidate) for candidate in ranked},
            stable_losses(finished),
            oracle.records(),
        )
    finally:
        forget(oracle)


def work(space: Space, judge: Judge, directory: Path) -> None:
    """Run trials of the search in `directory` that another process leads, until it has no more."""
    oracle = LadderOracle(space, max_trials=UNLIMITED, deadline=math.inf, seed=0, baseline=math.inf)
    ProbeTuner(oracle, space, judge, directory).search(verbose=0)


@contextlib.contextmanager
def _leading() -> Iterator[None]:
    """Let this process lead its own search, also where the user's program is a worker of a search
    of keras-tuner's itself.
    """
    outer = {
        name: os.environ.pop(name) for name in list(os.environ) if name.startswith("KERASTUNER_")
    }
    try:
        yield
    finally:
        os.environ.update(outer)
