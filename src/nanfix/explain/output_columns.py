"""Which activation each column of the outputs needs, so that the loss is defined of it and has a
minimum.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nanfix.changes.columns import Columns
from nanfix.explain._heads import JOINT, Head, heads_of
from nanfix.explain.loss_probe import has_no_bottom
from nanfix.model.activations import is_bounded
from nanfix.model.crossentropies import takes_logits
from nanfix.model.refusals import REFUSED
from nanfix.model.run import Run

# Standard deviation of drawn outputs, before the activation: wide enough for both flanks of a
# sigmoid, and exponentials of them are finite.
SPREAD = 3.0
PIECES = 64  # at most, in which the columns of a layer are told apart
END = 4.0  # so far from 0 a sigmoid is near its end, and its logarithm small
ROUNDING = 1e-6  # share of a loss
ENTRIES = 64  # single entries of the outputs that are moved from one end to the other, at most


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
    is the first whose loss is not defined of them as it stands. Where each by itself could be
    the same for all rows with the least loss, they take a softmax together.
    """
    names = (*names, JOINT)
    for head in heads_of(run, names):
        if takes_logits(head.given) or all(len(part.choices) < 2 for part in head.parts):
            continue
        try:
            found = _loosest(head, len(names) - 1)
        except REFUSED:
            continue
        if found is not None:
            return Needed(_by_layer(head, found, names), _behind(head, found, names))
    return Needed()


def _loosest(head: Head, strictest: int) -> list[_Piece] | None:
    """Return the pieces of an output with the loosest choices; None where the present ones will do,
    or no choice does. The choice beyond the strictest takes all columns together.
    """
    if _works(head, _whole(head, 0), ()):
        return None
    sound = [each for each in range(1, strictest + 1) if _looks_at_targets(head, each)]
    for strict in reversed(sound):
        pieces = _whole(head, strict)
        if _works(head, pieces, ()):
            break
    else:
        return _together(head, strictest + 1)
    for choice in range(strict):
        pieces = [
            replace(each, choice=choice) if loose else each
            for index in range(len(pieces))
            for each, loose in _loosened(head, pieces, index, choice)
        ]
        pieces = _joined(pieces)
    everywhere = (_whole(head, choice) for choice in sound)
    ways = (_alive(head, pieces), pieces, *everywhere)
    found = next((way for way in ways if _works(head, way, range(len(way)))), None)
    return found or _together(head, strictest + 1)


def _together(head: Head, choice: int) -> list[_Piece] | None:
    """Return an output with the choice that takes all of its columns together; None where several
    layers give them, or the loss is not finite of that.
    """
    pieces = _whole(head, choice)
    (part, *others) = head.parts
    fits = not others and len(part.choices) > choice
    return pieces if fits and _works(head, pieces, range(len(pieces))) else None


def _looks_at_targets(head: Head, choice: int) -> bool:
    """Say whether the loss of an output with this choice throughout asks for other values where the
    targets are other ones: there is no end of its range at which the loss is least for all rows,
    as at 1 that of -log(p) of the class. Targets that are all alike do not tell.
    """
    free = [part.choices for part in head.parts if len(part.choices) > choice]
    if not head.targets_vary or not all(is_bounded(choices[choice]) for choices in free):
        return True
    pieces, entries = _whole(head, choice), np.random.default_rng(0).permutation(head.present.size)
    for end in (END, -END):
        z = np.full(head.shape if len(head.shape) > 1 else (*head.shape, 1), end, "float32")

        def loss(z: np.ndarray) -> float:
            return head.loss(_values(head, pieces, z, ())[0].reshape(head.shape))

        there = loss(z)
        if np.isfinite(there) and not any(
            loss(_with_entry(z, entry, -end)) < there - ROUNDING * abs(there)
            for entry in entries[:ENTRIES]
        ):
            return False
    return True


def _with_entry(values: np.ndarray, entry: int, value: float) -> np.ndarray:
    changed = values.copy()
    changed.flat[entry] = value
    return changed


def _loosened(
    head: Head, pieces: list[_Piece], index: int, choice: int
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


def _works(head: Head, pieces: Sequence[_Piece], far: Sequence[int]) -> bool:
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
    head: Head, pieces: Sequence[_Piece], drawn: np.ndarray, far: Sequence[int]
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


def _whole(head: Head, choice: int) -> list[_Piece]:
    return [_Piece(index, 0, part.width, choice) for index, part in enumerate(head.parts)]


def _alive(head: Head, pieces: Sequence[_Piece]) -> list[_Piece]:
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
    head: Head, pieces: Sequence[_Piece], names: Sequence[str]
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


def _behind(head: Head, pieces: Sequence[_Piece], names: Sequence[str]) -> dict[str, str | Columns]:
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
