"""Write differences that cancel into the source in their stable form: `mean(x**2) - mean(x)**2`
becomes `var(x)`, `1 - exp(x)` becomes `-expm1(x)`, `1 - cos(x)` becomes `2 * square(sin(x / 2))`.
"""

from functools import partial

import libcst as cst

from nanfix.patch._meanings import OWN, meaning, reduction, same
from nanfix.patch._operands import number
from nanfix.patch._package import of_tensorflow
from nanfix.patch._source_files import Source
from nanfix.records.errors import NoPlaceError
from nanfix.records.source_changes import GuardChange

NOWHERE = (
    "the difference that line {line} needs may be computed elsewhere: write ops.var(x, axis=...) "
    "instead of mean(x**2) - mean(x)**2, ops.expm1(x) instead of exp(x) - 1"
)
MEANS = ("mean", "reduce_mean")
SQUARES = ("square", "power", "pow")


def write_differences(source: Source, change: GuardChange) -> None:
    """Plan the stable form of every such difference in the file, as it is the same number. Raises
    NoPlaceError where none is known.
    """
    found = False
    for node in source.syntax.within(source.syntax.module):
        if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Subtract):
            written = _stable(source, node)
            if written is not None:
                source.change(node, partial(_in_place, written))
                found = True
    if not found:
        raise NoPlaceError(NOWHERE.format(line=change.line))


def _in_place(written: str, node: cst.BinaryOperation) -> cst.BaseExpression:
    """Return what is written for a node, in the parentheses that it stands in."""
    return cst.parse_expression(written).with_changes(lpar=node.lpar, rpar=node.rpar)


def _stable(source: Source, node: cst.BinaryOperation) -> str | None:
    whole, less = (meaning(source, each) for each in (node.left, node.right))
    if number(node.left) == 1:
        return _one_less(source, less)
    if number(node.right) == 1:
        rest = _one_less(source, whole)
        return None if rest is None else rest.removeprefix("-") if rest[0] == "-" else f"-{rest}"
    return _variance(source, whole, less)


def _one_less(source: Source, node: cst.BaseExpression) -> str | None:
    """Return how 1 less an exponential or a cosine is written."""
    if not isinstance(node, cst.Call) or len(node.args) != 1:
        return None
    function = source.called(node)
    if function not in ("exp", "cos") or not source.package(node.func).startswith(OWN):
        return None
    package = "tf.math" if of_tensorflow(source, node.func) else "keras.ops"
    given = source.syntax.code(node.args[0].value)
    if function == "exp":
        return f"-{source.written(f'{package}.expm1')}({given})"
    square, sine = (source.written(f"{package}.{name}") for name in ("square", "sin"))
    return f"2 * {square}({sine}(({given}) / 2))"


def _variance(source: Source, whole: cst.BaseExpression, less: cst.BaseExpression) -> str | None:
    """Return how the mean of squares less the square of the mean is written."""
    squares, mean = reduction(source, whole, MEANS), _squared(source, less)
    of_mean = None if mean is None else reduction(source, meaning(source, mean), MEANS)
    if squares is None or of_mean is None:
        return None
    x = _squared(source, meaning(source, squares.of))
    if x is None or (squares.axis, squares.kept) != (of_mean.axis, of_mean.kept):
        return None
    if not same(source, x, of_mean.of):
        return None
    function = "tf.math.reduce_variance" if squares.tensorflow else "keras.ops.var"
    axis = "" if squares.axis is None else f", axis={squares.axis}"
    kept = ", keepdims=True" if squares.kept else ""
    return f"{source.written(function)}({source.syntax.code(x)}{axis}{kept})"


def _squared(source: Source, node: cst.BaseExpression) -> cst.BaseExpression | None:
    """Return what a node is the square of, None where it is none."""
    if isinstance(node, cst.BinaryOperation):
        if isinstance(node.operator, cst.Power):
            return node.left if number(node.right) == 2 else None
        product = isinstance(node.operator, cst.Multiply) and same(source, node.left, node.right)
        return node.left if product else None
    if not isinstance(node, cst.Call) or source.called(node) not in SQUARES:
        return None
    own = source.package(node.func).startswith(OWN)
    power = node.args[1].value if len(node.args) == 2 else None
    square = source.called(node) == "square" if power is None else number(power) == 2
    return node.args[0].value if own and square else None
