"""The sets of numbers on which operations are finite: what keeps an operand in each, in words and
in source. Loads nothing.

What keeps them there in a graph stands in `changes.domains_in_graph`. Words and source are one
text: `ops.` stands for keras.ops, which the source of a user may know as something else, or for
TensorFlow.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Given(StrEnum):
    """What an operand was in the step that failed, where it depends on that what is guarded, and
    how: a factor, or an exponent.
    """

    INFINITE = "infinite"
    FRACTION = "a fraction"
    WHOLE = "a whole number"
    BELOW_ONE = "a whole number below 1"
    MIXED = "of several kinds"


@dataclass(frozen=True)
class Helper:
    """A function that is put into the user's source, for what would name its operand
    more than once.

    `{package}` in its code stands for the package that the operation itself is of, `{reduce}` for
    what TensorFlow puts before the names of reductions.
    """

    call: str
    code: str


@dataclass(frozen=True)
class Domain:
    """A set of numbers, and how an operand `{x}` is kept in it, `{e}` away from where
    the operation is not finite.

    In the texts `{beside_one}` is e or the least that can be told from 1, `{limit}` the x at which
    exp(x) is 1 / e, `{lowest}` is -1 / e and `{highest}` 1 / e; `{y}` is an exponent.
    `at_zero` and `helper_at_zero` are for an e of 0, where that means something; `kept_in_half` is
    for an operand in float16, where that is written in another way.
    """

    name: str
    kept: str
    helper: Helper | None = None
    at_zero: str | None = None
    helper_at_zero: Helper | None = None
    kept_in_half: str | None = None

    def words(self, x: str, e: float, half: bool = False) -> str:
        """Return what a person would write for the operand, with keras.ops; with `half` for one in
        float16.
        """
        text = self._text(e, half)
        assert text is not None, f"an epsilon of 0 means nothing for {self.name}"
        return text.format(x=x, **_numbers(e, half))

    def source(self, e: float, half: bool = False) -> tuple[str, Helper | None]:
        """Return what is written for the operand `{x}`, `ops.` before each function, and the helper
        that it calls, if any; with `half` for an operand in float16.
        """
        helper = self.helper if e else self.helper_at_zero
        text = helper.call if helper is not None else self._text(e, half)
        assert text is not None, f"an epsilon of 0 means nothing for {self.name}"
        return text.format(x="{x}", y="{y}", **_numbers(e, half)), helper

    def _text(self, e: float, half: bool) -> str | None:
        if e == 0:
            return self.at_zero
        return self.kept_in_half if half and self.kept_in_half is not None else self.kept


@dataclass(frozen=True)
class _Precision:
    """What numbers of a width can hold: the least edge (the inverse of its square, which the
    gradient of a division holds, does not overflow), the least that can be told from nothing when
    it is added to 1, an x of which exp(x) and sums of many of them do not overflow, and a number
    to which others can be added.
    """

    edge: float
    beside_one: float
    exponent: float
    lowest: float


FLOAT32 = _Precision(1.1e-19, 1.2e-7, 79.8, -8.5e37)
FLOAT16 = _Precision(7.9e-3, 9.8e-4, 9.98, -1.6e4)


def greatest(e: float, half: bool = False) -> float:
    """Return 1 / e, or the greatest number to which others can be added."""
    return min(1 / e, -(FLOAT16 if half else FLOAT32).lowest)


def _numbers(e: float, half: bool = False) -> Mapping[str, str]:
    if e == 0:
        return {}
    width, highest = FLOAT16 if half else FLOAT32, greatest(e, half)
    numbers = {"e": max(e, width.edge), "beside_one": max(e, width.beside_one)}
    numbers |= {"lowest": -highest, "highest": highest}
    return {
        **{name: f"{n:g}" for name, n in numbers.items()},
        "limit": f"{min(-math.log(e), width.exponent):.4g}",
    }


AWAY = "ops.where({x} < 0, ops.minimum({x}, -{e}), ops.maximum({x}, {e}))"
AWAY_FROM_ZERO = Domain(
    "away from zero",
    AWAY,
    Helper(
        "away_from_zero({x}, {e})",
        '''def away_from_zero(x, edge):
    """Return x or, where it is nearer to 0 than edge, edge with the sign of x."""
    sign = {package}.where(x < 0, -{package}.ones_like(x), {package}.ones_like(x))
    return {package}.where({package}.abs(x) < edge, edge * sign, x)''',
    ),
)
ZERO_OR_AWAY = Domain(
    "at zero, or away from it",
    f"ops.where({{x}} == 0, {{x}}, {AWAY})",
    Helper(
        "zero_or_away({x}, {e})",
        '''def zero_or_away(x, edge):
    """Return x or, where it is not 0 but nearer to it than edge, edge with the sign of x."""
    sign = {package}.where(x < 0, -{package}.ones_like(x), {package}.ones_like(x))
    return {package}.where(x == 0, x, {package}.where({package}.abs(x) < edge, edge * sign, x))''',
    ),
)
BELOW_LIMIT = Domain(
    "below a limit",
    "ops.minimum({x}, {limit})",
    None,
    "{x} - ops.max({x}, axis=-1, keepdims=True)",
    Helper(
        "without_largest({x})",
        '''def without_largest(x):
    """Return x less its largest value along the last axis, of which an exponential cannot overflow."""
    return x - {package}.{reduce}max(x, axis=-1, keepdims=True)''',  # noqa: E501
    ),
)
REGULAR = Domain(
    "regular",
    "{x} + {e} * ops.eye({x}.shape[-1])",
    Helper(
        "with_diagonal({x}, {e})",
        '''def with_diagonal(x, edge):
    """Return square matrices with edge added to their diagonal."""
    return x + edge * {package}.eye({package}.shape(x)[-1], dtype=x.dtype)''',
    ),
)
WITHIN_LIMITS = Domain("within limits", "ops.clip({x}, -{limit}, {limit})")
ABOVE_LOWEST = Domain("finite from below", "ops.maximum({x}, {lowest})")
# A factor may be a number of Python's, which has no clip of its own.
FINITE = Domain(
    "finite",
    "ops.clip(ops.convert_to_tensor({x}), {lowest}, {highest})",
    kept_in_half='ops.clip(ops.cast({x}, "float16"), {lowest}, {highest})',
)
ABOVE_ZERO = Domain("above 0", "ops.maximum({x}, {e})")
ABOVE_MINUS_ONE = Domain("above -1", "ops.maximum({x}, -1 + {beside_one})")
ABOVE_ONE = Domain("above 1", "ops.maximum({x}, 1 + {beside_one})")
INSIDE_ONE = Domain("between -1 and 1", "ops.clip({x}, -1 + {beside_one}, 1 - {beside_one})")
NOT_EMPTY = Domain("at least one number", "{x}", at_zero="{x}")
BASE = Domain(
    "where its exponent allows",
    ABOVE_ZERO.kept,
    Helper(
        "base_for({x}, {y}, {e})",
        '''def base_for(x, exponent, edge):
    """Return x or, where this exponent does not take it, what is edge away from there."""
    sign = {package}.where(x < 0, -{package}.ones_like(x), {package}.ones_like(x))
    away = {package}.where({package}.abs(x) < edge, edge * sign, x)
    is_whole = exponent == {package}.floor(exponent)
    whole = {package}.where(exponent >= 1, x, away)
    return {package}.where(is_whole, whole, {package}.maximum(x, edge))''',
    ),
)
# Of a base, by its exponent; that of a whole number may be any number.
OF_BASE = {Given.FRACTION: ABOVE_ZERO, Given.BELOW_ONE: AWAY_FROM_ZERO, Given.MIXED: BASE}


def kind_of_exponent(exponent: float) -> Given:
    """Return what an exponent that is written as a number is."""
    if exponent != math.floor(exponent):
        return Given.FRACTION
    return Given.WHOLE if exponent >= 1 else Given.BELOW_ONE


def domain_of_base(exponent: Given) -> Domain | None:
    """Return the domain of a base under such an exponent; None where it is any number."""
    return OF_BASE.get(exponent)
