"""The tuner of a search: runs the trials that the oracle proposes, each as a probe."""

import contextlib
import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FailedTrialError

from nanfix.private.tuner import StrictTuner
from nanfix.records.atomic import write_text
from nanfix.remedies.fix import Fix
from nanfix.report.fix_file import tried_record
from nanfix.report.trial import TrialRecord
from nanfix.search.oracle import OBJECTIVE, STEPS, LadderOracle
from nanfix.search.space import Space

PROJECT = "search"
IDLE_SECONDS = 0.02  # between two questions of a worker to the process that leads

Judge = Callable[[Fix], TrialRecord]


class ProbeTuner(StrictTuner):
    """Runs each trial as a probe through `judge` and writes its record beside the trial."""

    def __init__(self, oracle: LadderOracle, space: Space, judge: Judge, directory: Path):
        self._space = space
        self._judge = judge
        self._path = oracle.record_path
        # "Reloading Tuner from ..." is printed whatever verbose says.
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(
                oracle, directory=str(directory), project_name=PROJECT, overwrite=False
            )

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> dict[str, float]:
        candidate = self._space.candidate(trial.hyperparameters.values)
        record = self._judge(self._space.fix_of(candidate))
        write_text(self._path(trial.trial_id), str(tried_record(record)))
        if record.loss is None or record.verdict != "works":
            self.oracle.update_trial(
                trial.trial_id, {OBJECTIVE.name: math.inf, STEPS: record.steps}
            )
            raise FailedTrialError(record.verdict)
        return {OBJECTIVE.name: record.loss, STEPS: record.steps}

    def pre_create_trial(self) -> None:
        """Ask a leading process not faster than it can answer; it may have nothing to
        do until others have ended.
        """
        if not isinstance(self.oracle, LadderOracle):
            time.sleep(IDLE_SECONDS)

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing to take over: the oracle holds the trials."""
