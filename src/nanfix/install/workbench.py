"""The one place where a plan meets the user's model: install it, train a probe with it,
hand it back.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence

from nanfix.changes.guards import Guard, Guards
from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.data.training_data import TrainingData
from nanfix.install._hand_back import HandBack
from nanfix.install._insight import Insight
from nanfix.install._installing import Installer
from nanfix.install._row_by_row import RowByRow
from nanfix.install.probing import Original, Probe, Prober
from nanfix.install.sites import Sites
from nanfix.model.quiet import quiet
from nanfix.model.run import Run
from nanfix.model.snapshot import Snapshot
from nanfix.model.training_step import Batch


class Workbench:
    """Takes plans, one after the other, and takes everything back on `close`.

    Args:
        recorded: batches of a stream, which cannot be had again.
    """

    def __init__(
        self,
        run: Run,
        data: TrainingData,
        validation: TrainingData,
        sites: Sites,
        recorded: Sequence[Batch] = (),
    ):
        self.run, self.model = run, run.model
        self._installer = Installer(run)
        self._prober = Prober(self._installer, data, validation, sites, recorded)
        self._hand_back = HandBack(self._installer, sites)

    @property
    def unjudged(self) -> str | None:
        """Why no validation loss of the model is known, in words, so that it is known by its
        training alone; None where one is known.
        """
        return self._prober.lacks

    def open(self) -> None:
        """Keep the user's own compiled functions aside and put the gate in place."""
        self._installer.open()

    def prepare(self, plan: Plan, start: Snapshot, seed: int = 0) -> None:
        """Make the model ready to train with `plan` from `start`: state, optimizer,
        layers, loss, scalings, rate.
        """
        self._installer.prepare(plan, start, seed)
        self._prober.leave_out(plan.of(RowFilter))

    def probe(
        self,
        plan: Plan,
        start: Snapshot,
        steps: int,
        seed: int = 0,
        *,
        variation: int = 0,
        lost: float = math.inf,
        original: Original | None = None,
    ) -> Probe:
        """Train with `plan` as `Prober.probe` does."""
        return self._prober.probe(
            plan, start, steps, seed, variation=variation, lost=lost, original=original
        )

    def validation(self) -> tuple[float, dict[str, float]]:
        """Return the loss of the prepared plan on the validation data, in the user's units (NaN for
        a model that only trains), and all figures from which it is.
        """
        return self._prober.validation()

    @contextlib.contextmanager
    def prepared(self, plan: Plan, start: Snapshot) -> Iterator[None]:
        """Let the model be as a training with `plan` begins from `start`; then take that back."""
        self.prepare(plan, start)
        try:
            yield
        finally:
            self.take_back()

    def row_by_row(self) -> RowByRow:
        """Return what looks at single rows of the validation data under the prepared plan."""
        return self._prober.row_by_row()

    def figures_on(self, data: TrainingData) -> dict[str, float]:
        """Return loss and metrics of the prepared plan on these data, in the user's units."""
        return self._prober.figures_on(data)

    def insight(self) -> Insight:
        """Return what looks into the prepared model."""
        return Insight(self.model, self._prober.training_batches, self._prober.played)

    @quiet()
    def hand_back(self, plan: Plan) -> list[str]:
        """Make the repair part of the user's object, and return what was done. Raises
        CannotHandBack as `HandBack.for_good`.
        """
        return self._hand_back.for_good(plan)

    def lacking(self, plan: Plan) -> str | None:
        """Return what the training that has just ended with the plan lacks to be a repair, as far
        as its optimizer tells; None when that is nothing.
        """
        return plan.of(OptimizerSettings).lacking(self._installer)

    def idle(self, plan: Plan) -> list[Guard]:
        """Return the guards that have found nothing to guard in any traced graph, so
        that they did nothing.
        """
        return plan.of(Guards).idle(self._installer)

    def saving(self, plan: Plan) -> contextlib.AbstractContextManager[None]:
        """Let whoever saves the model in the training with `plan` save it as it is handed back."""
        return self._hand_back.saving(plan)

    def take_back(self) -> None:
        """Take back what the prepared plan changed, apart from the values of variables."""
        self._installer.put_back()

    def close(self) -> None:
        """Put back everything the user's object had before, except the values of its variables."""
        self._installer.close()
