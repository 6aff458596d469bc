"""The search for a fix, driven by keras-tuner: an oracle that climbs the ladder and a tuner that runs the probes.

The only module that imports keras_tuner.
"""

import contextlib
import io
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine import base_tuner
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.errors import FailedTrialError

from nanfix.budget import Budget
from nanfix.diagnosis import Diagnosis
from nanfix.fix import Edit, Fix
from nanfix.ladder import Candidate, Rung, choose, grounds, in_order, ladder
from nanfix.report import TrialRecord
from nanfix.setup import Setup
from nanfix.strategy import Refusal, Strategy, Tier

PROJECT, ORACLE, COPY = "search", "oracle.json", "oracle-copy.json"
OBJECTIVE = keras_tuner.Objective("held_loss", "min")
UNLIMITED = 1_000_000
STRONG = 0.5  # weight of a finding from which its remedies are tried first, and together

Judge = Callable[[Fix], TrialRecord]


@dataclass(frozen=True)
class Space:
    """The applicable strategies as one keras-tuner space: a switch for each, its parameters in a scope under it.

    `levels` lists, mild to strong, the values of each strategy's parameters; `refused` gives the reason for each strategy
    that treats or eases the cause but cannot be applied here.
    """

    strategies: Mapping[str, Strategy]
    rungs: tuple[Rung, ...]
    levels: Mapping[str, tuple[Mapping[str, Any], ...]]
    hyperparameters: keras_tuner.HyperParameters
    diagnosis: Diagnosis
    setup: Setup
    refused: Mapping[str, str]

    def values(self, candidate: Candidate) -> dict[str, Any]:
        """Return the values by which keras-tuner knows a candidate."""
        chosen = dict(candidate)
        values: dict[str, Any] = {name: name in chosen for name in self.strategies}
        for name, level in candidate:
            values.update(self.levels[name][level])
        return values

    def candidate(self, values: Mapping[str, Any]) -> Candidate:
        """Return the candidate that these values stand for."""
        pairs = []
        for name in self.strategies:
            if values.get(name):
                own = {key: value for key, value in values.items() if key.startswith(f"{name}/")}
                pairs.append((name, self.levels[name].index(own)))
        return in_order(tuple(pairs), self.rungs)

    def data_fixes(self) -> list[Fix]:
        """Return the changes to the data alone: those that the evidence calls for first, then the other ones."""
        return [_fix_of(self, ground) for ground in grounds(self.rungs) if ground]

    def called_for(self) -> Fix:
        """Return what strong evidence calls for, each strategy at its mildest."""
        called = tuple((rung.strategy, 0) for rung in self.rungs if rung.called_for)
        return _fix_of(self, in_order(called, self.rungs))

    def fix(self, hp: keras_tuner.HyperParameters) -> Fix:
        """Return the fix that the values in `hp` mean for this setup."""
        fix, setup = Fix(), self.setup
        for name, _ in self.candidate(hp.values):
            with _scope(hp, name):
                edit = Edit(name, self.strategies[name].space(hp, self.diagnosis, setup))
            setup = Fix((edit,)).apply(setup)
            fix = Fix((*fix.edits, edit))
        return fix


def build_space(strategies: Mapping[str, Strategy], diagnosis: Diagnosis, setup: Setup) -> Space:
    """Ask every strategy that applies for its parameters, each in a conditional scope of its own."""
    hp = keras_tuner.HyperParameters()
    strong = {finding.cause for finding in diagnosis.findings if finding.weight >= STRONG}
    answers = {name: strategy.applies(diagnosis, setup) for name, strategy in strategies.items()}
    applicable = {name: strategy for name, strategy in strategies.items() if answers[name]}
    refused = {name: answer.reason for name, answer in answers.items() if isinstance(answer, Refusal)}
    rungs, levels, covered = [], {}, set()
    for name, strategy in applicable.items():
        hp.Boolean(name)
        hp.values[name] = True  # keras-tuner declares nothing in a scope that is switched off
        with _scope(hp, name):
            strategy.space(hp, diagnosis, setup)
        levels[name] = tuple(_levels([p for p in hp.space if p.name.startswith(f"{name}/")]))
        treated = strategy.treats & strong
        indicated, last_resort = bool(treated), not strategy.treats & diagnosis.causes
        if strategy.tier == Tier.DATA:  # a second change to the data for the same cause is an alternative
            treated, covered = treated - covered, covered | treated
        called_for = strategy.tier != Tier.OPTIMIZER and bool(treated)
        rungs.append(Rung(name, int(strategy.tier), len(levels[name]), called_for, indicated, last_resort))
    hp.values = dict.fromkeys(applicable, False)
    return Space(applicable, tuple(rungs), levels, hp, diagnosis, setup, refused)


@contextlib.contextmanager
def _scope(hp: keras_tuner.HyperParameters, name: str) -> Iterator[None]:
    with hp.conditional_scope(name, [True]), hp.name_scope(name):
        yield


def _levels(parameters: list[Any]) -> list[dict[str, Any]]:
    """Return the levels, mild to strong; where several parameters vary, they grow stronger together."""
    columns = {
        p.name: list(getattr(p, "values", None) or [p.prob_to_value(q) for q in (0.01, 0.33, 0.66, 0.99)]) for p in parameters
    }
    count = max(map(len, columns.values()), default=1)
    return [{name: column[min(level, len(column) - 1)] for name, column in columns.items()} for level in range(count)]


class LadderOracle(keras_tuner.Oracle):
    """Proposes what the ladder says next, given what the finished trials reached."""

    def __init__(self, space: Space, *, max_trials: int, deadline: float, seed: int, bar: float):
        super().__init__(
            objective=OBJECTIVE,
            max_trials=max_trials,
            hyperparameters=space.hyperparameters,
            allow_new_entries=False,
            tune_new_entries=False,
            seed=seed or None,
            max_retries_per_trial=0,
            max_consecutive_failed_trials=UNLIMITED,
        )
        self._space = space
        self._deadline = deadline
        self._bar = bar

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        candidate = self._next()
        if candidate is None or time.monotonic() > self._deadline:
            return {"status": "STOPPED"}
        return {"status": "RUNNING", "values": self._space.values(candidate)}

    def save(self) -> None:
        super().save()
        partial = Path(self._project_dir, f".{COPY}")
        shutil.copyfile(Path(self._project_dir, ORACLE), partial)
        os.replace(partial, partial.with_name(COPY))

    def finished(self) -> dict[Candidate, float | None]:
        """Return every candidate tried and the loss it reached; None where it did not hold."""
        trials = [self.trials[trial_id] for trial_id in self.end_order]
        return {
            self._space.candidate(t.hyperparameters.values): t.score if t.status == TrialStatus.COMPLETED else None
            for t in trials
        }

    def _next(self) -> Candidate | None:
        finished, walk = self.finished(), ladder(self._space.rungs, self._bar)
        try:
            candidate = next(walk)
            while candidate in finished:
                candidate = walk.send(finished[candidate])
        except StopIteration:
            return None
        return candidate


class ProbeTuner(base_tuner.BaseTuner):
    """Runs each trial as a probe through `judge` and keeps its record beside the trial."""

    def __init__(self, oracle: LadderOracle, space: Space, judge: Judge, directory: Path):
        self._space = space
        self._judge = judge
        self.records: dict[str, TrialRecord] = {}
        with contextlib.redirect_stdout(io.StringIO()):  # "Reloading Tuner from ..." is printed whatever verbose says
            super().__init__(oracle, directory=str(directory), project_name=PROJECT, overwrite=False)

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> float:
        record = self._judge(self._space.fix(trial.hyperparameters))
        self.records[trial.trial_id] = record
        if record.loss is None or record.verdict != "held":
            raise FailedTrialError(record.verdict)
        return record.loss

    def _try_run_and_update_trial(self, trial: Any, *args: Any, **kwargs: Any) -> None:
        """Run a trial; one that did not hold is no error, and an error of ours is no failed trial."""
        try:
            self._run_and_update_trial(trial)
            trial.status = TrialStatus.COMPLETED
        except FailedTrialError as failed:
            trial.status = TrialStatus.FAILED
            trial.message = str(failed)

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing to take over: the oracle holds the trials."""


@dataclass(frozen=True)
class Found:
    """What a search came to: fixes that held, the one to adopt first, and every trial in order."""

    fixes: tuple[Fix, ...]
    trials: tuple[TrialRecord, ...]


def search(space: Space, judge: Judge, *, budget: Budget, seed: int, directory: Path, bar: float = math.inf) -> Found:
    """Try candidate fixes until the ladder is done or the budget spent; a project in `directory` is gone on with.

    Args:
        judge: trains one candidate as a probe and says what came of it.
        budget: a trial that runs when the seconds are spent is finished.
        bar: the held loss of a model that has learned nothing; differences are judged against it.
    """
    deadline = math.inf if budget.seconds is None else time.monotonic() + budget.seconds
    _mend(directory / PROJECT)
    oracle = LadderOracle(space, max_trials=budget.trials, deadline=deadline, seed=seed, bar=bar)
    tuner = ProbeTuner(oracle, space, judge, directory)
    tuner.search(verbose=0)
    trials = tuple(tuner.records[trial_id] for trial_id in oracle.start_order if trial_id in tuner.records)
    ranked = choose(oracle.finished(), space.rungs, bar)
    return Found(tuple(_fix_of(space, candidate) for candidate in ranked), trials)


def _fix_of(space: Space, candidate: Candidate) -> Fix:
    hp = space.hyperparameters.copy()
    hp.values = space.values(candidate)
    return space.fix(hp)


def _mend(project: Path) -> None:
    """Make what a killed process left readable again: keras-tuner writes its files in place.

    A torn oracle.json is replaced by the copy made after the save before it; where that does not do, the search starts anew.
    """
    oracle, copy = project / ORACLE, project / COPY
    if not all(_readable(path) for path in project.glob("trial_*/trial.json")) or not (_readable(oracle) or _readable(copy)):
        shutil.rmtree(project, ignore_errors=True)
    elif not _readable(oracle):
        os.replace(copy, oracle)


def _readable(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True
