"""The outputs of a model with their losses, and the functions that may take the place of what
computes their columns.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import activations

from nanfix.data.arrays import take_rows
from nanfix.explain.loss_probe import (
    Loss,
    can_fall_below_zero,
    given_outputs,
    loss_on,
    rows_looked_at,
)
from nanfix.model.activations import activation_name, activation_of, is_bounded
from nanfix.model.crossentropies import UserLoss
from nanfix.model.outputs import in_order, output_names, outputs_of
from nanfix.model.run import Run

JOINT = "softmax"  # of all columns of an output together


@dataclass(frozen=True)
class Part:
    """Columns of an output that one layer gives: its address, None where another operation gives
    them, and the functions that may take the place of its activation or be computed behind it,
    loosest first.
    """

    address: str | None
    width: int
    choices: tuple[Callable[[Any], Any], ...]


@dataclass(frozen=True)
class Head:
    """An output: its name among `Run.ends`, its parts, its loss as it was given and as a function
    of values of this shape, what the model gives now, and whether its targets differ among rows.
    """

    name: str | None
    parts: tuple[Part, ...]
    given: UserLoss
    loss: Loss
    shape: tuple[int, ...]
    present: np.ndarray
    divisible: bool
    targets_vary: bool


def heads_of(run: Run, names: Sequence[str]) -> Iterator[Head]:
    """Yield the outputs, each with its loss on the first rows."""
    free = _free(run)
    targets = in_order(list(run.sample.targets), run.sample.target_names, output_names(run))
    single = given_outputs(run) if len(targets) == 1 else None
    if single is not None:
        address = None if run.output_activation is None else run.output_activation[0]
        yield _head(run, names, 0, address, run.user_loss, targets[0], single, free)
        return
    outputs = list(outputs_of(run))
    if len(outputs) != len(targets) or len(outputs) < 2:
        return
    present = run.model(take_rows(run.sample.x, rows_looked_at(run)), training=False)
    arrays = in_order(_flat(present), present, output_names(run))
    for index, (output, target) in enumerate(zip(outputs, targets, strict=True)):
        yield _head(run, names, index, output.address, output.loss, target, arrays[index], free)


def _head(
    run: Run,
    names: Sequence[str],
    index: int,
    address: str | None,
    given: UserLoss,
    targets: np.ndarray,
    present: np.ndarray,
    free: Sequence[np.ndarray],
) -> Head:
    width = present.shape[-1] if present.ndim > 1 else 1
    columns = run.columns[index] if index < len(run.columns) else ()
    parts, start = [], 0
    for at, count in columns or ((address, width),):
        behind = index < len(free) and bool(free[index][start : start + count].any())
        parts.append(_part(run, at, count, names, behind=behind))
        start += count
    name = run.ends[index] if index < len(run.ends) else None
    targets = targets[rows_looked_at(run)]
    loss, vary = loss_on(given, targets), bool((targets != targets[:1]).any())
    return Head(name, tuple(parts), given, loss, present.shape, present, bool(columns), vary)


def _free(run: Run) -> list[np.ndarray]:
    """Return for each output the columns that something behind it may have to keep in a domain;
    nothing where nothing can be put there, or nothing needs to be.
    """
    by_another = any(address is None for output in run.columns for address, _ in output)
    if not run.ends or not (by_another or None in (run.outputs or ())):
        return []
    return can_fall_below_zero(run)


def _part(run: Run, address: str | None, width: int, names: Sequence[str], *, behind: bool) -> Part:
    if address is None:
        choices = ("linear", *_for_width(names, width)) if behind else ()
        return Part(address, width, tuple(map(activations.get, choices)))
    present = activation_of(run.members[address])
    fixed = is_bounded(present) or activation_name(run.members[address]) in names
    others = () if fixed else tuple(map(activations.get, _for_width(names, width)))
    return Part(address, width, (present, *others))


def _for_width(names: Sequence[str], width: int) -> Sequence[str]:
    """Return the activations without that of several columns together, where there is one."""
    return names if width > 1 else [name for name in names if name != JOINT]


def _flat(outputs: Any) -> list[np.ndarray]:
    from keras import tree

    return [np.nan_to_num(np.asarray(each, "float32")) for each in tree.flatten(outputs)]
