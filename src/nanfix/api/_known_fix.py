"""A training of nanfix.fit with a known fix, from the start and without a search."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

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
from nanfix.model.snapshot import restore, take_as_it_is
from nanfix.recorder.watch import Watching, watch
from nanfix.records.budget import Budget
from nanfix.records.errors import REFUSALS, CannotHandBack
from nanfix.remedies.fix import Fix
from nanfix.report.report import Outcome, Report
from nanfix.search.workers.pool import ALONE


def train_with_known(
    fix: Fix, model: keras.Model, data: TrainingData, watching: Watching, seed: int, folder: Path
) -> Report:
    """Train with a known fix. Where that cannot be, train without, as plain Keras does,
    and repair nothing.
    """
    notes: tuple[str, ...] = ()
    report = None
    try:
        training = partial(_train_with, fix, model, data, watching, seed)
        report = watching.net.attempt("training with the fix", training, None, REFUSALS)
    except KeyboardInterrupt:
        return interrupted(model)
    except CannotHandBack as refused:
        notes = (str(refused), "Trained without the fix.")
    if report is None:
        data.rewind(0)
        report = watch_and_repair(
            model, data, watching, SearchSettings({}, Budget(), seed, ALONE), folder
        )
    return replace(report, notes=(*notes, *report.notes))


def _train_with(
    fix: Fix, model: keras.Model, data: TrainingData, watching: Watching, seed: int
) -> Report:
    """Train with a known fix from the start."""
    first = _first_batches(data)
    run, sites = describe(model, data, first)
    stages = fix.stages(run)
    plan = (Plan(), *stages)[-1]
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    initial = take_as_it_is(model)
    rows = plan.of(RowFilter)
    fed = filtered(data, rows)  # where no row is left it says so, before anything is changed
    bench = Workbench(run, data, data.validation_part(first), sites)
    try:
        bench.open()
        bench.prepare(plan, initial, seed)
        with unknown_length(rows), bench.saving(plan):
            after = watch(model, fed, watching, adapt=bench.adapted(plan))
        if after.incident is None:
            handed_back = bench.hand_back(plan)
            # Where nothing was ever guarded, the training has stayed finite without the fix.
            useless = plan.of(Guards).guards and len(bench.idle(plan)) == len(fix.edits)
            unfit = tuple(f"{fault}." for _, fault in faults(model))
            ended = Outcome.HEALTHY if useless else Outcome.REPAIRED
            return Report(
                outcome=Outcome.EXHAUSTED if unfit else ended,
                model=model,
                history=dict(after.history),
                epoch=after.epoch,
                params=dict(after.params),
                fix=fix,
                notes=(*after.notes, *handed_back, *unfit),
                recorder=after.recorder.usage(),
                run=run.outline(),
                stages=stages,
            )
    except BaseException:
        bench.close()
        restore(initial)  # what is trained so far may be meant for scaled data
        raise
    bench.close()
    return replace(unrepaired(model, data, after, Outcome.EXHAUSTED, state=initial), fix=fix)


def _first_batches(data: TrainingData) -> list[Any]:
    """Return a few batches of a stream to learn its shapes from; a generator is rewound."""
    return [] if data.is_arrays else first_batches(data.x)
