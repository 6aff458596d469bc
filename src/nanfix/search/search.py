"""The search for a fix, driven by keras-tuner: an oracle that climbs the ladder and a tuner that runs the probes.

With `private.tuner`, the only module that imports keras_tuner.
"""

import contextlib
import io
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.errors import FailedTrialError

from nanfix.changes.plan import Plan
from nanfix.model.faults import Net, one_line
from nanfix.model.run import Run
from nanfix.private.tuner import StrictTuner, forget, project_dir
from nanfix.records.atomic import replacing, write_text
from nanfix.records.budget import Budget
from nanfix.records.diagnosis import Diagnosis
from nanfix.remedies.fix import Edit, Fix
from nanfix.remedies.strategy import Strategy, Tier
from nanfix.report.fix_file import read_trial, tried_record
from nanfix.report.trial import TrialRecord
from nanfix.search._progress import Progress
from nanfix.search.ladder import FAILED, Candidate, Rung, Tried, choose, grounds, held_losses, in_order, ladder
from nanfix.search.workers.crew import Crew

PROJECT, ORACLE, COPY, RECORD = "search", "oracle.json", "oracle-copy.json", "record.json"
SPACE = "space.json"
OBJECTIVE, STEPS = keras_tuner.Objective("held_loss", "min"), "steps"
UNLIMITED = 1_000_000
IDLE_SECONDS = 0.02
NOTHING: Mapping[Any, Any] = MappingProxyType({})
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
    run: Run
    plan: Plan
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
        return [self.fix_of(ground) for ground in grounds(self.rungs) if ground]

    def called_for(self) -> Fix:
        """Return what strong evidence calls for, each strategy at its mildest."""
        called = tuple((rung.strategy, 0) for rung in self.rungs if rung.called_for)
        return self.fix_of(in_order(called, self.rungs))

    def fix_of(self, candidate: Candidate) -> Fix:
        """Return the fix that a candidate means for this run."""
        hp = self.hyperparameters.copy()
        hp.values = self.values(candidate)
        return self.fix(hp)

    def fix(self, hp: keras_tuner.HyperParameters) -> Fix:
        """Return the fix that the values in `hp` mean for this run."""
        fix, plan = Fix(), self.plan
        for name, _ in self.candidate(hp.values):
            with _scope(hp, name):
                edit = Edit(name, self.strategies[name].space(hp, self.diagnosis, self.run, plan))
            plan = Fix((edit,)).plan(self.run, plan)
            fix = Fix((*fix.edits, edit))
        return fix


def build_space(
    strategies: Mapping[str, Strategy], diagnosis: Diagnosis, run: Run, plan: Plan | None = None, net: Net | None = None
) -> Space:
    """Ask every strategy that applies for its parameters, each in a conditional scope of its own.

    A strategy that raises an exception is left out, which is a fault for the `net`.
    """
    net, plan = net or Net(), plan or Plan()
    hp = keras_tuner.HyperParameters()
    strong = {finding.cause for finding in diagnosis.findings if finding.weight >= STRONG}
    refused: dict[str, str] = {}
    applicable: dict[str, Strategy] = {}
    rungs, levels, covered = [], {}, set()
    for name, strategy in strategies.items():
        if not strategy.answers(diagnosis):
            continue
        try:
            reason = strategy.refusal(diagnosis, run, plan)
            declared = _declared(hp, name, strategy, diagnosis, run, plan) if reason is None else hp
        except Exception as error:  # whatever somebody's strategy does
            net.kept(f"asking the strategy {name}", error)
            reason, declared = f"it failed ({one_line(error)})", hp
        hp = declared
        if reason is not None:
            refused[name] = reason
            continue
        applicable[name] = strategy
        levels[name] = tuple(_levels([p for p in hp.space if p.name.startswith(f"{name}/")]))
        treated = strategy.treats & strong
        indicated, last_resort = bool(treated), not strategy.treats & diagnosis.causes
        if strategy.tier == Tier.DATA:  # a second change to the data for the same cause is an alternative
            treated, covered = treated - covered, covered | treated
        called_for = strategy.tier != Tier.OPTIMIZER and bool(treated)
        rungs.append(Rung(name, int(strategy.tier), len(levels[name]), called_for, indicated, last_resort))
    hp.values = dict.fromkeys(applicable, False)
    return Space(applicable, tuple(rungs), levels, hp, diagnosis, run, plan, refused)


def _declared(
    hp: keras_tuner.HyperParameters, name: str, strategy: Strategy, diagnosis: Diagnosis, run: Run, plan: Plan
) -> keras_tuner.HyperParameters:
    """Return `hp` with a switch for the strategy and, in a scope under it, its parameters."""
    hp = hp.copy()
    hp.Boolean(name)
    hp.values[name] = True  # keras-tuner declares nothing in a scope that is switched off
    with _scope(hp, name):
        strategy.space(hp, diagnosis, run, plan)
    return hp


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
    """Proposes what the ladder says next, given what the finished trials reached.

    While trials are running elsewhere, it proposes what would come next if they failed. `revised` losses, found out after
    the trial, count in the place of those of the trials, None for what has failed since: the ladder goes on from there.
    """

    def __init__(
        self,
        space: Space,
        *,
        max_trials: int,
        deadline: float,
        seed: int,
        bar: float,
        revised: Mapping[Candidate, float | None] = NOTHING,
        progress: Progress | None = None,
        net: Net | None = None,
    ):
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
        self._revised = dict(revised)
        self._progress = progress or Progress(shown=False)
        self._net = net or Net()
        self._fixes: dict[Candidate, Fix | None] = {}

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        candidate = self._next()
        if time.monotonic() > self._deadline or (candidate is None and not self.ongoing_trials):
            return {"status": TrialStatus.STOPPED}
        if candidate is None:
            return {"status": TrialStatus.IDLE}
        self._progress.begun(trial_id, self._fix(candidate) or Fix())
        return {"status": TrialStatus.RUNNING, "values": self._space.values(candidate)}

    def proposes(self) -> bool:
        """Say whether there is a candidate left to try, and budget for it."""
        return len(self.trials) < (self.max_trials or math.inf) and self._next() is not None

    def end_trial(self, trial: Any) -> None:
        super().end_trial(trial)
        self._progress.ended(trial.trial_id, self.record(trial.trial_id))

    def record(self, trial_id: str) -> TrialRecord | None:
        """Return what the trial came to, as whoever ran it has written down."""
        path = self.record_path(trial_id)
        return read_trial(path.read_text()) if path.exists() else None

    def record_path(self, trial_id: str) -> Path:
        return project_dir(self) / f"trial_{trial_id}" / RECORD

    def records(self) -> tuple[TrialRecord, ...]:
        """Return the records of all finished trials, of earlier calls too, in order."""
        records = [self.record(trial_id) for trial_id in self.start_order if trial_id in self.end_order]
        return tuple(record for record in records if record is not None)

    def save(self) -> None:
        super().save()
        with replacing(project_dir(self) / COPY) as temporary:
            shutil.copyfile(project_dir(self) / ORACLE, temporary)

    def finished(self) -> dict[Candidate, Tried]:
        """Return every candidate tried and what came of it."""
        tried = {self._candidate(trial): _tried(trial) for trial in map(self.trials.get, self.end_order)}
        return tried | {c: replace(tried[c], loss=loss) for c, loss in self._revised.items() if c in tried}

    def _candidate(self, trial: Any) -> Candidate:
        return self._space.candidate(trial.hyperparameters.values)

    def _fix(self, candidate: Candidate) -> Fix | None:
        """Return the fix that a candidate means, or None where one of its strategies fails to say."""
        if candidate not in self._fixes:
            try:
                self._fixes[candidate] = self._space.fix_of(candidate)
            except Exception as error:  # whatever somebody's strategy does
                self._net.kept(f"asking for {' + '.join(name for name, _ in candidate)}", error)
                self._fixes[candidate] = None
        return self._fixes[candidate]

    def _next(self) -> Candidate | None:
        running = {self._candidate(trial): FAILED for trial in self.ongoing_trials.values()}
        known, walk = running | self.finished(), ladder(self._space.rungs, self._bar)
        try:
            candidate = next(walk)
            while candidate in known or self._fix(candidate) is None:
                candidate = walk.send(known.get(candidate, FAILED))
        except StopIteration:
            return None
        return candidate


def _tried(trial: Any) -> Tried:
    steps = int(trial.metrics.get_best_value(STEPS) or 0) if trial.metrics.exists(STEPS) else 0
    return Tried(trial.score if trial.status == TrialStatus.COMPLETED else None, steps)


class ProbeTuner(StrictTuner):
    """Runs each trial as a probe through `judge` and writes its record beside the trial."""

    def __init__(self, oracle: LadderOracle, space: Space, judge: Judge, directory: Path):
        self._space = space
        self._judge = judge
        self._path = oracle.record_path
        with contextlib.redirect_stdout(io.StringIO()):  # "Reloading Tuner from ..." is printed whatever verbose says
            super().__init__(oracle, directory=str(directory), project_name=PROJECT, overwrite=False)

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        record = self._judge(self._space.fix(trial.hyperparameters))
        write_text(self._path(trial.trial_id), str(tried_record(record)))
        if record.loss is None or record.verdict != "held":
            self.oracle.update_trial(trial.trial_id, {OBJECTIVE.name: math.inf, STEPS: record.steps})
            raise FailedTrialError(record.verdict)
        return {OBJECTIVE.name: record.loss, STEPS: record.steps}

    def pre_create_trial(self) -> None:
        """Ask a leading process not faster than it can answer; it may have nothing to do until others have ended."""
        if not isinstance(self.oracle, LadderOracle):
            time.sleep(IDLE_SECONDS)

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing to take over: the oracle holds the trials."""


@dataclass(frozen=True)
class Found:
    """What a search came to: the candidates that held, the one to adopt first in front, and every trial in order."""

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
    bar: float = math.inf,
    revised: Mapping[Candidate, float | None] = NOTHING,
    progress: Progress | None = None,
    crew: Crew | None = None,
    net: Net | None = None,
) -> Found:
    """Try candidate fixes until the ladder is done or the budget spent; a project in `directory` is gone on with.

    Args:
        judge: trains one candidate as a probe and says what came of it.
        budget: a trial that runs when the seconds are spent is finished.
        bar: the held loss of a model that has learned nothing; differences are judged against it.
        revised: losses of candidates found out after their trial, None for one that did not hold then.
        progress: shows the trials.
        crew: processes that run the trials in the place of this one.
        net: keeps the faults of strategies, whose candidates are left out.
    """
    deadline = math.inf if budget.seconds is None else time.monotonic() + budget.seconds
    _mend(directory / PROJECT)
    _claim(directory / PROJECT, space)
    oracle = LadderOracle(
        space,
        max_trials=budget.trials,
        deadline=deadline,
        seed=seed,
        bar=bar,
        revised=revised,
        progress=progress,
        net=net,
    )
    try:
        with _leading():
            tuner = ProbeTuner(oracle, space, judge, directory)
            if crew is None:
                tuner.search(verbose=0)
        if crew is not None and oracle.proposes():
            oracle.verbose = 0
            crew.run(oracle)
        finished = oracle.finished()
        ranked = choose(finished, space.rungs, bar)
        return Found({candidate: space.fix_of(candidate) for candidate in ranked}, held_losses(finished), oracle.records())
    finally:
        forget(oracle)


def work(space: Space, judge: Judge, directory: Path) -> None:
    """Run trials of the search in `directory` that another process leads, until it has no more."""
    oracle = LadderOracle(space, max_trials=UNLIMITED, deadline=math.inf, seed=0, bar=math.inf)
    ProbeTuner(oracle, space, judge, directory).search(verbose=0)


@contextlib.contextmanager
def _leading() -> Iterator[None]:
    """Let this process lead its own search, also where the user's program is a worker of a search of keras-tuner's itself."""
    outer = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("KERASTUNER_")}
    try:
        yield
    finally:
        os.environ.update(outer)


def _claim(project: Path, space: Space) -> None:
    """Start the search anew where its trials were of another space: the run that is gone on with failed otherwise this time."""
    marker, levels = project / SPACE, {name: list(map(dict, levels)) for name, levels in space.levels.items()}
    if project.exists() and (not marker.exists() or json.loads(marker.read_text()) != levels):
        shutil.rmtree(project)
    project.mkdir(parents=True, exist_ok=True)
    write_text(marker, json.dumps(levels))


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
