"""Trains with a plan for a bounded number of steps, and judges it on validation data."""

import contextlib
import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
import tensorflow as tf

from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.data.arrays import rows_in, unpacked
from nanfix.data.datasets import batch_size_of, batches_of, judged_again_on, trained_on, untuned
from nanfix.data.row_filter import filtered, judged, kept_batches, unknown_length
from nanfix.data.training_data import TrainingData
from nanfix.install._evaluable import lacks
from nanfix.install._installing import Installer
from nanfix.install._probe_watch import Enough, ProbeWatch, many_at_once
from nanfix.install._row_by_row import RowByRow
from nanfix.install._settings import SetAgain, without_rates
from nanfix.install._statistics import settled
from nanfix.install.players import Played, play, players, untrained
from nanfix.install.sites import OTHERWISE, Sites, callable_alone
from nanfix.model.logged_losses import named_loss
from nanfix.model.snapshot import Snapshot, nonfinite_variables
from nanfix.model.training_step import Batch, RecordingStep
from nanfix.recorder.logs import listed
from nanfix.recorder.recording import SetAt

# User callbacks without which a probe would not be the run.
SCHEDULES = (keras.callbacks.LearningRateScheduler,)
BATCHES = 8  # so many show what statistics come to
SEEDS = "seed_generator_state"  # of dropout and the like


@dataclass(frozen=True)
class Probe:
    """What a bounded training came to: steps survived, and the validation loss in the user's units
    (None if non-finite). `played` are the losses of several players that nothing else judges.
    """

    steps: int
    loss: float | None
    seconds: float
    played: Played | None = None


@dataclass(frozen=True)
class Original:
    """What the training that failed began with, and what callbacks have set in the model then."""

    initial: Snapshot
    set_at: Sequence[SetAt] = ()


class Prober:
    """Trains and judges on the user's data; what is left out of them and fed is built once for all
    probes that share it.
    """

    def __init__(
        self,
        installer: Installer,
        data: TrainingData,
        validation: TrainingData,
        sites: Sites,
        recorded: Sequence[Batch] = (),
    ):
        model = installer.model
        self.lacks = lacks(model, sites, validation)
        self._called_alone = callable_alone(model) and sites.unseen != OTHERWISE
        self._installer = installer
        self._model = model
        self._data = data
        self._validation = validation
        self._recorded = recorded
        self._rows = RowFilter()
        self._feeds: dict[tuple[RowFilter, int], TrainingData] = {}
        self._validation_feeds: dict[RowFilter, TrainingData] = {}
        # The ranks of the data that each traced test step was last given.
        self._traced_for: WeakKeyDictionary[Any, list[int | None]] = WeakKeyDictionary()

    @property
    def judges(self) -> bool:
        """Whether the validation loss of the model is known."""
        return self.lacks is None

    def leave_out(self, rows: RowFilter) -> None:
        """Judge without these rows from now on."""
        self._rows = rows

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
        """Train with `plan` from `start` for `steps` steps and judge it on validation data; give up
        at a mean loss above `lost`. What callbacks have set in the model in the `original` is set
        again; several players that only train are judged by their losses with its first weights.

        A `variation` other than 0 changes what chance decides: weights that the plan draws, masks
        of dropout, and the composition of the batches where the user lets them be shuffled.
        """
        begun = time.perf_counter()
        rows = plan.of(RowFilter)
        self._installer.prepare(plan, start, seed + variation, trying=True)
        self.leave_out(rows)
        original = original or Original(start)
        before = untrained(self._model, start, original.initial) if self._plays else None
        watch = ProbeWatch(steps, lost)
        if variation:
            self._vary_masks(variation)
        part = self._fed(rows, variation)
        arguments = {
            **untuned(part.fit_arguments()),
            "verbose": 0,
            "epochs": self._most_epochs,
            "initial_epoch": start.epoch,
        }
        for name in ("validation_freq", "validation_steps", "validation_batch_size"):
            arguments.pop(name, None)
        scheduled = schedules(arguments.get("callbacks"))
        set_at = without_rates(original.set_at, self._model) if scheduled else original.set_at
        again = [SetAgain(set_at, start.total)] if set_at else []
        acting = plan.callbacks(self._installer.run, [*again, *scheduled])
        arguments["callbacks"] = [watch, *acting]
        at_once = many_at_once(watch, self._model, arguments["x"], acting)
        with contextlib.suppress(Enough), unknown_length(rows), at_once:
            self._model.fit(**arguments)
        if isinstance(self._model.train_function, RecordingStep):
            self._model.train_function.abandon()
        finite = watch.finite and not nonfinite_variables(self._model)
        loss = self.validation_loss() if finite else math.nan
        loss = loss if self.judges or not finite else watch.loss
        played = self.played(before, looked_at=False) if before is not None and finite else None
        self._installer.put_back()
        seconds = time.perf_counter() - begun
        return Probe(watch.steps, loss if math.isfinite(loss) else None, seconds, played)

    @property
    def _plays(self) -> bool:
        return not self.judges and players(self._model) > 1

    def played(self, before: Snapshot, *, looked_at: bool = True) -> Played | None:
        """Return what `play` does of the prepared plan, with a few batches of the training."""
        return play(self._model, before, self._usual_batches(), looked_at=looked_at)

    def _usual_batches(self) -> list[Batch]:
        """Return a few batches as the training step is given them; of a stream, recorded ones."""
        part = filtered(self._data.training_part(), self._rows)
        if not part.is_arrays:
            filled = [batch for batch in self._recorded[-BATCHES:] if rows_in(batch) != 0]
            return list(kept_batches(filled, self._rows))
        known = rows_in(part.x) or 0
        size = min(batch_size_of(part), known)
        return self.training_batches(size, min(BATCHES, known // size)) if size else []

    def validation_loss(self) -> float:
        """Return the loss of the prepared plan on the validation data, in the user's units; NaN for
        a model that only trains.
        """
        return self.validation()[0]

    def validation(self) -> tuple[float, dict[str, float]]:
        """Return that loss, and all figures from which it is, of one evaluation."""
        figures = self.figures_on(self._validation)
        return loss_among(figures), figures

    def figures_on(self, data: TrainingData) -> dict[str, float]:
        """Return loss and metrics of the prepared plan on these data, in the user's units; nothing
        of a model that only trains.
        """
        if not self.judges:
            return {}
        arguments = data.arguments or {}
        fed = self._judged_on(
            data, arguments.get("validation_batch_size") or arguments.get("batch_size")
        )
        ranks, known = _ranks(fed.x) if data.is_arrays else [], self._model.test_function
        if known is not None and self._traced_for.get(known, ranks) != ranks:
            # Traced for two ranks, TensorFlow would give it data of none.
            self._model.test_function = None
        with settled(self._model, self._some_inputs), unknown_length(self._rows):
            logs = self._model.evaluate(
                fed.x,
                fed.y,
                sample_weight=fed.sample_weight,
                steps=(fed.arguments or {}).get("validation_steps"),
                verbose=0,
                return_dict=True,
            )
        if self._model.test_function is not None:
            self._traced_for[self._model.test_function] = ranks
        figures = {name: float(figure) for name, figure in logs.items()}
        known = named_loss(figures) is not None
        if not known:
            self.lacks = "its evaluation returns no loss"
        elif "loss" not in figures and players(self._model) > 1:  # whose sum says nothing
            self.lacks = "none of its losses is that of all its players"
        return figures

    def row_by_row(self) -> RowByRow:
        """Return what looks at single rows of the validation data under the prepared plan."""
        model = self._model if self._called_alone else None
        rows_at_once = self._installer.run.sample.rows_at_once
        return RowByRow(model, judged(self._validation, self._rows), self.figures_on, rows_at_once)

    def _some_inputs(self) -> Iterator[Any]:
        """Yield the inputs of a few batches that are trained on; of a stream, which can be read but
        once, none.
        """
        part = filtered(self._data.training_part(), self._rows)
        if part.is_arrays:
            size, count = batch_size_of(part), rows_in(part.x) or 0
            rows = np.linspace(0, count - 1, min(count, BATCHES * size)).astype(int)
            yield from (unpacked(batch)[0] for batch in batches_of(part, rows, size))

    def training_batches(self, size: int, count: int) -> list[Batch]:
        """Return so many batches of `size` rows, no row in two, from all over what is trained on
        under the prepared plan; of a stream, or of too few rows, none.
        """
        part = filtered(self._data.training_part(), self._rows)
        known = rows_in(part.x) or 0 if part.is_arrays else 0
        if known < size * count:
            return []
        rows = np.linspace(0, known - 1, size * count).astype(int).reshape(size, count).T
        return batches_of(part, rows.reshape(-1), size)

    def _fed(self, rows: RowFilter, variation: int) -> TrainingData:
        """Return what a probe is trained on; built once for the probes that leave out
        the same rows.
        """
        if (rows, variation) not in self._feeds:
            part = filtered(self._data.training_part(), rows)
            # A proof goes to and fro between its seeds.
            others = {key: fed for key, fed in self._feeds.items() if key[0] == rows}
            part = part.shuffled(variation) if variation else part
            # It may do something to the arrays first.
            own = type(self._model).fit is not keras.Model.fit
            self._feeds = {**others, (rows, variation): part if own else trained_on(part)}
        return self._feeds[rows, variation]

    def _judged_on(self, data: TrainingData, batch_size: int | None) -> TrainingData:
        if data is not self._validation:
            return judged_again_on(judged(data, self._rows), batch_size)
        if self._rows not in self._validation_feeds:
            self._validation_feeds = {
                self._rows: judged_again_on(judged(data, self._rows), batch_size)
            }
        return self._validation_feeds[self._rows]

    @property
    def _most_epochs(self) -> int:
        """The epochs that a probe may have: as many as its steps take; of a generator that ends no
        more than the user wants.
        """
        ends = self._data.one_shot and not (self._data.arguments or {}).get("steps_per_epoch")
        return self._data.epochs if ends else 1_000_000

    def _vary_masks(self, variation: int) -> None:
        for variable in self._model.non_trainable_variables:
            if variable.name == SEEDS:
                variable.assign(variable + variation)


def loss_among(figures: dict[str, float]) -> float:
    """Return the loss among figures; NaN where they name none."""
    loss = named_loss(figures)
    return math.nan if loss is None else loss


def _ranks(dataset: tf.data.Dataset) -> list[int | None]:
    return [
        spec.shape.rank
        for spec in tf.nest.flatten(dataset.element_spec)
        if isinstance(spec, tf.TensorSpec)
    ]


def schedules(callbacks: Any) -> list[Any]:
    """Return copies of the callbacks that set the learning rate, without which a probe
    would not be the run.
    """
    copies = [
        copy.copy(callback) for callback in listed(callbacks) if isinstance(callback, SCHEDULES)
    ]
    for callback in copies:
        callback.verbose = 0
    return copies
