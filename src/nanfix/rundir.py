"""A folder that one run keeps its search and its result in, so that the same call goes on where it stopped."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras import tree

from nanfix.data import TrainingData
from nanfix.errors import RunDirError
from nanfix.export import write_text

RUN = "run.json"
SNAPSHOTS = "snapshots"
ADOPTED = "snapshots-of-the-repaired-training"


def fingerprint(model: Any, data: TrainingData) -> dict[str, Any]:
    """Return what identifies a run: the model's layers and weights by shape, optimizer, and the shape of the data."""
    return {
        "model": [[type(layer).__name__, [list(w.shape) for w in layer.weights]] for layer in model.layers],
        "optimizer": type(model.optimizer).__name__,
        "data": [_described(part) for part in (data.x, data.y)],
        "epochs": data.epochs,
    }


@contextmanager
def opened(run_dir: str | os.PathLike[str] | None, identity: dict[str, Any]) -> Iterator[Path]:
    """Yield the run's folder: `run_dir`, checked to belong to this run, or a temporary one that is removed again.

    Raises:
        RunDirError: the folder holds another run, or cannot be written.
    """
    if run_dir is None:
        with tempfile.TemporaryDirectory(prefix="nanfix-") as folder:
            yield Path(folder)
        return
    path = Path(run_dir)
    claim(path, identity)
    yield path


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
                f"{path} holds another run. Expected: a run_dir of this model and these data, or a new folder. "
                f"Received: one of {_differences(owner, identity)}. Choose another run_dir, or delete this one."
            )
        return
    if path.exists() and any(path.iterdir()):
        raise RunDirError(
            f"{path} is not a run_dir. Expected: a new or empty folder, or one made by nanfix. Received: a folder with other "
            "files in it. Choose another run_dir."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_text(marker, json.dumps(identity))
    except OSError as error:
        raise RunDirError(
            f"{path} cannot be written. Expected: a writable folder. Received: {error}. Choose another run_dir."
        ) from error


def _described(part: Any) -> Any:
    if part is None:
        return None
    leaves = [part] if hasattr(part, "shape") else tree.flatten(part)
    return [[list(getattr(leaf, "shape", ())), str(getattr(leaf, "dtype", type(leaf).__name__))] for leaf in leaves]


def _differences(owner: Any, identity: dict[str, Any]) -> str:
    if not isinstance(owner, dict):
        return "unreadable content"
    return "another " + " and another ".join(name for name in identity if owner.get(name) != identity[name])
