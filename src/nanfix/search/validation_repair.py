"""A training that is fine, and a model or a validation loss that is not finite in inference."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from keras import tree

from nanfix.changes.rows import RowFilter
from nanfix.data.arrays import flat_arrays, take_rows, unpacked
from nanfix.data.constant_prediction import constant_losses
from nanfix.data.datasets import batch_size_of, judged_on
from nanfix.data.row_filter import filtered, unknown_length
from nanfix.data.training_data import TrainingData
from nanfix.explain.audit import Audit, audit
from nanfix.explain.description import describe
from nanfix.explain.inference import (
    Inference,
    doubtful,
    explained,
    few_inputs,
    look,
    predicts_finite,
    was_validated,
)
from nanfix.explain.recorded_batches import recorded_batches
from nanfix.install.sites import Sites, callable_alone
from nanfix.install.workbench import Workbench
from nanfix.model.logged_losses import loss_of
from nanfix.model.quiet import quiet
from nanfix.model.randomness import preserved_randomness
from nanfix.model.run import Run, fades
from nanfix.model.running_statistics import faults, measure_anew
from nanfix.model.snapshot import Snapshot, restore, take, take_as_it_is
from nanfix.model.training_step import Batch
from nanfix.recorder.watch import Watched, Watching, watch
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis, Onset
from nanfix.records.errors import CannotHandBack
from nanfix.remedies.fix import Fix
from nanfix.remedies.strategy import Strategy
from nanfix.search._misled import Misled, misled
from nanfix.search.space import Space, build_space

if TYPE_CHECKING:
    import keras

AGAIN = (
    "The validation figures of the last epoch were measured again, with the repaired model; those "
    "of the epochs before it are as they were, since their weights are gone."
)
MEASURED_ANEW = (
    "The weights are those of the training. The statistics of {} were measured anew, over {} "
    "batches of training data."
)
TRAINED_AGAIN = (
    "So it was trained again, from the beginning and with the fix: in inference it ends at a loss "
    "of {:.4g}, the first training, with the fix made afterwards, at {:.4g}."
)
NOT_BETTER = (
    "Trained again, from the beginning and with the fix, it came in inference to a loss of {:.4g}, "
    "no better than {:.4g}, so the first training was kept."
)
AS_TRAINED = 2.0  # times the loss in training that in inference may be
ROWS = 32  # of which a model has to give in training what it gave before it was repaired
SAME = 0.02  # share of the largest output by which full and half precision may differ
MOST_BATCHES = 100  # of training data, over which statistics are measured anew


@dataclass(frozen=True)
class Revalidated:
    """What made the model or the validation finite, what was done, and what loss and metrics are
    now; `again` is the training with the fix, where callbacks had misled the first one.
    """

    fix: Fix
    notes: tuple[str, ...]
    figures: Mapping[str, float]
    again: Watched | None = None

    def history(self, before: Mapping[str, list[float]]) -> dict[str, list[float]]:
        """Return the history with the validation figures of the last epoch as they are now."""
        if self.again is not None:
            return dict(self.again.history)
        epochs = len(before.get("loss", ()))
        return {
            name: [*values[:-1], self.figures.get(name.removeprefix("val_"), values[-1])]
            if name.startswith("val_") and len(values) == epochs
            else values
            for name, values in before.items()
        }


@dataclass(frozen=True)
class ValidationIncident:
    """A finished training whose validation loss, or whose model in inference, was not finite, and
    why.
    """

    model: "keras.Model"
    data: TrainingData
    validation: TrainingData
    training_rows: TrainingData
    run: Run
    sites: Sites
    diagnosis: Diagnosis
    inference: Inference
    trained_to: float  # the loss that the training has come to, in training mode
    watched: Watched
    misled: Sequence[Misled] = ()  # callbacks that watched what was not finite

    @classmethod
    @quiet()
    def of(
        cls, model: "keras.Model", data: TrainingData, watched: Watched
    ) -> "ValidationIncident | None":
        """Return the incident of a training that has ended, or None when its model is fit for use.

        The model is run only where neither its validation nor its statistics tell that.
        """
        onset = watched.recorder.validation_onset
        if onset is None and _is_fit(model, data, watched):
            return None
        recording = watched.recorder.recording()
        recorded = recorded_batches(data, recording)
        validated = onset is not None or was_validated(watched.history)
        training_rows = data.rows(recorded)
        validation = data.validation_part(recorded) if validated else training_rows
        run, sites = describe(model, data, recorded)
        inputs, targets = (
            (flat_arrays(validation.x), flat_arrays(validation.y))
            if validation.is_arrays
            else ([], [])
        )
        looked = audit(run, inputs, targets, [], whole=True) if validated else Audit()
        with preserved_randomness():
            inference = look(model, validation, training_rows, validated=validated)
        onset = onset or Onset(max(watched.epoch, default=0) + 1, recording.steps_per_epoch or 1)
        diagnosis = explained(inference, looked, onset, run)
        last = {n: each[-1] for n, each in watched.history.items() if each and n[:4] != "val_"}
        loss = loss_of(last)
        trained_to = math.inf if loss is None else loss
        return cls(
            model,
            data,
            validation,
            training_rows,
            run,
            sites,
            diagnosis,
            inference,
            trained_to,
            watched,
            misled(data, watched),
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the training, whether or not it is repaired."""
        return (f"{'; '.join(map(str, self.misled))}.",) if self.misled else ()

    @property
    def is_of_the_model(self) -> bool:
        """Whether the model is at fault, and not the validation data alone."""
        return self.inference.of_the_model

    @quiet()
    def repair(
        self, strategies: dict[str, Strategy], seed: int, watching: Watching
    ) -> Revalidated | None:
        """Make the first change with which predictions and validation are finite part of the
        model; its training stays, statistics that are at fault are measured anew. Where callbacks
        were misled and have changed the training, it is trained again with the change, and that
        counts where it ends better.

        Returns:
            What came of it, or None when none holds, or what is drawn to try one would
            be lost to the user.
        """
        state = take(self.model)
        if state is None or isinstance(self.validation.x, Iterator) or not self._can_be_run:
            return None
        trained = self._as_trained()
        bench = Workbench(self.run, self.data, self.validation, self.sites)
        bench.open()
        try:
            for fix in self.fixes(build_space(strategies, self.diagnosis, self.run)):
                plan = fix.plan(self.run)
                bench.prepare(plan, state, seed)
                if not _same(trained, self._as_trained()):
                    continue
                words = self._measure_anew(state)
                figures = self._figures(bench)
                try:
                    if figures is not None:
                        found = Revalidated(fix, words, figures)
                        found = self._trained_again(found, bench, watching, seed)
                        notes = (*found.notes, *bench.hand_back(plan))
                        return replace(found, notes=notes)
                except CannotHandBack:
                    pass
                restore(state)
        finally:
            bench.close()
        return None

    def fixes(self, space: Space) -> list[Fix]:
        """Return what may help without another training, in the order in which it is tried: changes
        to the data, or to a model that is at fault itself.
        """
        if self.is_of_the_model:
            families = sorted(space.families, key=lambda each: (not each.indicated, each.tier))
            return [
                space.fix_of(((family.strategy, level),))
                for family in families
                for level in range(family.levels)
            ]
        whole = space.data_fixes()
        single = [Fix((edit,)) for fix in whole for edit in fix.edits]
        return [*single, *(fix for fix in whole if len(fix.edits) > 1)]

    def _trained_again(
        self, found: Revalidated, bench: Workbench, watching: Watching, seed: int
    ) -> Revalidated:
        """Return what comes of a training with the fix from the beginning, where callbacks have
        changed the first one for nothing or the fix is to what it begins with; what is `found`
        where the first one ends no worse.
        """
        plan, before = found.fix.plan(self.run), found.figures.get("loss", math.nan)
        kept = replace(found, notes=(*found.notes, *((AGAIN,) if self.inference.validated else ())))
        from_the_start = self.diagnosis.cause is Cause.NONFINITE_START
        if not (from_the_start or any(each.changed for each in self.misled)):
            return kept
        state, start = take_as_it_is(self.model), self.watched.recorder.recording().initial
        self.data.rewind(start.total)
        bench.prepare(plan, start, seed)
        rows, unstored = plan.of(RowFilter), replace(watching, store=None)
        with unknown_length(rows), bench.saving(plan):
            fed, adapt = filtered(self.data, rows), partial(plan.callbacks, self.run)
            again = watch(self.model, fed, unstored, adapt=adapt, start=start, judged=False)
        figures = None if again.incident is not None else self._figures(bench)
        after = math.nan if figures is None else figures.get("loss", math.nan)
        if figures is not None and after < before:
            words = TRAINED_AGAIN.format(after, before)
            return replace(found, figures=figures, notes=(words,), again=again)
        bench.prepare(plan, state, seed)
        words = NOT_BETTER.format(after, before)
        return replace(kept, notes=(*kept.notes, words))

    def _measure_anew(self, state: Snapshot) -> tuple[str, ...]:
        """Measure statistics that are at fault anew where the momentum is one that means something
        now, and say so; everything else is as it was.
        """
        layers = [layer for layer, _ in faults(self.model) if fades(layer.momentum)]
        if not layers:
            return ()
        batches = self._training_batches()
        measure_anew(self.model, layers, (unpacked(batch)[0] for batch in batches), state)
        names = ", ".join(layer.name for layer in layers)
        return (MEASURED_ANEW.format(names, len(batches)),)

    def _training_batches(self) -> list[Batch]:
        size = batch_size_of(self.data) if self.data.is_arrays else None
        fed = judged_on(self.training_rows, size).x
        return list(fed.take(MOST_BATCHES))

    @property
    def _can_be_run(self) -> bool:
        return not self.is_of_the_model or callable_alone(self.model)

    def _as_trained(self) -> np.ndarray:
        """Return what a model that is at fault gives in training mode, which a repair has to leave
        as it is; nothing of one that is not.
        """
        if not self.is_of_the_model:
            return np.empty(0)
        rows, before = take_rows(self.run.sample.x, slice(0, ROWS)), take_as_it_is(self.model)
        outputs = [np.asarray(leaf) for leaf in tree.flatten(self.model(rows, training=True))]
        restore(before)
        return np.concatenate([array.astype("float64").reshape(-1) for array in outputs])

    def _figures(self, bench: Workbench) -> dict[str, float] | None:
        """Return loss and metrics of the model as it is prepared; None where it is not fit for use.

        One that was at fault also has to be better than a constant, or as good as in training.
        """
        rows = self.run.sample.x
        if self.is_of_the_model and (faults(self.model) or not predicts_finite(self.model, rows)):
            return None
        figures = bench.figures_on(self.validation)
        loss = figures.get("loss", 0.0)
        known = constant_losses(self.run, self.validation) if self.is_of_the_model else {}
        constant = known.get("loss")
        # A short training need not beat a constant, but what is left of it has to show.
        beaten = (
            constant is None or not figures or loss < max(constant, AS_TRAINED * self.trained_to)
        )
        return figures if math.isfinite(loss) and beaten else None


def _is_fit(model: "keras.Model", data: TrainingData, watched: Watched) -> bool:
    """Say whether a model is fit for use whose validation showed nothing else.

    Statistics are read; the model itself is run only where no validation has shown that it is
    finite, and something speaks for it that it is not.
    """
    if faults(model):
        return False
    recording = watched.recorder.recording(steps=False)
    if was_validated(watched.history) or not doubtful(model, recording):
        return True
    inputs = few_inputs(data, recording)
    with preserved_randomness():
        return inputs is None or predicts_finite(model, inputs)


def _same(trained: np.ndarray, now: np.ndarray) -> bool:
    """Say whether a model computes in training what it did, but for the precision."""
    if trained.shape != now.shape or not trained.size:
        return trained.shape == now.shape
    return bool(np.abs(trained - now).max() <= SAME * max(np.abs(trained).max(), 1e-6))
