"""What the command line reads from files: a compiled model, and the data to train it on."""

import csv
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import keras
import numpy as np

from nanfix.api.preconditions import check_model
from nanfix.model.faults import is_raised_by_nanfix
from nanfix.records.errors import InputError

REQUIRED, OPTIONAL = ("X", "y"), ("X_val", "y_val", "sample_weight")
# Cells of a .csv, beside those that float() reads as NaN.
MISSING = frozenset({"", "na", "n/a", "null", "none"})
NUMERIC = "biuf"


def load_model(path: Path, *, trusted: bool = False) -> keras.Model:
    """Return the compiled Keras model in a file.

    Args:
        trusted: let Python code in the file (a Lambda layer) be loaded, which runs
            whatever its author wrote.

    Raises:
        InputError: the file is missing or no model, its model is not compiled or has classes that
            only its script knows, or it holds code and is not trusted.
    """
    if not path.exists():
        raise InputError(
            f"There is no model {str(path)!r}. Expected: a compiled model saved by `model.save`. "
            "Received: no such file. Check the path."
        )
    try:
        model: Any = keras.saving.load_model(path, safe_mode=not trusted)
    except Exception as error:  # of a damaged file anything, of a class of the user's too
        if is_raised_by_nanfix(error):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "safe_mode=False" in str(error):  # Keras' own advice wherever a file holds code
            raise InputError(
                f"The model {str(path)!r} holds Python code. Expected: a model without, for "
                f"instance without Lambda layers of lambda functions. Received: {reason} If you "
                "trust the file, add --trust-model: its code will run."
            ) from error
        raise InputError(
            f"Cannot load the model {str(path)!r}. Expected: a compiled model saved by "
            f"`model.save`. Received: {type(error).__name__}: {reason} A model with classes of its "
            "own is repaired through the script that makes it: nanfix repair SCRIPT."
        ) from error
    check_model(model)
    return model


def load_data(path: Path, target: str | None = None) -> dict[str, Any]:
    """Return the arguments of `model.fit` that a data file holds: x, y, and where given
    sample_weight and validation_data.

    A .npz has the arrays X and y, and may have X_val and y_val, and sample_weight; all of them have
    one row for each sample. A .csv has a line of column names; the column `target` becomes y, shape
    (rows,), all others x, shape (rows, columns), as float32. Empty cells become NaN.

    Raises:
        InputError: the file cannot be read, or is not of this form.
    """
    readers: Mapping[str, Callable[[Path, str | None], dict[str, Any]]] = {
        ".npz": _npz,
        ".csv": _csv,
    }
    read = readers.get(path.suffix.lower())
    if read is None:
        raise InputError(
            f"Cannot read data from {str(path)!r}. Expected: a .npz with the arrays X and y, or a "
            f".csv and --target. Received: {path.suffix or 'no suffix'}. Convert it, for instance "
            "with numpy.savez(path, X=X, y=y)."
        )
    try:
        return read(path, target)
    except OSError as error:
        _refuse(path, error.strerror or str(error), "a file that can be read", "Check the path.")


def _npz(path: Path, target: str | None) -> dict[str, Any]:
    form = "a .npz with the arrays X and y, and if need be X_val and y_val, and sample_weight"
    remedy = "Write it with numpy.savez(path, X=X, y=y)."
    if target is not None:
        _refuse(
            path, f"--target {target}", form, "--target names a column of a .csv; leave it out."
        )
    try:
        # Opened here, since numpy leaves a truncated file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        _refuse(path, f"{type(error).__name__}: {error}", form, remedy)
    missing = [name for name in REQUIRED if name not in arrays]
    unknown = [name for name in arrays if name not in (*REQUIRED, *OPTIONAL)]
    if missing or unknown or ("X_val" in arrays) != ("y_val" in arrays):
        _refuse(path, f"the arrays {', '.join(arrays) or '(none)'}", form, remedy)
    for name, array in arrays.items():
        if array.dtype.kind not in NUMERIC or not array.ndim:
            _refuse(
                path,
                f"{name} of shape {array.shape} and dtype {array.dtype}",
                "arrays of numbers, a row for each sample",
                remedy,
            )
    data = {"x": arrays["X"], "y": arrays["y"]}
    if "sample_weight" in arrays:
        data["sample_weight"] = arrays["sample_weight"]
    return (
        {**data, "validation_data": (arrays["X_val"], arrays["y_val"])}
        if "X_val" in arrays
        else data
    )


def _csv(path: Path, target: str | None) -> dict[str, Any]:
    form = "a line of column names, then a line of numbers for each sample"
    if target is None:
        _refuse(path, "no --target", "the name of the column to predict", "Add --target COLUMN.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = [name.strip() for name in next(csv.reader(file), [])]
            if names.count(target) != 1 or len(names) < 2:
                _refuse(
                    path,
                    f"the columns {', '.join(names)}",
                    f"one column {target!r} and others to predict it from",
                    "Check --target.",
                )
            lines = [line for line in file if line.strip()]
        if not lines:
            _refuse(path, "no line but the first", form, "Check how it was written.")
        numbers: dict[int | str, Callable[[str], float]] = {
            place: partial(_number, path, name) for place, name in enumerate(names)
        }
        table = np.loadtxt(
            lines, delimiter=",", quotechar='"', comments=None, converters=numbers, ndmin=2
        )
    # InputErrors of ours among them, those of a cell as the cause of numpy's.
    except ValueError as error:
        ours = next((e for e in (error, error.__cause__) if isinstance(e, InputError)), None)
        if ours is not None:
            raise ours from None
        _refuse(path, str(error), form, "Check how it was written.")
    if table.shape[1] != len(names):
        _refuse(
            path,
            f"{len(names)} names and {table.shape[1]} numbers in a line",
            form,
            "Check how it was written.",
        )
    place = names.index(target)
    table = table.astype("float32")
    return {"x": np.delete(table, place, axis=1), "y": table[:, place]}


def _number(path: Path, column: str, cell: str) -> float:
    if cell.strip().lower() in MISSING:
        return np.nan
    try:
        return float(cell)
    except ValueError:
        _refuse(
            path,
            f"{cell.strip()!r} in column {column!r}",
            "numbers, or empty cells",
            "Encode or leave out columns of text.",
        )


def _refuse(path: Path, received: str, expected: str, remedy: str) -> NoReturn:
    raise InputError(
        f"Cannot train on {str(path)!r}. Expected: {expected}. Received: {received}. {remedy}"
    )
