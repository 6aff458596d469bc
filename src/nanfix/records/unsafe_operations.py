"""TensorFlow's operations that are not finite everywhere, each with the domain in which it is.
Loads nothing.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from nanfix.records.domains import (
    ABOVE_LOWEST,
    ABOVE_MINUS_ONE,
    ABOVE_ONE,
    ABOVE_ZERO,
    AWAY_FROM_ZERO,
    BASE,
    BELOW_LIMIT,
    FINITE,
    INSIDE_ONE,
    NOT_EMPTY,
    REGULAR,
    WITHIN_LIMITS,
    ZERO_OR_AWAY,
    Domain,
    Helper,
)

# The logarithm of a sum, or of a single one, of exponentials, which over- or underflow.
LOG_OF_EXPONENTIALS = "Log of exponentials"
# What is divided by a sum of exponentials, as in a softmax or sigmoid by hand.
SHARES_OF_EXPONENTIALS = "Shares of exponentials"
KEEPS_FROM_0 = 1e-6  # the largest number that is added to their sum for that alone
# Differences of which rounding leaves nothing, or less than 0: a variance by hand, 1 - exp(x).
DIFFERENCES = "Differences that cancel"
# What a person would compute instead.
STABLE = {
    SHARES_OF_EXPONENTIALS: "the quotient as ops.softmax(x), ops.sigmoid(x) or a * ops.exp(-x)",
    DIFFERENCES: "the difference as ops.var(x), or ops.expm1(x), which rounding leaves as it is",
}
CONSTANT = "Constant"  # no operation, but what one is given: a constant that is not finite
BY_INFINITY = "Mul by infinity"  # as of a mask: where that is 0, the product is NaN
# By 0, and something takes the quotient that bears great numbers: a logarithm, a bounded function.
SQUEEZED = "RealDiv that is squeezed"
FIRST = ("x1", "x", "logits", "input", "input_tensor", "a", "value")
SECOND = ("x2", "y")
T = TypeVar("T")

OTHER_BASES = ("log2", "log10")  # of logarithms, which TensorFlow divides by that of the base
EPSILONS = (1e-10, 1e-7, 1e-4)
OR_ZERO = (0.0, *EPSILONS)
OF_A_MATRIX = (1e-6, 1e-4, 1e-2)
OF_AN_EXPONENT = (1e-34, 1e-17, 1e-8)  # 1 / epsilon is finite, its square is, its fourth power is
MANY_TIMES = 5.0  # the limit of an exponential
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
        parameters: what functions call their arguments.
        operand: the position of that operand; `letter` what it is called in words.
        operator: what it is written as instead, if that is possible.
        epsilons: how far from the edge of its domain it is kept, mild to strong; `epsilons_of_loss`
            where the loss is made of it. A cap on what makes the loss great caps the loss, which
            says the less about the model the lower it is.
        singular: whether its gradient is computed by operations of its own, which betray it.
        unbounded: whether it gives ever greater numbers towards the edge of its domain.
        of_probability: whether a crossentropy that is written by hand takes it of a probability.
        relative: whether an epsilon of 0 stands for the operand less its largest along the last
            axis, as in a softmax.
        tensorflow: TensorFlow's name, where `name` is that of what fails of it alone.
        at_zero: what a person would write for it with an epsilon of 0, if that is no operand in a
            domain; `instead` the function that is called in its place in a source then.
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
    unbounded: bool = False
    of_probability: bool = False
    relative: bool = False
    tensorflow: str | None = None
    at_zero: str | None = None
    instead: Helper | None = None
    parameters: tuple[tuple[str, ...], ...] = (FIRST, SECOND)

    def argument(self, given: Sequence[tuple[str | None, T]], position: int) -> T | None:
        """Return of the arguments of a call, each with its keyword if it has one, the one that is
        the operand at a position.
        """
        plain = [value for keyword, value in given if keyword is None]
        if position < len(plain):
            return plain[position]
        named = (value for keyword, value in given if keyword in self.parameters[position])
        return next(named, None)

    def as_in(self, code: str | None) -> Self:
        """Return it in the words of the line that computes it: a logarithm to the base of 10 is
        computed as a natural one.
        """
        used = [name for name in OTHER_BASES if f"{name}(" in (code or "")]
        natural = re.search(r"\blog\(", code or "")
        if self.name != "Log" or len(used) != 1 or natural:
            return self
        return replace(self, words=self.words.replace("log(", f"{used[0]}("))

    @property
    def kind(self) -> str:
        """What TensorFlow calls it."""
        return self.tensorflow or self.name

    def written(self, e: float, half: bool = False) -> str:
        """Return what a person would write for the guarded operation, with keras.ops; with `half`
        for an operand in float16.
        """
        if e == 0 and self.at_zero is not None:
            return self.at_zero
        return self.words.format(self.domain.words(self.letter, e, half))


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


def _reduction(name: str, words: str, functions: tuple[str, ...]) -> UnsafeOperation:
    function = name.lower()
    return UnsafeOperation(
        name,
        NOT_EMPTY,
        words,
        functions,
        epsilons=(0.0,),
        at_zero=words,
        instead=Helper(
            f"{function}_or_zero",
            f'''def {function}_or_zero(x, *args, **kwargs):
    """Return the {function} of x as {{package}}.{{reduce}}{function} does, and 0 of nothing."""
    count = {{package}}.{{reduce}}sum({{package}}.ones_like(x), *args, **kwargs)
    found = {{package}}.{{reduce}}{function}(x, *args, **kwargs)
    return {{package}}.where(count == 0, {{package}}.zeros_like(found), found)''',
        ),
    )


_DIVISION = UnsafeOperation(
    "RealDiv",
    AWAY_FROM_ZERO,
    "a / {}",
    ("divide", "truediv", "true_divide"),
    operand=1,
    letter="b",
    operator="/",
    epsilons=OR_ZERO,
    singular=True,
    unbounded=True,
    at_zero="ops.divide_no_nan(a, b)",
)

UNSAFE_OPERATIONS = {
    each.name: each
    for each in (
        UnsafeOperation("Sqrt", ABOVE_ZERO, "ops.sqrt({})", ("sqrt",), singular=True),
        UnsafeOperation(
            "Rsqrt",
            ABOVE_ZERO,
            "ops.rsqrt({})",
            ("rsqrt",),
            singular=True,
            unbounded=True,
        ),
        UnsafeOperation(
            "Log",
            ABOVE_ZERO,
            "ops.log({})",
            ("log", *OTHER_BASES),
            epsilons_of_loss=OF_A_PROBABILITY,
            singular=True,
            unbounded=True,
            of_probability=True,
        ),
        UnsafeOperation(
            "Log1p",
            ABOVE_MINUS_ONE,
            "ops.log1p({})",
            ("log1p",),
            epsilons_of_loss=OF_A_PROBABILITY,
            singular=True,
            unbounded=True,
            of_probability=True,
        ),
        _DIVISION,
        # Something by nothing is great: 0 would be the far end of a logarithm, or outside of it.
        replace(
            _DIVISION,
            name=SQUEEZED,
            tensorflow=_DIVISION.name,
            epsilons=EPSILONS[1:],  # 1 - x of shares is 0 or above 5e-8
            at_zero=None,
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
            "Reciprocal",
            AWAY_FROM_ZERO,
            "ops.reciprocal({})",
            ("reciprocal",),
            singular=True,
            unbounded=True,
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
        _reduction("Mean", "ops.divide_no_nan(ops.sum(x), ops.size(x))", ("mean", "reduce_mean")),
        # Keras' own raise an error.
        _reduction("Max", "tf.where(tf.size(x) == 0, 0.0, tf.reduce_max(x))", ("reduce_max",)),
        _reduction("Min", "tf.where(tf.size(x) == 0, 0.0, tf.reduce_min(x))", ("reduce_min",)),
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
            singular=True,
            parameters=(("x1", "y"), ("x2", "x")),
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
            "Atanh",
            INSIDE_ONE,
            "ops.arctanh({})",
            ("arctanh", "atanh"),
            singular=True,
            unbounded=True,
        ),
    )
}


def name_of(kind: str, inputs: Iterable[Any]) -> str:
    """Return the name of an operation of TensorFlow's `kind` that was given these arrays and
    failed.
    """
    infinite = any((abs(array) == math.inf).any() for array in inputs)
    return BY_INFINITY if kind == "Mul" and infinite else kind


def is_far_beyond(name: str | None, magnitude: float) -> bool:
    """Say whether a number is many times what an exponential takes: what keeps it inside the domain
    then leaves nothing of it.
    """
    operation = UNSAFE_OPERATIONS.get(name or "")
    if operation is None or operation.epsilons is not OF_AN_EXPONENT:
        return False
    return magnitude > MANY_TIMES * -math.log(min(operation.epsilons))


def takes_differences(name: str | None) -> bool:
    """Say whether an operation may be one of which only the differences along the last
    axis matter, as in a softmax.
    """
    operation = UNSAFE_OPERATIONS.get(name or "")
    return operation is not None and operation.relative
