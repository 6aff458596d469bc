"""What a worker process needs to know of a failed run, as files: the model, the
snapshots, and everything else.
"""

import importlib
import io
import json
import pickle
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import Any

import keras
import numpy as np

from nanfix.changes.insertion import can_rebuild
from nanfix.data.arrays import unpacked
from nanfix.data.datasets import batches_of
from nanfix.data.training_data import TrainingData
from nanfix.explain.description import describe
from nanfix.explain.failed_run import FailedRun
from nanfix.install.probing import schedules
from nanfix.install.workbench import Workbench
from nanfix.model.addresses import walk
from nanfix.model.faults import is_raised_by_nanfix
from nanfix.model.object_state import plain_variables
from nanfix.model.snapshot import restore, state_variables
from nanfix.recorder.snapshot_files import SnapshotStore
from nanfix.records.diagnosis import Diagnosis
from nanfix.records.errors import NanfixError
from nanfix.remedies.fix import Fix
from nanfix.remedies.registry import select
from nanfix.report.export import MODEL
from nanfix.search.judge import Judge
from nanfix.search.space import Space, build_space
from nanfix.search.verdict import Baselines

FACTS, SNAPSHOTS = "facts.pickle", "snapshots"


# What callbacks have set in the model, each variable by its place among all of them.
NumbersSetAt = tuple[tuple[int, tuple[tuple[int, float], ...]], ...]


class CannotShare(Exception):
    """Says why a run cannot be handed to another process."""


@dataclass(frozen=True)
class WorkerInput:
    """The part of it that is neither model nor snapshot; `modules` hold the classes of
    the model's own code.
    """

    modules: tuple[str, ...]
    data: TrainingData
    epoch_losses: dict[int, float]
    steps: int
    steps_per_epoch: int | None
    seed: int
    strategies: tuple[str, ...]
    diagnosis: Diagnosis
    base_fix: Fix
    baselines: Baselines
    directory: Path
    set_at: NumbersSetAt = ()


def share(folder: Path, run: FailedRun) -> None:
    """Write the model, as it was compiled, and the snapshots; `hand_out` adds what is to be tried.

    Raises:
        CannotShare: the model cannot be made anew elsewhere, or the data are no arrays.
    """
    model = run.run.model
    if not run.data.is_arrays:
        raise CannotShare("the data are a stream, which one process alone can draw from")
    if not can_rebuild(model) or run.run.replicas > 1:
        raise CannotShare(
            "the model is a subclass with a call of its own, or spread over several devices"
        )
    if plain_variables(model):
        raise CannotShare("the model holds variables that Keras does not save")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        model.save(folder / MODEL)
        keras.saving.load_model(folder / MODEL)
    except Exception as error:  # Keras', or whatever a class of the user's raises
        if is_raised_by_nanfix(error):
            raise
        raise CannotShare(
            f"the model cannot be saved and loaded ({type(error).__name__}: {str(error)[:200]})"
        ) from error
    for own in _registered(folder / MODEL):
        _check_known_elsewhere(own)
    store = SnapshotStore(folder / SNAPSHOTS)
    store.clear()
    for snapshot in run.snapshots:
        store.save(replace(snapshot, callbacks=()))


def hand_out(
    folder: Path, run: FailedRun, space: Space, base_fix: Fix, baselines: Baselines, directory: Path
) -> None:
    """Write what is to be tried next, in the search that is kept in `directory`.

    Raises:
        CannotShare: an argument of the training cannot be written down.
    """
    arguments = {**(run.data.arguments or {})}
    arguments["callbacks"] = schedules(arguments.get("callbacks"))
    facts = WorkerInput(
        modules=_modules(run.run.model, _registered(folder / MODEL)),
        data=replace(run.data, arguments=arguments),
        epoch_losses=dict(run.epoch_losses),
        steps=run.steps,
        steps_per_epoch=run.steps_per_epoch,
        seed=run.seed,
        strategies=tuple(space.strategies),
        diagnosis=space.diagnosis,
        base_fix=base_fix,
        baselines=baselines,
        directory=directory,
        set_at=_set_at(run),
    )
    text = io.BytesIO()
    try:
        _Pickler(text).dump(facts)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise CannotShare(
            f"the training's arguments cannot be handed to another process ({error})"
        ) from error
    (folder / FACTS).write_bytes(text.getvalue())


def _set_at(run: FailedRun) -> NumbersSetAt:
    places = {id(variable): place for place, variable in enumerate(run.snapshots[0].variables)}
    return tuple(
        (total, tuple((places[id(v)], float(np.asarray(value))) for v, value in settings))
        for total, settings in run.set_at
    )


def taken_up(folder: Path) -> tuple[Space, Judge, Path]:
    """Rebuild what `share` and `hand_out` wrote: the space of the search, a judge with a model of
    its own, its directory.

    Raises:
        NanfixError: the model that was loaded is not the one that was saved.
    """
    facts: WorkerInput = pickle.loads((folder / FACTS).read_bytes())
    for module in facts.modules:
        importlib.import_module(module)
    model: Any = keras.saving.load_model(folder / MODEL)
    (batch,) = batches_of(facts.data.training_part(), [0], 1)
    model.test_on_batch(*unpacked(batch))  # makes its metrics
    model.optimizer.build(model.trainable_variables)
    variables = state_variables(model)
    snapshots = tuple(saved.bound(variables) for saved in SnapshotStore(folder / SNAPSHOTS).saved())
    if not snapshots:
        raise NanfixError(
            f"{folder} holds no snapshot. Expected: the input of a search's workers. Received: a "
            "folder without one."
        )
    restore(snapshots[-1])
    set_at = tuple(
        (total, tuple((variables[place], value) for place, value in numbers))
        for total, numbers in facts.set_at
    )
    run, sites = describe(model, facts.data, [], set_at)
    validation, training_rows = facts.data.validation_part([]), facts.data.rows([])
    failed = FailedRun(
        run=run,
        data=facts.data,
        validation=validation,
        training_rows=training_rows,
        snapshots=snapshots,
        epoch_losses=facts.epoch_losses,
        steps=facts.steps,
        steps_per_epoch=facts.steps_per_epoch,
        seed=facts.seed,
        set_at=set_at,
    )
    bench = Workbench(run, facts.data, validation, sites)
    space = build_space(select(facts.strategies), facts.diagnosis, run, facts.base_fix.plan(run))
    bench.open()
    return space, Judge(failed, bench, facts.baselines, facts.base_fix), facts.directory


def _modules(model: keras.Model, registered: Sequence[type | FunctionType]) -> tuple[str, ...]:
    """Return the modules that define the model's own code: classes of its parts, and what it has
    registered with Keras.
    """
    parts: Sequence[object] = [model, model.optimizer, *(layer for _, layer in walk(model))]
    names = dict.fromkeys(
        [*(type(part).__module__ for part in parts), *(own.__module__ for own in registered)]
    )
    return tuple(name for name in names if name.partition(".")[0] != "keras")


class _Pickler(pickle.Pickler):
    """Refuses what the script itself defines: another process does not run the script,
    so it could not be read there.
    """

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, type | FunctionType):
            _check_known_elsewhere(value)
        return NotImplemented


def _check_known_elsewhere(own: type | FunctionType) -> None:
    """Raise CannotShare for a class or function of the user's script or notebook itself."""
    if own.__module__ == "__main__":
        raise CannotShare(
            f"{own.__qualname__} is defined in the script itself, which no other process runs; "
            "they would find it in a module"
        )


def _registered(path: Path) -> list[type | FunctionType]:
    """Return the user's classes and functions that a saved model names: layers, losses, metrics,
    initializers, all of it.
    """
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
    found = map(keras.saving.get_registered_object, dict.fromkeys(_names(config)))
    return [own for own in found if own is not None and own.__module__.partition(".")[0] != "keras"]


def _names(config: Any) -> Iterator[str]:
    if isinstance(config, list):
        for part in config:
            yield from _names(part)
    if isinstance(config, dict):
        name = config.get("config" if config.get("class_name") == "function" else "registered_name")
        if isinstance(name, str):
            yield name
        for part in config.values():
            yield from _names(part)
