"""A folder that one run keeps its search and its result in, so that the same call goes
on where it stopped.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree
from scipy.sparse import issparse

from nanfix.data.arrays import Leaf, are_arrays
from nanfix.data.training_data import TrainingData
from nanfix.model.addresses import described, walk
from nanfix.model.quiet import quiet
from nanfix.model.user_code import name_of
from nanfix.private.objects import given_loss, given_loss_weights, given_metrics, learning_rate_of
from nanfix.records.atomic import write_text
from nanfix.records.errors import RunDirError

RUN = "run.json"
SNAPSHOTS = "snapshots"
FED = ("batch_size", "steps_per_epoch", "class_weight", "shuffle")
CHUNK = 65_536  # rows that are summed in one go
ADOPTED = "snapshots-of-the-repaired-training"


def fingerprint(model: keras.Model, data: TrainingData) -> dict[str, Any]:
    """Return what identifies a run: the model's layers and weights by shape, how it is
    compiled, and how it is fed.

    Of optimizers, losses and metrics it has the settings; of the data the shapes, and of the
    arguments of fit those that decide what is trained.
    """
    return {
        "model": {address: described(layer) for address, layer in walk(model)},
        "optimizer": type(model.optimizer).__name__,
        "compiled": compiled(model),
        "data": [_described(part) for part in (data.x, data.y)],
        "fed": {name: _plain(value) for name, value in sorted(_feeding(data).items())},
        "epochs": data.epochs,
    }


@contextmanager
def opened(
    run_dir: str | os.PathLike[str] | None, identity: dict[str, Any], data: TrainingData
) -> Iterator[Path]:
    """Yield the run's folder: `run_dir`, checked to belong to this run of these very data, or a
    temporary one, removed again.

    Raises:
        RunDirError: the folder holds another run, or cannot be written.
    """
    if run_dir is None:
        with tempfile.TemporaryDirectory(prefix="nanfix-") as folder:
            yield Path(folder)
        return
    path = Path(run_dir)
    claim(path, {**identity, "content": digest(data)})
    yield path


def digest(data: TrainingData) -> list[str]:
    """Return a checksum of each array that is trained on or validated with; of a stream, which
    cannot be read twice, its kind.
    """
    validation = data.validation_data
    parts = [
        data.x,
        data.y,
        data.sample_weight,
        *(validation if isinstance(validation, tuple | list) else [validation]),
    ]
    return [_checksum(leaf) for part in parts for leaf in tree.flatten(part)]


def _checksum(leaf: Leaf) -> str:
    if not are_arrays(leaf):
        return type(leaf).__name__
    summed = hashlib.blake2b(digest_size=8)
    for array in _held_arrays(leaf):
        summed.update(f"{array.dtype} {array.shape}".encode())
        # An array of any layout, without a copy of all of it.
        for start in range(0, len(array), CHUNK):
            part = np.ascontiguousarray(array[start : start + CHUNK])
            summed.update(
                repr(part.tolist()).encode()
                if part.dtype.hasobject
                else part.data.cast("B")
                if part.size
                else b""
            )
    return summed.hexdigest()


def _held_arrays(leaf: Leaf) -> list[np.ndarray]:
    """Return the arrays that an array of any kind is made of."""
    if issparse(leaf):
        coordinates = leaf.tocoo()
        return [coordinates.row, coordinates.col, coordinates.data]
    if isinstance(leaf, tf.RaggedTensor | tf.SparseTensor):
        return [
            np.atleast_1d(np.asarray(part))
            for part in tf.nest.flatten(leaf, expand_composites=True)
        ]
    return [np.atleast_1d(np.asarray(leaf))]


def compiled(model: keras.Model) -> Any:
    """Return the settings of the optimizers and what else the model was compiled with."""
    optimizers = {
        name: value for name, value in vars(model).items() if isinstance(value, keras.Optimizer)
    }
    settings = {name: _settings(optimizer) for name, optimizer in optimizers.items()}
    facts = {
        "loss": given_loss(model),
        "loss_weights": given_loss_weights(model),
        "metrics": given_metrics(model),
    }
    return {**{name: _plain(value) for name, value in facts.items()}, "optimizers": settings}


def _settings(optimizer: keras.optimizers.Optimizer) -> Any:
    """Return an optimizer's settings, its rate of now among them; of one that cannot
    tell them, what can be read.
    """
    try:
        return _plain(optimizer)
    except NotImplementedError:  # by a schedule of the user's
        return [
            type(optimizer).__name__,
            _numbers(optimizer),
            _numbers(learning_rate_of(optimizer)),
        ]


def _numbers(made: object) -> dict[str, Any]:
    """Return the numbers and names that an object keeps as its attributes."""
    return {
        name: _plain(value)
        for name, value in sorted(vars(made).items())
        if isinstance(value, str | int | float)
    }


def _feeding(data: TrainingData) -> dict[str, Any]:
    """Return the arguments that decide what is trained on, as far as they are not the data."""
    arguments = data.arguments or {}
    kept = {name: arguments[name] for name in FED if arguments.get(name) is not None}
    beside = {
        "validation": _described(data.validation_data),
        "sample_weight": _described(data.sample_weight),
    }
    return {**kept, "validation_split": data.validation_split, **beside}


def _plain(value: object) -> Any:
    """Return a setting as JSON holds it: numbers and names as they are, structures of
    them, and of objects the name.
    """
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, np.generic | float):
        return float(value) if np.isfinite(float(value)) else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    config: Any = getattr(value, "get_config", None)
    if config is not None and not isinstance(value, type):
        with quiet():  # Keras warns of functions, which a file could not hold
            settings: dict[str, Any] = {**config()}
        settings.pop("name", None)  # numbered in the order of their making
        return [type(value).__name__, _plain(settings)]
    return name_of(value)


def claim(path: Path, identity: dict[str, Any]) -> None:
    """Make the folder this run's, or raise RunDirError and leave it as it is."""
    marker = path / RUN
    if marker.exists():
        try:
            owner = json.loads(marker.read_text())
        except ValueError:
            owner = None
        if owner != identity:
            raise RunDirError(
                f"{path} holds another run. Expected: a run_dir of this model and these data, or a "
                f"new folder. Received: one of {_differences(owner, identity)}. Choose another "
                "run_dir, or delete this one."
            )
        return
    if path.exists() and any(path.iterdir()):
        raise RunDirError(
            f"{path} is not a run_dir. Expected: a new or empty folder, or one made by nanfix. "
            "Received: a folder with other files in it. Choose another run_dir."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_text(marker, json.dumps(identity))
    except OSError as error:
        raise RunDirError(
            f"{path} cannot be written. Expected: a writable folder. Received: {error}. Choose "
            "another run_dir."
        ) from error


def _described(part: Any) -> Any:
    if part is None:
        return None
    leaves = [part] if hasattr(part, "shape") else tree.flatten(part)
    return [
        [list(getattr(leaf, "shape", ())), str(getattr(leaf, "dtype", type(leaf).__name__))]
        for leaf in leaves
    ]


def _differences(owner: object, identity: dict[str, Any]) -> str:
    if not isinstance(owner, dict):
        return "unreadable content"
    return "another " + " and another ".join(
        name for name in identity if owner.get(name) != identity[name]
    )
