"""The oracle of a search: proposes the candidates of the ladder to keras-tuner."""

import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from nanfix.model.faults import Net
from nanfix.private.tuner import project_dir
from nanfix.records.atomic import replacing
from nanfix.remedies.fix import Fix
from nanfix.report.fix_file import read_trial
from nanfix.report.trial import TrialRecord
from nanfix.search._progress import Progress
from nanfix.search.candidates import FAILED, NO_HINDSIGHT, Candidate, Tried
from nanfix.search.ladder import ladder
from nanfix.search.space import Space

ORACLE, COPY, RECORD = "oracle.json", "oracle-copy.json", "record.json"
OBJECTIVE, STEPS = keras_tuner.Objective("validation_loss", "min"), "steps"
UNLIMITED = 1_000_000  # trials that may fail in a row: the ladder decides when a search ends


class LadderOracle(keras_tuner.Oracle):
    """Proposes what the ladder says next, given what the finished trials reached.

    While trials are running elsewhere, it proposes what would come next if they failed. `revised`
    losses, found out after the trial, count in the place of those of the trials, None for what has
    failed since: the ladder goes on from there.
    """

    def __init__(
        self,
        space: Space,
        *,
        max_trials: int,
        deadline: float,
        seed: int,
        baseline: float,
        revised: Mapping[Candidate, float | None] = NO_HINDSIGHT.losses,
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
        self._baseline = baseline
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

    def end_trial(self, trial: Trial) -> None:
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
        records = [
            self.record(trial_id) for trial_id in self.start_order if trial_id in self.end_order
        ]
        return tuple(record for record in records if record is not None)

    def save(self) -> None:
        super().save()
        with replacing(project_dir(self) / COPY) as temporary:
            shutil.copyfile(project_dir(self) / ORACLE, temporary)

    def finished(self) -> dict[Candidate, Tried]:
        """Return every candidate tried and what came of it."""
        ended = [self.trials[trial_id] for trial_id in self.end_order]
        tried = {self._candidate(trial): _tried(trial) for trial in ended}
        return tried | {
            c: replace(tried[c], loss=loss) for c, loss in self._revised.items() if c in tried
        }

    def _candidate(self, trial: Trial) -> Candidate:
        return self._space.candidate(trial.hyperparameters.values)

    def _fix(self, candidate: Candidate) -> Fix | None:
        """Return the fix that a candidate means, or None where one of its strategies
        fails to say.
        """
        if candidate not in self._fixes:
            try:
                self._fixes[candidate] = self._space.fix_of(candidate)
            except Exception as error:  # whatever somebody's strategy does
                self._net.kept(f"asking for {' + '.join(name for name, _ in candidate)}", error)
                self._fixes[candidate] = None
        return self._fixes[candidate]

    def _next(self) -> Candidate | None:
        running = {self._candidate(trial): FAILED for trial in self.ongoing_trials.values()}
        known, walk = running | self.finished(), ladder(self._space.families, self._baseline)
        try:
            candidate = next(walk)
            while candidate in known or self._fix(candidate) is None:
                candidate = walk.send(known.get(candidate, FAILED))
        except StopIteration:
            return None
        return candidate


def _tried(trial: Trial) -> Tried:
    steps = int(trial.metrics.get_best_value(STEPS) or 0) if trial.metrics.exists(STEPS) else 0
    return Tried(trial.score if trial.status == TrialStatus.COMPLETED else None, steps)
