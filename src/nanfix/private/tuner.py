"""What nanfix takes from keras-tuner's private modules, and overrides of private
methods. Loads keras-tuner.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.errors import FailedTrialError
from keras_tuner.src.engine.oracle import LOCKS, THREADS

if TYPE_CHECKING:
    import grpc
    import keras_tuner
    from keras_tuner.engine.trial import Trial


class StrictTuner(BaseTuner):
    """A tuner for which a trial fails by FailedTrialError alone.

    Any other exception leaves `search`: the public one makes each a failed trial, prints its
    traceback, and goes on.
    """

    def _try_run_and_update_trial(self, trial: "Trial", *args: Any, **kwargs: Any) -> None:
        try:
            self._run_and_update_trial(trial, *args, **kwargs)
            trial.status = TrialStatus.COMPLETED
        except FailedTrialError as failed:
            trial.status = TrialStatus.FAILED
            trial.message = str(failed)


def project_dir(oracle: "keras_tuner.Oracle") -> Path:
    """Return the folder that the oracle of a tuner writes to: the tuner shows its own,
    an oracle has none to show.
    """
    return Path(oracle._project_dir)


def oracles_kept() -> int:
    """Return how many oracles keras-tuner keeps alive."""
    return len(LOCKS)


def forget(oracle: "keras_tuner.Oracle") -> None:
    """Take an oracle, which holds model and data, out of the tables in which
    keras-tuner keeps each for ever.
    """
    LOCKS.pop(oracle, None)
    THREADS.pop(oracle, None)


def serve(oracle: "keras_tuner.Oracle", server: "grpc.Server") -> None:
    """Let a gRPC server answer for an oracle. `search` in a chief serves too, but on a fixed port
    and with no way to end it.
    """
    from keras_tuner.src import protos  # loads gRPC
    from keras_tuner.src.distribute.oracle_chief import OracleServicer
    from keras_tuner.src.engine import conditions

    # It prints a value of every condition of a trial that it sends.
    conditions.print = lambda *_: None  # pyright: ignore[reportAttributeAccessIssue]
    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(oracle), server)
