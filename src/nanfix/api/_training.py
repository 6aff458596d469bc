"""A training of nanfix.fit without a known fix: watch it, and repair it if it turns non-finite."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras

from nanfix.data.training_data import TrainingData
from nanfix.explain.incident import NOTHING_KEPT, Incident, rolled_back, say, unrepaired
from nanfix.model.randomness import preserved_randomness
from nanfix.model.running_statistics import remarks
from nanfix.model.snapshot import Snapshot, nonfinite_variables
from nanfix.recorder.outset import outset, seen_falling
from nanfix.recorder.snapshot_files import SnapshotStore
from nanfix.recorder.watch import Watched, Watching, watch
from nanfix.records.budget import Budget
from nanfix.remedies.strategy import Strategy
from nanfix.report.report import Outcome, Report
from nanfix.report.run_dir import ADOPTED
from nanfix.search.repair import Repair
from nanfix.search.validation_repair import ValidationIncident
from nanfix.search.workers.pool import Workers


@dataclass(frozen=True)
class SearchSettings:
    """How a fix is searched for, where one is needed."""

    strategies: dict[str, Strategy]
    budget: Budget
    seed: int
    workers: Workers


def watch_and_repair(
    model: keras.Model,
    data: TrainingData,
    watching: Watching,
    settings: SearchSettings,
    folder: Path,
    *,
    start: Snapshot | None = None,
    begun: Sequence[keras.callbacks.Callback] = (),
) -> Report:
    """Train, and report how that went: as Keras trains, repaired, or left in the last finite state.

    The search and the trainings with a fix are kept in `folder`. A training that begins again, from
    `start`, has `begun` for these callbacks already.
    """
    adopted = SnapshotStore(folder / ADOPTED)
    try:
        watched = watch(
            model,
            data,
            replace(watching, writes=adopted.is_empty),
            start=start,
            begun=begun,
            judged=False,
        )
    except KeyboardInterrupt:
        return interrupted(model)
    if watched.incident is None:
        return _finished(model, data, watched, settings, watching)
    budget = settings.budget
    deadline = math.inf if budget.seconds is None else time.monotonic() + budget.seconds
    recording = watched.recorder.recording()
    say(
        data,
        f"nanfix: {watched.incident}; rolling back.",
    )
    if not recording.snapshots:
        return unrepaired(model, data, watched, Outcome.EXHAUSTED, notes=(NOTHING_KEPT,))
    left = watched.recorder.memory_bytes - watched.recorder.nbytes
    incident_watching = replace(watching, memory_bytes=max(left, 1), store=adopted)
    diagnosis, outcome = None, Outcome.EXHAUSTED
    with rolled_back(recording):
        try:
            with preserved_randomness():
                run = Incident(model, data, watched, incident_watching, settings.seed)
                diagnosis = run.diagnose(deadline)
            say(data, str(diagnosis))
            if diagnosis.hopeless:
                return run.unrepaired(Outcome.UNREPAIRABLE, diagnosis)
            repair = Repair(run, settings.workers)
            return repair.report(diagnosis, settings.strategies, budget, deadline, folder)
        except KeyboardInterrupt:
            outcome = Outcome.INTERRUPTED
        except Exception as error:
            watching.net.caught("repairing the training", error)
        return unrepaired(model, data, watched, outcome, diagnosis=diagnosis)


def interrupted(model: keras.Model) -> Report:
    """Report a training that the user has ended.

    The model is as Keras leaves it or, where that is non-finite, rolled back.
    """
    history = getattr(model, "history", None)
    return Report(
        outcome=Outcome.INTERRUPTED,
        model=model,
        history=dict(getattr(history, "history", {})),
        epoch=list(getattr(history, "epoch", [])),
        params=dict(getattr(history, "params", None) or {}),
    )


def _finished(
    model: keras.Model,
    data: TrainingData,
    watched: Watched,
    settings: SearchSettings,
    watching: Watching,
) -> Report:
    """Report a run that stayed finite.

    A model or a validation that is not finite in inference is explained, and repaired where that
    takes no other training. A model that is not fit for use is not called healthy.
    """
    net = watching.net
    report = Report(
        outcome=Outcome.HEALTHY,
        model=model,
        history=dict(watched.history),
        epoch=watched.epoch,
        params=dict(watched.params),
        notes=watched.notes,
        recorder=watched.recorder.usage(),
    )
    if watched.recorder.failed:
        return (
            replace(report, outcome=Outcome.EXHAUSTED)
            if is_ruined(model, watched.history)
            else report
        )
    incident = net.attempt(
        "looking at the model in inference",
        lambda: ValidationIncident.of(model, data, watched),
        None,
    )
    if incident is None:
        report = replace(report, notes=(*report.notes, *remarks(model)))
        return net.attempt(
            "looking at how the loss went", partial(_with_divergence, report, watched), report
        )
    say(data, str(incident.diagnosis))
    with preserved_randomness():
        mend = partial(incident.repair, settings.strategies, settings.seed, watching)
        repaired = net.attempt("repairing the model in inference", mend, None)
    if repaired is None:
        outcome = Outcome.EXHAUSTED if incident.is_of_the_model else Outcome.HEALTHY
        notes = (*report.notes, *incident.notes)
        return replace(report, outcome=outcome, diagnosis=incident.diagnosis, notes=notes)
    return replace(
        report,
        outcome=Outcome.REPAIRED,
        diagnosis=incident.diagnosis,
        fix=repaired.fix,
        notes=(*report.notes, *incident.notes, *repaired.notes),
        history=repaired.history(report.history),
        epoch=report.epoch if repaired.again is None else repaired.again.epoch,
        run=incident.run.outline(),
        stages=repaired.fix.stages(incident.run),
    )


def _with_divergence(report: Report, watched: Watched) -> Report:
    """Return the report of a finite run, which says so where loss and weights have diverged since
    the model was first trained.
    """
    recording = watched.recorder.recording(steps=False)
    begun = outset(report.model, recording)
    diverged = begun and begun.diverged(recording, report.model)
    if diverged is None:
        return report
    alone = recording.initial.total == 0 and recording.grown is not None
    note = diverged.sentence("" if alone else " of its first training")
    note = note[0].upper() + note[1:] + "."
    if diverged.loss < 0.0:
        seen_falling(report.model)
    note += " With repair_divergence=True it is repaired." if alone else ""
    return replace(report, outcome=Outcome.DIVERGED, notes=(*report.notes, note))


def is_ruined(model: keras.Model, history: Mapping[str, Sequence[float]]) -> bool:
    """Say whether a training that was not watched, or not to its end, has left NaN or
    inf in loss or model.
    """
    losses = history.get("loss", ())
    return bool(nonfinite_variables(model)) or (bool(losses) and not math.isfinite(losses[-1]))
