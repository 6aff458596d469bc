"""Which activation each column of the outputs needs, so that the loss is defined of it and has a
minimum.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from keras import activations

from nanfix.changes.columns import Columns
from nanfix.data.arrays import take_rows
from nanfix.explain.loss_probe import (
    Loss,
    can_fall_below_zero,
    given_outputs,
    has_no_bottom,
    loss_of,
    loss_on,
    rows_looked_at,
)
from nanfix.model.activations import activation_name, activation_of, is_bounded
from nanfix.model.crossentropies import UserLoss, takes_logits
from nanfix.model.outputs import in_order, output_names, outputs_of
from nanfix.model.refusals import REFUSED
from nanfix.model.run import Run

# Standard deviation of drawn outputs, before the activation: wide enough for both flanks of a
# sigmoid, and exponentials of them are finite.
SPREAD = 3.0
PIECES = 64  # at most, in which the columns of a layer are told apart


@dataclass(frozen=True)
class _Part:
    """Columns of an output that one layer gives: its address, None where another operation gives
    them, and the functions that may take the place of its activation or be computed behind it,
    loosest first.
    """

    address: str | None
    width: int
    choices: tuple[Callable[[Any], Any], ...]


@dataclass(frozen=True)
class _Head:
    """An output: its name among `Run.ends`, its parts, its loss as it was given and as a function
    of values of this shape, and what the model gives now.
    """

    name: str | None
    parts: tuple[_Part, ...]
    given: UserLoss
    loss: Loss
    shape: tuple[int, ...]
    present: np.ndarray
    divisible: bool


@dataclass(frozen=True)
class _Piece:
    """Adjacent columns of a part, and which of its choices they take."""

    part: int
    start: int
    stop: int
    choice: int


@dataclass(frozen=True)
class Needed:
    """What layers of an output have to compute, by address, and what has to be computed behind it,
    by its name: the name of an activation or, where columns need several, these
    (`changes.columns`).
    """

    layers: Mapping[str, str | Columns] = field(default_factory=dict)
    behind: Mapping[str, str | Columns] = field(default_factory=dict)


def needed_activations(run: Run, names: Sequence[str]) -> Needed:
    """Return what an output needs; nothing where none does.

    Of these activations, the loosest first, each column takes the first with which the loss is
    finite and has a minimum, and keeps its own wherever that is so. It is tried on drawn outputs,
    so that the answer does not depend on the weights that a trial has left. Of several outputs it
    is the first whose loss is not defined of them as it stands.
    """
    for head in _heads(run, names):
        if takes_logits(head.given) or all(len(part.choices) < 2 for part in head.parts):
            continue
        try:
            found = _loosest(head, len(names))
        except REFUSED:
            continue
        if found is not None:
            return Needed(_by_layer(head, found, names), _behind(head, found, names))
    return Needed()


def _loosest(head: _Head, strictest: int) -> list[_Piece] | None:
    """Return the pieces of an output with the loosest choices; None where the present ones will do,
    or no choice does.
    """
    if _works(head, _whole(head, 0), ()):
        return None
    for strict in range(strictest, 0, -1):
        pieces = _whole(head, strict)
        if _works(head, pieces, ()):
            break
    else:
        return None
    for choice in range(strict):
        pieces = [
            replace(each, choice=choice) if loose else each
            for index in range(len(pieces))
            for each, loose in _loosened(head, pieces, index, choice)
        ]
        pieces = _joined(pieces)
    everywhere = (_whole(head, choice) for choice in range(1, strictest + 1))
    ways = (_alive(head, pieces), pieces, *everywhere)
    return next((way for way in ways if _works(head, way, range(len(way)))), None)


def _loosened(
    head: _Head, pieces: list[_Piece], index: int, choice: int
) -> Iterator[tuple[_Piece, bool]]:
    """Yield a piece in such as can take a looser choice, and such as cannot."""
    piece = pieces[index]
    if choice >= min(piece.choice, len(head.parts[piece.part].choices)):
        yield piece, False
        return
    tried = [*pieces[:index], replace(piece, choice=choice), *pieces[index + 1 :]]
    width = piece.stop - piece.start
    if _works(head, tried, (index,)):
        yield piece, True
    elif width == 1 or not head.divisible or PIECES * width <= head.parts[piece.part].width:
        yield piece, False
    else:
        middle = piece.start + width // 2
        halves = [replace(piece, stop=middle), replace(piece, start=middle)]
        apart = [*pieces[:index], *halves, *pieces[index + 1 :]]
        for half in (index, index + 1):
            yield from _loosened(head, apart, half, choice)


def _works(head: _Head, pieces: Sequence[_Piece], far: Sequence[int]) -> bool:
    """Say whether the loss is finite of the pieces, drawn with either sign and once as whole
    numbers, at which a gamma function has its poles, and has a minimum as those in `far`, by their
    index, go far out.
    """
    drawn = SPREAD * np.random.default_rng(0).normal(size=head.shape).astype("float32")
    drawn = drawn if drawn.ndim > 1 else drawn[:, None]
    for z in (drawn, -drawn, np.round(drawn)):
        values, mask = _values(head, pieces, z, far)

        def loss(moved: np.ndarray, values: np.ndarray = values, mask: Any = mask) -> float:
            return head.loss(np.where(mask, moved, values).reshape(head.shape))

        if not np.isfinite(loss(values)) or (mask.any() and has_no_bottom(loss, values)):
            return False
    return True


def _values(
    head: _Head, pieces: Sequence[_Piece], drawn: np.ndarray, far: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of an output, and which of its columns go far out."""
    values = np.array(head.present, "float32").reshape(drawn.shape)
    mask = np.zeros(drawn.shape[-1], bool)
    starts = np.cumsum([0, *(part.width for part in head.parts)])
    for index, piece in enumerate(pieces):
        part, offset = head.parts[piece.part], starts[piece.part]
        if part.choices:
            function = part.choices[min(piece.choice, len(part.choices) - 1)]
            columns = slice(offset + piece.start, offset + piece.stop)
            # As a whole: a layer may have a weight for each of its columns.
            whole = np.asarray(function(drawn[..., offset : offset + part.width]), "float32")
            values[..., columns] = whole[..., piece.start : piece.stop]
            mask[columns] = index in far and not is_bounded(function)
    return values, mask


def _whole(head: _Head, choice: int) -> list[_Piece]:
    return [_Piece(index, 0, part.width, choice) for index, part in enumerate(head.parts)]


def _alive(head: _Head, pieces: Sequence[_Piece]) -> list[_Piece]:
    """Return the pieces, those that would keep an activation that is flat below 0 with the choice
    of their neighbors: such a column may give 0 for all rows and then has no gradient.
    """
    changed = {piece.part: piece.choice for piece in pieces if piece.choice}
    flat = {i for i, part in enumerate(head.parts) if part.choices and _is_flat(part.choices[0])}
    return _joined(
        [
            replace(piece, choice=changed.get(piece.part, 0))
            if piece.part in flat and not piece.choice
            else piece
            for piece in pieces
        ]
    )


def _is_flat(function: Callable[[Any], Any]) -> bool:
    return not np.asarray(function(-np.abs(np.linspace(0.1, SPREAD, 7, dtype="float32")))).any()


def _joined(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Return the pieces with neighbors of one choice made one."""
    joined: list[_Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if last is not None and (last.part, last.choice) == (piece.part, piece.choice):
            joined[-1] = replace(last, stop=piece.stop)
        else:
            joined.append(piece)
    return joined


def _by_layer(
    head: _Head, pieces: Sequence[_Piece], names: Sequence[str]
) -> dict[str, str | Columns]:
    found: dict[str, str | Columns] = {}
    for index, part in enumerate(head.parts):
        own = [piece for piece in pieces if piece.part == index]
        chosen = [names[each.choice - 1] if each.choice else None for each in own]
        if part.address is not None and len(part.choices) > 1 and any(chosen):
            runs = tuple(
                (each.stop - each.start, name) for each, name in zip(own, chosen, strict=True)
            )
            found[part.address] = runs if len(runs) > 1 else str(chosen[0])
    return found


def _behind(
    head: _Head, pieces: Sequence[_Piece], names: Sequence[str]
) -> dict[str, str | Columns]:
    """Return what has to be computed behind an output: of the columns that no layer gives."""
    runs: list[tuple[int, str | None]] = []
    for piece in pieces:
        given = head.parts[piece.part].address is not None or not piece.choice
        name = None if given else names[piece.choice - 1]
        width = piece.stop - piece.start
        if runs and runs[-1][1] == name:
            width += runs.pop()[0]
        runs.append((width, name))
    if head.name is None or not any(name for _, name in runs):
        return {}
    return {head.name: tuple(runs) if len(runs) > 1 else str(runs[0][1])}


def _heads(run: Run, names: Sequence[str]) -> Iterator[_Head]:
    """Yield the outputs, each with its loss on the first rows."""
    free = _free(run)
    targets = in_order(list(run.sample.targets), run.sample.target_names, output_names(run))
    single = given_outputs(run) if len(targets) == 1 else None
    if single is not None:
        address = None if run.output_activation is None else run.output_activation[0]
        yield _head(run, names, 0, address, run.user_loss, loss_of(run), single, free)
        return
    outputs = list(outputs_of(run))
    if len(outputs) != len(targets) or len(outputs) < 2:
        return
    present = run.model(take_rows(run.sample.x, rows_looked_at(run)), training=False)
    arrays = in_order(_flat(present), present, output_names(run))
    for index, (output, target) in enumerate(zip(outputs, targets, strict=True)):
        loss = loss_on(output.loss, target[rows_looked_at(run)])
        yield _head(run, names, index, output.address, output.loss, loss, arrays[index], free)


def _head(
    run: Run,
    names: Sequence[str],
    index: int,
    address: str | None,
    given: UserLoss,
    loss: Loss,
    present: np.ndarray,
    free: Sequence[np.ndarray],
) -> _Head:
    width = present.shape[-1] if present.ndim > 1 else 1
    columns = run.columns[index] if index < len(run.columns) else ()
    parts, start = [], 0
    for at, count in columns or ((address, width),):
        behind = index < len(free) and bool(free[index][start : start + count].any())
        parts.append(_part(run, at, count, names, behind=behind))
        start += count
    name = run.ends[index] if index < len(run.ends) else None
    return _Head(name, tuple(parts), given, loss, present.shape, present, bool(columns))


def _free(run: Run) -> list[np.ndarray]:
    """Return for each output the columns that something behind it may have to keep in a domain;
    nothing where nothing can be put there, or nothing needs to be.
    """
    by_another = any(address is None for output in run.columns for address, _ in output)
    if not run.ends or not (by_another or None in (run.outputs or ())):
        return []
    return can_fall_below_zero(run)


def _part(
    run: Run, address: str | None, width: int, names: Sequence[str], *, behind: bool
) -> _Part:
    if address is None:
        choices = ("linear", *names) if behind else ()
        return _Part(address, width, tuple(map(activations.get, choices)))
    present = activation_of(run.members[address])
    fixed = is_bounded(present) or activation_name(run.members[address]) in names
    others = () if fixed else tuple(map(activations.get, names))
    return _Part(address, width, (present, *others))


def _flat(outputs: Any) -> list[np.ndarray]:
    from keras import tree

    return [np.nan_to_num(np.asarray(each, "float32")) for each in tree.flatten(outputs)]
