"""A training of nanfix.fit with a known fix, from the start and without a search."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import keras

from nanfix.api._training import SearchSettings, interrupted, watch_and_repair
from nanfix.changes.guards import Guards
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.data.row_filter import filtered, unknown_length
from nanfix.data.streams import first_batches
from nanfix.data.training_data import TrainingData
from nanfix.explain.description import describe
from nanfix.explain.incident import unrepaired
from nanfix.install.workbench import Workbench
from nanfix.model.running_statistics import faults
from nanfix.model.snapshot import Snapshot, restore, take_as_it_is
from nanfix.recorder.watch import Watched, Watching, watch
from nanfix.records.budget import Budget
from nanfix.records.errors import REFUSALS, CannotHandBack
from nanfix.remedies.fix import Fix
from nanfix.report.report import Outcome, Report
from nanfix.search.workers.pool import ALONE

if TYPE_CHECKING:
    from nanfix.model.training_step import Batch

NOT_HELD = (
    "The fix of an earlier training did not work here ({what}), so this one began again without it."
)


class _DoesNotHold(Exception):
    """A training with a carried fix turned non-finite; the model is as it was before it."""

    def __init__(self, after: Watched, initial: Snapshot):
        super().__init__(str(after.incident))
        recorded = after.recorder.recording(steps=False).initial
        self.begun = after.begun
        self.start = replace(initial, epoch=recorded.epoch, callbacks=recorded.callbacks)


def train_with_known(
    fix: Fix,
    model: keras.Model,
    data: TrainingData,
    watching: Watching,
    settings: SearchSettings,
    folder: Path,
) -> Report:
    """Train with a known fix. Where that cannot be, train without, as plain Keras does,
    and repair nothing.

    Without a fix that was carried over from another training, and does not fit this one or does not
    hold in it, this one is trained as if there were none, and repaired.
    """
    notes: tuple[str, ...] = ()
    report = None
    if not fix.carried:
        settings = SearchSettings({}, Budget(), settings.seed, ALONE)
    anew = partial(watch_and_repair, model, data, watching, settings, folder)
    try:
        training = partial(_train_with, fix, model, data, watching, settings.seed)
        passing = (*REFUSALS, _DoesNotHold)
        report = watching.net.attempt("training with the fix", training, None, passing)
    except KeyboardInterrupt:
        return interrupted(model)
    except _DoesNotHold as failed:
        notes = (NOT_HELD.format(what=failed),)
        anew = partial(anew, start=failed.start, begun=failed.begun)
    except REFUSALS as refused:
        if not fix.carried and not isinstance(refused, CannotHandBack):
            raise
        whose = " of an earlier training" if fix.carried else ""
        notes = (str(refused), f"Trained without the fix{whose}.")
    if report is None:
        data.rewind(0)
        report = anew()
    return replace(report, notes=(*notes, *report.notes))


def _train_with(
    fix: Fix, model: keras.Model, data: TrainingData, watching: Watching, seed: int
) -> Report:
    """Train with a known fix from the start. Raises _DoesNotHold where a carried one does not."""
    first = _first_batches(data)
    run, sites = describe(model, data, first)
    stages = fix.stages(run)
    plan = (Plan(), *stages)[-1]
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    initial = take_as_it_is(model)
    rows = plan.of(RowFilter)
    fed = filtered(data, rows)  # where no row is left it says so, before anything is changed
    # Without one, the step that an earlier training has traced serves this one.
    spared = all(change.spares_model for change in plan)
    bench = None if spared else Workbench(run, data, data.validation_part(first), sites)
    with _installed(bench, plan, initial, seed):
        with unknown_length(rows), nullcontext() if bench is None else bench.saving(plan):
            after = watch(model, fed, watching, adapt=partial(plan.callbacks, run))
        if after.incident is None:
            ended, notes = _handed_back(bench, plan, fix, model)
            return Report(
                outcome=ended,
                model=model,
                history=dict(after.history),
                epoch=after.epoch,
                params=dict(after.params),
                fix=fix,
                notes=(*after.notes, *notes),
                recorder=after.recorder.usage(),
                run=run.outline(),
                stages=stages,
            )
        if fix.carried:
            raise _DoesNotHold(after, initial)
    if bench is not None:
        bench.close()
    return replace(unrepaired(model, data, after, Outcome.EXHAUSTED, state=initial), fix=fix)


@contextmanager
def _installed(bench: Workbench | None, plan: Plan, initial: Snapshot, seed: int) -> Iterator[None]:
    """Let the model train with a plan; where that is broken off, it is as it was before."""
    try:
        if bench is not None:
            bench.open()
            bench.prepare(plan, initial, seed)
        yield
    except BaseException:
        if bench is not None:
            bench.close()
        restore(initial)  # what is trained so far may be meant for scaled data
        raise


def _handed_back(
    bench: Workbench | None, plan: Plan, fix: Fix, model: keras.Model
) -> tuple[Outcome, tuple[str, ...]]:
    """Make the fix part of the model; return how the training has ended, and what is to be said.

    Where nothing was ever guarded, it has stayed finite without the fix.
    """
    notes = () if bench is None else tuple(bench.hand_back(plan))
    guards = plan.of(Guards).guards
    useless = bench is not None and guards and len(bench.idle(plan)) == len(fix.edits)
    unfit = tuple(f"{fault}." for _, fault in faults(model))
    ended = Outcome.HEALTHY if useless else Outcome.REPAIRED
    return Outcome.EXHAUSTED if unfit else ended, (*notes, *unfit)


def _first_batches(data: TrainingData) -> "list[Batch]":
    """Return a few batches of a stream to learn its shapes from; a generator is rewound."""
    return [] if data.is_arrays else first_batches(data.x)
