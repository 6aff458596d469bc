"""How much a search may cost."""

from dataclasses import dataclass

from nanfix.errors import InputError


@dataclass(frozen=True)
class Budget:
    """How much a search may cost: trials, and seconds of searching (None for no limit)."""

    trials: int = 30
    seconds: float | None = None

    def __post_init__(self):
        if self.trials < 1 or (self.seconds is not None and self.seconds <= 0):
            raise InputError(
                "A budget allows at least one trial and some time. Expected: trials >= 1, seconds > 0 or None. "
                f"Received: trials={self.trials}, seconds={self.seconds}. To search nothing, pass strategies=()."
            )
