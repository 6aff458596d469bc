"""Which constants that are not finite a step was given, and whether it failed of one."""

import sys
from collections.abc import Mapping
from types import FrameType

import numpy as np
import tensorflow as tf

from nanfix.changes.nonfinite_constants import instead_of
from nanfix.explain._lineage import OF_THE_LOSS, Lineage
from nanfix.explain.given import range_of
from nanfix.model.nonfinite_weights import is_at_fault
from nanfix.model.operations import Operation, array_of
from nanfix.model.user_code import outward
from nanfix.records.diagnosis import Place
from nanfix.records.features import short
from nanfix.records.nonfinite_constant import NonfiniteConstant
from nanfix.source.constant_lookback import holder, made

SHARES = ("Softmax", "LogSoftmax")  # of nothing but -inf they are NaN, which is no constant's fault


class Constants:
    """The constants of a step that are not finite by mistake, by the numbers that the lineage has
    for them.
    """

    def __init__(self):
        self._found: dict[int, NonfiniteConstant] = {}

    def note(self, outside: Mapping[int, tf.Tensor], operation: Operation) -> None:
        """Look at what came from outside to an operation: neither of the batch, nor a weight."""
        for number, tensor in outside.items():
            constant = array_of(tensor)
            if operation.phase in OF_THE_LOSS and is_at_fault(constant):
                self._found[number] = _described(constant, operation)

    def place_behind(self, failed: Operation | None, lineage: Lineage) -> Place | None:
        """Return where a constant was taken that is why an operation failed, or None."""
        if failed is None or _is_wholly_masked(failed):
            return None
        for number, taking in lineage.roots(failed):
            constant = self._found.get(number)
            if constant is not None:
                return Place(
                    taking.phase,
                    layer=taking.layer.name if taking.layer is not None else None,
                    source=taking.line.source if taking.line is not None else None,
                    code=taking.line.code if taking.line is not None else None,
                    values=constant.words,
                    constant=constant,
                )
        return None


def _is_wholly_masked(failed: Operation) -> bool:
    """Say whether an operation is a softmax that failed of rows of -inf alone, as masks make."""
    if failed.kind not in SHARES:
        return False
    logits = array_of(failed.inputs[0])
    return not (np.isnan(logits) | (logits == np.inf)).any()


def _described(constant: np.ndarray, operation: Operation) -> NonfiniteConstant:
    frame = _frame(operation)
    held = None if frame is None else holder(frame, constant)
    count, instead = int((~np.isfinite(constant)).sum()), _instead(constant)
    bad = range_of(constant[~np.isfinite(constant)])
    what = f"of the {constant.size} numbers of"
    if frame is None or held is None:
        words = f"{bad}, {count} {what} a constant"
        return NonfiniteConstant(words, instead)
    name, value = held
    words = f"{bad}, {count} {what} `{name}`"
    of_numpy = isinstance(value, np.ndarray)
    return NonfiniteConstant(words, instead, name, of_numpy, made(frame, name, value))


def _instead(constant: np.ndarray) -> tuple[tuple[str, float], ...]:
    found = instead_of(constant)
    return tuple(zip(found, short(found.values()), strict=True))


def _frame(operation: Operation) -> FrameType | None:
    """Return the frame of the user's that the operation which has just run is computed in."""
    code = None if operation.at is None else operation.at[0]
    return next((each for each in outward(sys._getframe()) if each.f_code is code), None)
