"""The one place where a setup meets the user's model: install it, train a probe with it, hand it back."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

from nanfix.changes import Guard
from nanfix.data import TrainingData
from nanfix.folding import Sites
from nanfix.handback import HandBack
from nanfix.installing import Installer
from nanfix.probing import Probe, Prober
from nanfix.quiet import quiet
from nanfix.rates import with_rates
from nanfix.setup import Setup
from nanfix.snapshot import Snapshot


class Workbench:
    """Takes setups, one after the other, and takes everything back on `close`."""

    def __init__(self, model: Any, data: TrainingData, held: TrainingData, setup: Setup, sites: Sites):
        self.model = model
        self._installer = Installer(model, setup)
        self._prober = Prober(self._installer, data, held, sites)
        self._hand_back = HandBack(self._installer, sites)

    @property
    def judges(self) -> bool:
        """Whether the held loss of a model can be told; else it is known by its training alone."""
        return self._prober.judges

    def open(self) -> None:
        """Keep the user's own compiled functions aside and put the gate in place."""
        self._installer.open()

    def prepare(self, setup: Setup, start: Snapshot, seed: int = 0) -> None:
        """Make the model ready to train `setup` from `start`: state, optimizer, layers, loss, scalings, rate."""
        self._installer.prepare(setup, start, seed)
        self._prober.leave_out(setup.rows)

    def probe(
        self, setup: Setup, start: Snapshot, steps: int, seed: int = 0, *, variation: int = 0, lost: float = math.inf
    ) -> Probe:
        """Train `setup` as `Prober.probe` does."""
        return self._prober.probe(setup, start, steps, seed, variation=variation, lost=lost)

    def held_loss(self) -> float:
        """Return the loss of the prepared setup on the held data, in the user's units; NaN for a model that only trains."""
        return self._prober.held_loss()

    def loss_on(self, data: TrainingData) -> float:
        """Return the loss of the prepared setup on these data; NaN for a model that only trains."""
        return self._prober.loss_on(data)

    def figures_on(self, data: TrainingData) -> dict[str, float]:
        """Return loss and metrics of the prepared setup on these data, in the user's units."""
        return self._prober.figures_on(data)

    @quiet()
    def hand_back(self, setup: Setup) -> list[str]:
        """Make the repair part of the user's object, and return what was done. Raises CannotHandBack as `HandBack.for_good`."""
        return self._hand_back.for_good(setup)

    def idle(self, setup: Setup) -> list[Guard]:
        """Return the guards that have found nothing to guard in any traced graph, so that they did nothing."""
        return self._installer.idle(setup)

    def saving(self, setup: Setup) -> contextlib.AbstractContextManager[None]:
        """Let whoever saves the model in the training of `setup` save it as it is handed back."""
        return self._hand_back.saving(setup)

    def adapted(self, setup: Setup) -> Callable[[list[Any]], list[Any]]:
        """Return what makes of the user's callbacks those that `setup` is trained with."""
        return lambda callbacks: with_rates(callbacks, setup)

    def close(self) -> None:
        """Put back everything the user's object had before, except the values of its variables."""
        self._installer.close()
