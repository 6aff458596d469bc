"""Where the tensors of a step come from: the operations that took and made each of them."""

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from nanfix.changes.exponentials import PRODUCTS
from nanfix.changes.quotients import MOVED, SUMS
from nanfix.model.operations import Operation, array_of, is_float
from nanfix.records.diagnosis import Phase
from nanfix.records.unsafe_operations import UNSAFE_OPERATIONS

SINGULAR = {each.name for each in UNSAFE_OPERATIONS.values() if each.singular}
REDUCTIONS = {"Mean", "Max", "Min", "Prod"}
DIVISIONS = {"RealDiv", "Div", "Xdivy"}
COUNTS = {"Sum", "Mean", "Size", "Prod"}  # a divisor made by one of these may be the size of a mask
# A divisor made by one of these is no mask, however it was summed up.
COMPUTED = {
    "Exp",
    "Log",
    "MatMul",
    "Pow",
    "Relu",
    "Sigmoid",
    "Softmax",
    "Sqrt",
    "Square",
    "SquaredDifference",
    "Tanh",
}
OF_THE_LOSS = (Phase.FORWARD, Phase.LOSS, Phase.STEP)  # which a gradient may be of
# What gives exponentials, or a sum of them, of exponentials alone: of the first operand.
OF_ONE = {*MOVED, "Sum"}
MASKS = {"Cast", "OneHot"}  # what makes the numbers of a mask
SQUARES = {"Square", "Mul", "Pow"}
# What a difference goes through on its way to the operation that fails of it.
BEHIND_DIFFERENCE = {*MOVED, "Abs", "AddV2", "Maximum", "Mul", "Neg", "Sqrt"}
GRADIENT_DEPTH = 6  # operations in a row that make up the gradient of a single one, such as acos
# Operations between a mask and the division by its size: cast, reshape, sum and the like.
MASK_DEPTH = 6


@dataclass(frozen=True)
class _Seen:
    """An operation without its tensors, which would fill the memory: these by the
    numbers they were given.
    """

    operation: Operation
    takes: tuple[int, ...]
    makes: tuple[int, ...]


class Lineage:
    """The operations of a step by the tensors that they took and made, and whether each of these
    was finite. It keeps no tensor alive.
    """

    def __init__(self):
        # id of a tensor that lives -> its number.
        self._numbers: dict[int, tuple[weakref.ref[tf.Tensor], int]] = {}
        self._finite: list[bool] = []  # by number
        self._ranks: list[int | None] = []
        self._ones: set[int] = set()  # the numbers of those that are 1
        self._touching: dict[int, list[_Seen]] = {}

    def from_outside(self, tensors: Iterable[tf.Tensor]) -> dict[int, tf.Tensor]:
        """Return, by their numbers, those of the tensors that are met for the first time here and
        are not finite.
        """
        known = len(self._finite)
        met = {self._number(tensor): tensor for tensor in tensors}
        return {n: tensor for n, tensor in met.items() if n >= known and not self._finite[n]}

    def roots(self, operation: Operation) -> Iterator[tuple[int, Operation]]:
        """Yield the numbers of the tensors that no operation made and by which an operation was
        given what is not finite, each with the operation that took it first.
        """
        left, seen = [self._number(tensor) for tensor in operation.inputs], set[int]()
        while left:
            number = left.pop()
            if number in seen or self._finite[number]:
                continue
            seen.add(number)
            makers = self._makers(number)
            if not makers and number in self._touching:
                yield number, self._touching[number][0].operation
            left += [taken for maker in makers for taken in maker.takes]

    def are_finite(self, tensors: Iterable[tf.Tensor]) -> bool:
        return all(self._finite[self._number(tensor)] for tensor in tensors)

    def add(self, operation: Operation) -> None:
        takes, makes = (
            tuple(map(self._number, tensors)) for tensors in (operation.inputs, operation.outputs)
        )
        seen = _Seen(replace(operation, inputs=(), outputs=()), takes, makes)
        for number in (*takes, *makes):
            self._touching.setdefault(number, []).append(seen)

    def forward_of(self, culprit: Operation) -> Operation:
        """Return the forward operation whose gradient `culprit` computes: one that
        shares a tensor with it.

        A gradient of several operations, as that of acos, shares none but at its beginning: there a
        singular one is looked for.
        """
        numbers = [self._number(tensor) for tensor in culprit.inputs]
        touching = self._forward(numbers)
        for _ in range(GRADIENT_DEPTH):
            if touching:
                break
            makers = [
                seen
                for number in numbers
                for seen in self._makers(number)
                if seen.operation.phase is Phase.GRADIENT
            ]
            # Scalars are shared.
            numbers = [number for seen in makers for number in seen.takes if self._ranks[number]]
            touching = [
                operation for operation in self._forward(numbers) if operation.kind in SINGULAR
            ]
        singular = [operation for operation in touching if operation.kind in SINGULAR]
        return (singular or touching or [culprit])[-1]

    def is_over_nothing(self, culprit: Operation, origin: Operation) -> bool:
        """Say whether an operation reduces no elements at all, or divides by a count or
        sum of a mask that is 0. One in a gradient may divide by whatever its `origin` makes it.
        """
        if origin.kind not in REDUCTIONS | DIVISIONS:
            return False
        if culprit.kind in REDUCTIONS:
            return culprit.inputs[0].shape.num_elements() == 0
        if culprit.kind not in DIVISIONS or not (array_of(culprit.inputs[1]) == 0).any():
            return False
        kinds = set(self._made_by(self._number(culprit.inputs[1]), depth=MASK_DEPTH))
        return bool(kinds & COUNTS) and not kinds & COMPUTED

    def is_over_exponentials(self, operation: Operation) -> bool:
        """Say whether an operation divides by exponentials, or sums of them, that have come to
        0, or to infinity.
        """
        if operation.kind not in DIVISIONS:
            return False
        whole, number = array_of(operation.inputs[1]), self._number(operation.inputs[1])
        overflows = not np.isfinite(whole).all()
        if not overflows and not (whole == 0).any():
            return False
        return self._of_exponentials(number, MASK_DEPTH, masks=overflows)

    def _of_exponentials(self, number: int, depth: int, *, masks: bool) -> bool:
        """Say whether a tensor is made of exponentials and nothing else, but for masks. A sum that
        is 0 may be so by its mask.
        """
        made = self._makers(number)[:1] if depth else []
        for operation, takes in ((seen.operation, seen.takes) for seen in made):
            if operation.kind in OF_ONE:
                return self._of_exponentials(takes[0], depth - 1, masks=masks)
            if operation.kind in PRODUCTS:
                rest = [n for n in takes if not self._of_exponentials(n, depth - 1, masks=masks)]
                return not rest or (masks and len(rest) == 1 and self._is_mask(rest[0]))
            if operation.kind in SUMS and masks:
                rest = [n for n in takes if not self._of_exponentials(n, depth - 1, masks=masks)]
                return len(rest) < len(takes) and all(map(self._is_number, rest))
            if operation.kind == "SelectV2" and masks:
                return self._of_exponentials(takes[1], depth - 1, masks=masks)
            return operation.kind == "Exp"
        return False

    def _is_number(self, number: int) -> bool:
        """Say whether a tensor is a single number that is written in the code."""
        made = [seen.operation.kind for seen in self._makers(number)[:1]]
        return self._ranks[number] == 0 and made in ([], ["Cast"])

    def _is_mask(self, number: int) -> bool:
        """Say whether a tensor is made of nothing computed: of a condition, or what is given."""
        made = self._makers(number)[:1]
        while made and made[0].operation.kind in MOVED:
            made = self._makers(made[0].takes[0])[:1]
        return not made or made[0].operation.kind in MASKS

    def is_of_difference(self, operation: Operation, operand: int) -> bool:
        """Say whether what an operation is given is a difference that cancels: of 1 and an
        exponential or a cosine, or of the mean of squares and the square of a mean.
        """
        own = (seen for each in self._touching.values() for seen in each)
        seen = next((seen for seen in own if seen.operation is operation), None)
        takes = [self._number(each) for each in operation.inputs] if seen is None else seen.takes
        return self._is_difference(takes[operand], MASK_DEPTH) if operand < len(takes) else False

    def _is_difference(self, number: int, depth: int) -> bool:
        made = self._makers(number)[:1] if depth else []
        for operation, takes in ((seen.operation, seen.takes) for seen in made):
            if operation.kind in BEHIND_DIFFERENCE:
                return any(self._is_difference(each, depth - 1) for each in takes)
            return operation.kind == "Sub" and self._cancels(*takes)
        return False

    def _cancels(self, whole: int, less: int) -> bool:
        ends = [self._makers(each)[:1] for each in (whole, less)]
        if not all(ends):
            kinds = {seen.operation.kind for end in ends for seen in end}
            return bool(kinds & {"Exp", "Cos"}) and bool({whole, less} & self._ones)
        squares, square = (self._kinds(end[0]) for end in ends)
        return (
            squares[0] == "Mean"
            and squares[1] in SQUARES
            and (square[0] in SQUARES and square[1] == "Mean")
        )

    def _kinds(self, seen: _Seen) -> tuple[str, str | None]:
        """Return the kind of an operation, and of the one that made what it takes first."""
        made = self._makers(seen.takes[0])[:1]
        return seen.operation.kind, made[0].operation.kind if made else None

    def _forward(self, numbers: Iterable[int]) -> list[Operation]:
        """Return the operations of the forward pass and the loss that take or make one
        of the tensors.
        """
        touching = (seen.operation for number in numbers for seen in self._touching.get(number, []))
        return [operation for operation in touching if operation.phase in OF_THE_LOSS]

    def _made_by(self, number: int, depth: int) -> Iterator[str]:
        """Yield the kinds of the operations that a tensor comes from."""
        for seen in self._makers(number) if depth else []:
            yield seen.operation.kind
            for made_from in seen.takes:
                yield from self._made_by(made_from, depth - 1)

    def _makers(self, number: int) -> list[_Seen]:
        return [seen for seen in self._touching.get(number, []) if number in seen.makes]

    def _number(self, tensor: tf.Tensor) -> int:
        """Return the number of a tensor, which is looked at when it is first met."""
        reference, number = self._numbers.get(id(tensor), (None, -1))
        if reference is None or reference() is not tensor:
            number = len(self._finite)
            self._numbers[id(tensor)] = weakref.ref(tensor), number
            self._finite.append(not is_float(tensor) or bool(np.isfinite(array_of(tensor)).all()))
            self._ranks.append(tensor.shape.rank)
            if tensor.shape.rank == 0 and is_float(tensor) and array_of(tensor) == 1:
                self._ones.add(number)
        return number
