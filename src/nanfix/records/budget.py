"""How much a search may cost."""

from dataclasses import dataclass

from nanfix.records.errors import InputError


@dataclass(frozen=True)
class Budget:
    """How much a search may cost: trials, and seconds from the failure on (None for no limit).

    When they are spent, no trial and no proof begins; a training with the best fix found by then,
    which is the user's own and takes as long, is still run.
    """

    trials: int = 30
    seconds: float | None = None

    def __post_init__(self):
        if self.trials < 1 or (self.seconds is not None and self.seconds <= 0):
            raise InputError(
                "A budget allows at least one trial and some time. Expected: trials >= 1, seconds "
                f"> 0 or None. Received: trials={self.trials}, seconds={self.seconds}. To search "
                "nothing, pass strategies=()."
            )
