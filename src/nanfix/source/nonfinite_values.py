"""Which non-finite numbers a value of the user's holds: numbers, arrays, tables, tensors, and
containers of these.

A value is known by its type. To ask it for an attribute would run code of the user's, and what has
one attribute of an array need not have the others.
"""

import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from nanfix.records.data_origin import Holes

DEPTH = 3  # containers in containers are opened so deep
CHUNK = 1 << 22  # cells looked at in one go
CONTAINERS = (list, tuple, dict)


def holes(value: Any) -> Holes | None:
    """Return the non-finite numbers in a value; None where it holds no numbers. Whole numbers are
    finite, and what is made of them need not be: the log of one that has overflowed.
    """
    if type(value) is float:
        return _of_numbers(0 if math.isfinite(value) else 1, math.isnan(value), 1)
    if is_table(value):
        found = {str(name): bad for name, column in value.items() if (bad := holes(column))}
        return (
            _joined(list(found.values()), tuple(found), max(value.size, 1))
            if found
            else (Holes(cells=int(value.size)) if value.size else None)
        )
    if type(value) in CONTAINERS:
        return _of_parts(list(leaves(value)))
    array = numbers(value)
    if array is None:
        return Holes(cells=int(value.size)) if _is_whole(value) else None
    return _of_array(array)


def leaves(value: Any, depth: int = DEPTH) -> Iterator[Any]:
    """Yield what a container holds that is no container itself; a value that is none."""
    if type(value) not in CONTAINERS or not depth:
        yield value
        return
    for part in value.values() if type(value) is dict else value:
        yield from leaves(part, depth - 1)


def is_of(value: object, *types: type) -> bool:
    """Say whether a value is of one of these types, whatever it says that its class is."""
    return issubclass(type(value), types)


def is_table(value: object) -> bool:
    """Say whether a value is a DataFrame of pandas."""
    return _package(value) == "pandas" and is_of(value, sys.modules["pandas"].DataFrame)


def shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape of an array or a table; of what is none an empty one."""
    array = value if is_table(value) else numbers(value)
    return () if array is None else tuple(array.shape)


def is_array(value: object) -> bool:
    """Say whether a value holds floats and is more than one number."""
    return is_table(value) or (numbers(value) is not None and not is_of(value, np.generic))


def numbers(value: Any) -> np.ndarray | None:
    """Return the floats in an array, a Series, a tensor or a sparse matrix; None where it has
    none.
    """
    package = _package(value)
    if package == "pandas" and _is_column(value):
        if value.dtype.kind not in "fiu":
            return None
        plain = isinstance(value.dtype, np.dtype)
        value = value.to_numpy() if plain else value.to_numpy("float64", na_value=np.nan)
    elif package == "tensorflow":
        value = _of_tensor(value)
    elif package == "scipy" and hasattr(type(value), "tocsr"):
        value = getattr(value, "data", None)
    is_float = is_of(value, np.ndarray, np.generic) and value.dtype.kind == "f"
    return np.asarray(value) if is_float and value.size else None


def _is_whole(value: Any) -> bool:
    """Say whether a value is an array or a column of integers, and more than one."""
    column = _package(value) == "pandas" and _is_column(value)
    return (column or is_of(value, np.ndarray)) and value.dtype.kind in "iu" and value.size > 1


def _package(value: object) -> str:
    module = type(value).__module__
    return module.partition(".")[0] if isinstance(module, str) else ""


def _is_column(value: object) -> bool:
    pandas = sys.modules["pandas"]
    return is_of(value, pandas.Series, pandas.Index, pandas.api.extensions.ExtensionArray)


def _of_tensor(value: Any) -> Any:
    """Return the numbers of an eager tensor, None for any other object of TensorFlow's."""
    held = {"RaggedTensor": "flat_values", "SparseTensor": "values"}.get(type(value).__name__)
    flat = value if held is None else getattr(value, held)
    floats = type(flat).__name__ == "EagerTensor" and flat.dtype.is_floating
    return flat.numpy() if floats else None


def _of_array(array: np.ndarray) -> Holes:
    if array.size <= CHUNK and np.isfinite(array).all():
        return Holes.model_construct(cells=array.size)  # checks cost more than the numbers here
    width = array.shape[-1] if array.ndim > 1 else 1
    table, step = array.reshape(-1, width), max(CHUNK // max(width, 1), 1)
    bad, nan = np.zeros(width, int), 0
    for start in range(0, len(table), step):
        part = table[start : start + step]
        wrong = ~np.isfinite(part)
        if wrong.any():
            bad += wrong.sum(axis=0)
            nan += int(np.isnan(part).sum())
    total = int(bad.sum())
    if not total:
        return Holes(cells=array.size)
    columns = tuple(map(str, np.flatnonzero(bad))) if width > 1 else ()
    share = float(bad.max() / len(table))
    return Holes(cells=array.size, nan=nan, inf=total - nan, columns=columns, share=share)


def _of_parts(parts: list[Any]) -> Holes | None:
    """Return what the parts of a container hold: numbers count as one column, arrays each as
    itself.
    """
    if all(type(part) is float for part in parts):
        bad = [part for part in parts if not math.isfinite(part)]
        return _of_numbers(len(bad), sum(map(math.isnan, bad)), len(parts)) if parts else None
    inside = [part for part in parts if type(part) not in CONTAINERS]  # deeper ones stay closed
    found = [of_part for part in inside if (of_part := holes(part)) is not None]
    if not found:
        return None
    cells = sum(of_part.cells for of_part in found)
    return _joined([of_part for of_part in found if of_part], (), cells)


def _of_numbers(bad: int, nan: int, cells: int) -> Holes:
    return Holes(cells=cells, nan=int(nan), inf=bad - int(nan), share=bad / cells)


def _joined(found: list[Holes], columns: tuple[str, ...], cells: int) -> Holes:
    nan, inf = sum(bad.nan for bad in found), sum(bad.inf for bad in found)
    share = max((bad.share for bad in found), default=0.0)
    return Holes(cells=int(cells), nan=nan, inf=inf, columns=columns, share=share)
