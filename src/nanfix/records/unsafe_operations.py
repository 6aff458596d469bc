"""TensorFlow's operations that are not finite everywhere: what keeps each in its domain, in words
and in source. Loads nothing.

What keeps them there in a graph stands in `changes.graph_guard`, by domain. Words and source are
one text: `ops.` stands for keras.ops, which the source of a user may know as something else, or for
TensorFlow.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SMALLEST_BESIDE_ONE = 1.2e-7  # what a float32 can still tell from nothing when it is added to 1
LARGEST_EXPONENT = 79.8  # exp(x) and sums of many of them stay below the largest float32
LOWEST = -8.5e37  # a float32 to which others can be added
# The logarithm of a sum, or of a single one, of exponentials, which over- or underflow.
LOG_OF_EXPONENTIALS = "Log of exponentials"
BY_INFINITY = "Mul by infinity"  # as of a mask: where that is 0, the product is NaN


@dataclass(frozen=True)
class Helper:
    """A function that is put into the user's source, for what would name its operand
    more than once.

    `{package}` in its code stands for the package that the operation itself is of.
    """

    call: str
    code: str


@dataclass(frozen=True)
class Domain:
    """A set of numbers, and how an operand `{x}` is kept in it, `{e}` away from where
    the operation is not finite.

    In the texts `{beside_one}` is e or the least that a float32 can tell from 1, `{limit}` the x at
    which exp(x) is 1 / e, `{lowest}` is -1 / e and `{highest}` 1 / e. `at_zero` and
    `helper_at_zero` are for an e of 0, where that means something.
    """

    name: str
    kept: str
    helper: Helper | None = None
    at_zero: str | None = None
    helper_at_zero: Helper | None = None

    def words(self, x: str, e: float) -> str:
        """Return what a person would write for the operand, with keras.ops."""
        text = self.kept if e else self.at_zero
        assert text is not None, f"an epsilon of 0 means nothing for {self.name}"
        return text.format(x=x, **_numbers(e))

    def source(self, e: float) -> tuple[str, Helper | None]:
        """Return what is written for the operand `{x}`, `ops.` before each function, and the helper
        that it calls, if any.
        """
        helper, text = (self.helper, self.kept) if e else (self.helper_at_zero, self.at_zero)
        text = helper.call if helper is not None else text
        assert text is not None, f"an epsilon of 0 means nothing for {self.name}"
        return text.format(x="{x}", **_numbers(e)), helper


def _numbers(e: float) -> Mapping[str, str]:
    if e == 0:
        return {}
    lowest = max(-1 / e, LOWEST)
    numbers = {"e": e, "beside_one": max(e, SMALLEST_BESIDE_ONE), "lowest": lowest}
    numbers["highest"] = -lowest
    return {
        **{name: f"{n:g}" for name, n in numbers.items()},
        "limit": f"{min(-math.log(e), LARGEST_EXPONENT):.4g}",
    }


AWAY = "ops.where(ops.abs({x}) < {e}, ops.where({x} < 0, -{e}, {e}), {x})"
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
    "ops.where({x} == 0, inf, {x})",
    Helper(
        "without_zero({x})",
        '''def without_zero(x):
    """Return x or, where it is 0, infinity, so that what is divided by it is 0."""
    return {package}.where(x == 0, float("inf") * {package}.ones_like(x), x)''',
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
    return x - {package}.{max}(x, axis=-1, keepdims=True)''',  # noqa: E501
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
FINITE = Domain("finite", "ops.clip({x}, {lowest}, {highest})")
ABOVE_ZERO = Domain("above 0", "ops.maximum({x}, {e})")
ABOVE_MINUS_ONE = Domain("above -1", "ops.maximum({x}, {beside_one} - 1)")
ABOVE_ONE = Domain("above 1", "ops.maximum({x}, 1 + {beside_one})")
INSIDE_ONE = Domain("between -1 and 1", "ops.clip({x}, {beside_one} - 1, 1 - {beside_one})")
BASE = Domain("where its exponent allows", ABOVE_ZERO.kept)


def domain_of_base(exponent: float | None) -> Domain | None:
    """Return the domain of a base under this exponent; None where it is any number, or
    the exponent is not known.
    """
    if exponent is None or (exponent == math.floor(exponent) and exponent >= 0):
        return None
    return ABOVE_ZERO if exponent != math.floor(exponent) else AWAY_FROM_ZERO


EPSILONS = (1e-10, 1e-7, 1e-4)
OR_ZERO = (0.0, *EPSILONS)
OF_A_MATRIX = (1e-6, 1e-4, 1e-2)
OF_AN_EXPONENT = (1e-34, 1e-17, 1e-8)  # 1 / epsilon is finite, its square is, its fourth power is
OF_A_SHARE = (1e-30,)
OF_A_MASK = (1e-9, 1e-4)  # -1e9 masks in float32, -1e4 in half precision, too
# Keras' own; a greater one caps the loss lower, which then says nothing about the model.
OF_A_PROBABILITY = (1e-7,)


@dataclass(frozen=True)
class UnsafeOperation:
    """An operation that is not finite everywhere, by TensorFlow's `name` of it.

    Attributes:
        domain: where it and its gradient are finite.
        words: what a person would write for it, `{}` for the operand that is kept in the domain.
        functions: what it is called in a source, TensorFlow's names and those of keras.ops.
        operand: the position of that operand; `letter` what it is called in words.
        operator: what it is written as instead, if that is possible.
        epsilons: how far from the edge of its domain it is kept, mild to strong; `epsilons_of_loss`
            where the loss is made of it. A cap on what makes the loss great caps the loss, which
            says the less about the model the lower it is.
        singular: whether its gradient is computed by operations of its own, which betray it.
        of_probability: whether a crossentropy that is written by hand takes it of a probability.
        relative: whether an epsilon of 0 stands for the operand less its largest along the last
            axis, as in a softmax.
        tensorflow: TensorFlow's name, where `name` is that of what fails of it alone.
    """

    name: str
    domain: Domain
    words: str
    functions: tuple[str, ...]
    operand: int = 0
    letter: str = "x"
    operator: str | None = None
    epsilons: tuple[float, ...] = EPSILONS
    epsilons_of_loss: tuple[float, ...] | None = None
    singular: bool = False
    of_probability: bool = False
    relative: bool = False
    tensorflow: str | None = None

    @property
    def kind(self) -> str:
        """What TensorFlow calls it."""
        return self.tensorflow or self.name

    def written(self, e: float) -> str:
        """Return what a person would write for the guarded operation, with keras.ops."""
        return self.words.format(self.domain.words(self.letter, e))


def _exponential(
    name: str, domain: Domain, function: str, *, singular: bool = False, relative: bool = False
) -> UnsafeOperation:
    return UnsafeOperation(
        name,
        domain,
        f"ops.{function}({{}})",
        (function,),
        epsilons=OF_AN_EXPONENT,
        epsilons_of_loss=OF_AN_EXPONENT[:1],
        singular=singular,
        relative=relative,
    )


UNSAFE_OPERATIONS = {
    each.name: each
    for each in (
        UnsafeOperation("Sqrt", ABOVE_ZERO, "ops.sqrt({})", ("sqrt",), singular=True),
        UnsafeOperation("Rsqrt", ABOVE_ZERO, "ops.rsqrt({})", ("rsqrt",), singular=True),
        UnsafeOperation(
            "Log",
            ABOVE_ZERO,
            "ops.log({})",
            ("log", "log2", "log10"),
            epsilons_of_loss=OF_A_PROBABILITY,
            singular=True,
            of_probability=True,
        ),
        UnsafeOperation(
            "Log1p",
            ABOVE_MINUS_ONE,
            "ops.log1p({})",
            ("log1p",),
            epsilons_of_loss=OF_A_PROBABILITY,
            singular=True,
            of_probability=True,
        ),
        UnsafeOperation(
            "RealDiv",
            AWAY_FROM_ZERO,
            "a / {}",
            ("divide", "truediv", "true_divide"),
            operand=1,
            letter="b",
            operator="/",
            epsilons=OR_ZERO,
            singular=True,
        ),
        UnsafeOperation(
            "DivNoNan",
            ZERO_OR_AWAY,
            "ops.divide_no_nan(a, {})",
            ("divide_no_nan", "div_no_nan"),
            operand=1,
            letter="b",
            singular=True,
        ),
        UnsafeOperation(
            "Reciprocal", AWAY_FROM_ZERO, "ops.reciprocal({})", ("reciprocal",), singular=True
        ),
        _exponential("Exp", BELOW_LIMIT, "exp", singular=True, relative=True),
        _exponential("Expm1", BELOW_LIMIT, "expm1"),
        _exponential("Cosh", WITHIN_LIMITS, "cosh"),
        _exponential("Sinh", WITHIN_LIMITS, "sinh"),
        UnsafeOperation(
            "Softmax", ABOVE_LOWEST, "ops.softmax({})", ("softmax",), epsilons=OF_A_SHARE
        ),
        UnsafeOperation(
            "LogSoftmax", ABOVE_LOWEST, "ops.log_softmax({})", ("log_softmax",), epsilons=OF_A_SHARE
        ),
        UnsafeOperation(
            "Xlogy", ABOVE_ZERO, "tf.math.xlogy(x, {})", ("xlogy",), operand=1, letter="y"
        ),
        UnsafeOperation(
            "Xlog1py",
            ABOVE_MINUS_ONE,
            "tf.math.xlog1py(x, {})",
            ("xlog1py",),
            operand=1,
            letter="y",
        ),
        UnsafeOperation(
            BY_INFINITY,
            FINITE,
            "a * {}",
            ("multiply",),
            operand=1,
            letter="b",
            operator="*",
            epsilons=OF_A_MASK,
            tensorflow="Mul",
        ),
        UnsafeOperation("Lgamma", ABOVE_ZERO, "tf.math.lgamma({})", ("lgamma",)),
        UnsafeOperation("Digamma", ABOVE_ZERO, "tf.math.digamma({})", ("digamma",)),
        UnsafeOperation("Erfinv", INSIDE_ONE, "ops.erfinv({})", ("erfinv",)),
        UnsafeOperation(
            "Atan2",
            AWAY_FROM_ZERO,
            "ops.arctan2(a, {})",
            ("atan2", "arctan2"),
            operand=1,
            letter="b",
        ),
        UnsafeOperation(
            "FloorMod",
            AWAY_FROM_ZERO,
            "ops.mod(a, {})",
            ("mod", "floormod"),
            operand=1,
            letter="b",
            operator="%",
        ),
        UnsafeOperation(
            "Cholesky", REGULAR, "ops.cholesky({})", ("cholesky",), epsilons=OF_A_MATRIX
        ),
        UnsafeOperation(
            "MatrixInverse", REGULAR, "ops.inv({})", ("inv", "matrix_inverse"), epsilons=OF_A_MATRIX
        ),
        UnsafeOperation(
            "Pow", BASE, "ops.power({}, y)", ("power", "pow"), operator="**", singular=True
        ),
        UnsafeOperation("Acos", INSIDE_ONE, "ops.arccos({})", ("arccos", "acos"), singular=True),
        UnsafeOperation("Asin", INSIDE_ONE, "ops.arcsin({})", ("arcsin", "asin"), singular=True),
        UnsafeOperation("Acosh", ABOVE_ONE, "ops.arccosh({})", ("arccosh", "acosh"), singular=True),
        UnsafeOperation(
            "Atanh", INSIDE_ONE, "ops.arctanh({})", ("arctanh", "atanh"), singular=True
        ),
    )
}


def name_of(kind: str, inputs: Iterable[Any]) -> str:
    """Return the name of an operation of TensorFlow's `kind` that was given these arrays and
    failed.
    """
    infinite = any((abs(array) == math.inf).any() for array in inputs)
    return BY_INFINITY if kind == "Mul" and infinite else kind


def takes_differences(name: str | None) -> bool:
    """Say whether an operation may be one of which only the differences along the last
    axis matter, as in a softmax.
    """
    operation = UNSAFE_OPERATIONS.get(name or "")
    return operation is not None and operation.relative
