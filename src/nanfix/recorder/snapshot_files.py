"""Snapshots as files of one folder, each of them whole or not there at all."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from nanfix.model.snapshot import Snapshot
from nanfix.records.atomic import replacing
from nanfix.records.errors import RunDirError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

SUFFIX = ".safetensors"
SNAPSHOTS = f"[0-9]*{SUFFIX}"  # a half-written file begins with a dot


@dataclass(frozen=True)
class StoredTensors:
    """What the variables of a snapshot held, read from its file one by one each time
    they are gone through.
    """

    path: Path
    count: int

    def __iter__(self) -> Iterator[np.ndarray]:
        with safe_open(self.path, "np") as file:
            for index in range(self.count):
                yield file.get_tensor(str(index))


class _CallbackFacts(BaseModel):
    """What a callback remembered: plain values, and how many arrays the file holds of
    each of its lists of arrays.
    """

    kind: str
    plain: dict[str, JsonValue]
    arrays: dict[str, int]


class _Facts(BaseModel):
    """What a file says of its snapshot beside the tensors."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    epoch: int
    step: int
    total: int
    shapes: tuple[tuple[int, ...], ...]
    history: dict[str, list[float]]
    epochs: tuple[int, ...]
    callbacks: list[_CallbackFacts]
    weight_norm: float


@dataclass(frozen=True)
class Saved:
    """A snapshot on disk as its file describes it, before there is a model to put it into.

    `history` and `epochs` are those of the training up to it; `callbacks` pairs the class of each
    of the user's callbacks with what it remembered.
    """

    path: Path
    epoch: int
    step: int
    total: int
    shapes: tuple[tuple[int, ...], ...]
    history: Mapping[str, list[float]] = field(default_factory=dict)
    epochs: tuple[int, ...] = ()
    callbacks: tuple[tuple[str, dict[str, Any]], ...] = ()
    weight_norm: float = math.nan

    def bound(
        self,
        variables: "Sequence[keras.Variable | tf.Variable]",
        callbacks: "Sequence[keras.callbacks.Callback]" = (),
    ) -> Snapshot:
        """Return the snapshot of these variables and callbacks.

        Raises:
            RunDirError: the file was written for other variables.
        """
        shapes = tuple(tuple(variable.shape) for variable in variables)
        if shapes != self.shapes:
            raise RunDirError(
                f"{self.path} holds the state of another model. Expected: {len(shapes)} variables "
                f"as this model and its optimizer have them. Received: {len(self.shapes)} of other "
                "shapes. Choose another run_dir, or delete this one."
            )
        tensors, states = StoredTensors(self.path, len(self.shapes)), tuple(self.states(callbacks))
        return Snapshot(
            self.epoch, self.step, self.total, tuple(variables), tensors, states, self.weight_norm
        )

    def states(
        self, callbacks: "Sequence[keras.callbacks.Callback]"
    ) -> "list[tuple[keras.callbacks.Callback, dict[str, Any]]]":
        """Return what each of these callbacks remembered, if they are of the classes
        that were saved.
        """
        known = zip(callbacks, self.callbacks, strict=False)
        return [
            (callback, state)
            for callback, (kind, state) in known
            if type(callback).__name__ == kind
        ]

    def __str__(self):
        after = (
            f" (saved after {self.step} steps of it; the epoch is trained from its beginning)"
            if self.step
            else ""
        )
        return (
            f"Went on at epoch {self.epoch + 1}{after} from {self.path}, where an earlier call "
            "had been stopped."
        )


def joined(
    past: Saved | None, history: Mapping[str, list[float]], epochs: Sequence[int]
) -> tuple[dict[str, list[float]], list[int]]:
    """Return the history of a training that went on from a saved snapshot, from its first epoch."""
    if past is None:
        return {name: list(values) for name, values in history.items()}, list(epochs)
    names = dict.fromkeys([*past.history, *history])
    return {n: [*past.history.get(n, []), *history.get(n, [])] for n in names}, [
        *past.epochs,
        *epochs,
    ]


class SnapshotStore:
    """Keeps snapshots in `folder`, which is made when the first one is written."""

    def __init__(self, folder: Path):
        self.folder = folder

    def part(self, name: str) -> "SnapshotStore":
        """Return the store in the folder of that name in this one's."""
        return SnapshotStore(self.folder / name)

    @property
    def is_empty(self) -> bool:
        """Say whether neither this store nor any part of it holds a snapshot."""
        return next(self.folder.rglob(SNAPSHOTS), None) is None

    def save(
        self,
        snapshot: Snapshot,
        history: Mapping[str, list[float]] | None = None,
        epochs: Sequence[int] = (),
    ) -> Snapshot:
        """Write a snapshot and return it as one that lives in the file.

        Raises:
            OSError: the file cannot be written; the older files are as they were.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays = [np.asarray(tensor, order="C") for tensor in snapshot.tensors]
        tensors = {str(index): array for index, array in enumerate(arrays)}
        states = []
        for index, (callback, state) in enumerate(snapshot.callbacks):
            plain, weights = _split(state)
            counts = {name: len(value) for name, value in weights.items()}
            states.append(_CallbackFacts(kind=type(callback).__name__, plain=plain, arrays=counts))
            tensors |= {
                f"{index}/{name}/{n}": a
                for name, value in weights.items()
                for n, a in enumerate(value)
            }
        facts = _Facts(
            epoch=snapshot.epoch,
            step=snapshot.step,
            total=snapshot.total,
            shapes=tuple(array.shape for array in arrays),
            history={
                name: [float(value) for value in values] for name, values in (history or {}).items()
            },
            epochs=tuple(epochs),
            callbacks=states,
            weight_norm=snapshot.weight_norm,
        )
        path = self.folder / f"{snapshot.total:012d}{SUFFIX}"
        with replacing(path) as temporary:
            save_file(tensors, temporary, {"nanfix": facts.model_dump_json()})
        return replace(snapshot, tensors=StoredTensors(path, len(arrays)))

    def saved(self) -> list[Saved]:
        """Return what the folder holds, oldest first. A file that is not a snapshot is
        passed over.
        """
        found = [_described(path) for path in sorted(self.folder.glob(SNAPSHOTS))]
        return [saved for saved in found if saved is not None]

    def discard(self, snapshot: Snapshot) -> None:
        """Delete the file of a snapshot that lives in one."""
        if isinstance(snapshot.tensors, StoredTensors):
            snapshot.tensors.path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete every snapshot, of the parts too; half-written ones as well."""
        for part in self.folder.glob("*/"):
            self.part(part.name).clear()
        for path in self.folder.glob(f"*{SUFFIX}"):
            path.unlink(missing_ok=True)
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _described(path: Path) -> Saved | None:
    try:
        with safe_open(path, "np") as file:
            facts = _Facts.model_validate_json(file.metadata()["nanfix"])
            callbacks = tuple(
                _state(file, index, saved) for index, saved in enumerate(facts.callbacks)
            )
    except (SafetensorError, KeyError, TypeError, ValidationError):
        return None
    return Saved(
        path,
        epoch=facts.epoch,
        step=facts.step,
        total=facts.total,
        shapes=facts.shapes,
        history=facts.history,
        epochs=facts.epochs,
        callbacks=callbacks,
        weight_norm=facts.weight_norm,
    )


def _state(file: Any, index: int, saved: _CallbackFacts) -> tuple[str, dict[str, Any]]:
    arrays = {
        name: [file.get_tensor(f"{index}/{name}/{n}") for n in range(count)]
        for name, count in saved.arrays.items()
    }
    return saved.kind, {**saved.plain, **arrays}


def _split(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
    """Return what of a callback's state JSON can hold, and its lists of arrays; the
    rest is not carried over.
    """
    plain, arrays = {}, {}
    for name, value in state.items():
        if isinstance(value, np.generic):
            value = value.item()
        if (
            isinstance(value, list)
            and value
            and all(isinstance(item, np.ndarray) for item in value)
        ):
            arrays[name] = [np.asarray(item, order="C") for item in value]
        elif _is_json(value):
            plain[name] = value
    return plain, arrays


def _is_json(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, str):
        # A path may have bytes that are no text.
        return value.encode(errors="ignore").decode() == value
    return value is None or isinstance(value, bool | int | float)
