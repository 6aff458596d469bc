"""Write a guarded operation into the source: `tf.math.log(p)` becomes `tf.math.log(tf.maximum(p, 1e-07))`, on that line alone."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import libcst as cst

from nanfix.errors import NoPlaceError
from nanfix.rewriting import Files, Source
from nanfix.sharing import Alike
from nanfix.source import GuardChange

SMALLEST_BESIDE_ONE = 1.2e-7  # what a float32 can still tell from nothing when it is added to 1
LARGEST_EXPONENT = 79.8  # exp(x) and sums of many of them stay below the largest float32
LOWEST = -8.5e37  # a float32 to which others can be added
AWAY_FROM_ZERO = '''def away_from_zero(x, edge):
    """Return x or, where it is nearer to 0 than edge, edge with the sign of x."""
    sign = {package}.where(x < 0, -{package}.ones_like(x), {package}.ones_like(x))
    return {package}.where({package}.abs(x) < edge, edge * sign, x)'''
WITHOUT_LARGEST = '''def without_largest(x):
    """Return x less its largest value along the last axis, of which an exponential cannot overflow."""
    return x - {package}.{max}(x, axis=-1, keepdims=True)'''
WITHOUT_ZERO = '''def without_zero(x):
    """Return x or, where it is 0, infinity, so that what is divided by it is 0."""
    return {package}.where(x == 0, float("inf") * {package}.ones_like(x), x)'''


@dataclass(frozen=True)
class _Form:
    """How an operation is written: the functions that compute it, which argument is kept in the domain, and how.

    `guard` gives of a package, the operand and epsilon the operand's new source; `operator` is the operator for it, if any.
    """

    functions: tuple[str, ...]
    guard: Callable[["_Package", str, float], str]
    operand: int = 0
    operator: Any = None


class _Package:
    """The functions that the guarded operand is computed with: TensorFlow's or Keras' own, as the operation itself is."""

    def __init__(self, source: Source, tensorflow: bool):
        self._source, self._tensorflow = source, tensorflow
        self._package = "tf" if tensorflow else "keras.ops"

    def name(self, function: str) -> str:
        if self._tensorflow:
            return self._source.written(f"tf.{'clip_by_value' if function == 'clip' else function}")
        return self._source.written(f"keras.ops.{function}")

    def without_largest(self, x: str) -> str:
        self._source.define(WITHOUT_LARGEST.format(package=self._package, max="reduce_max" if self._tensorflow else "max"))
        return f"without_largest({x})"

    def away_from_zero(self, x: str, edge: float) -> str:
        if edge == 0:
            self._source.define(WITHOUT_ZERO.format(package=self._package))
            return f"without_zero({x})"
        self._source.define(AWAY_FROM_ZERO.format(package=self._package))
        return f"away_from_zero({x}, {edge:g})"


def guard_operation(files: Files, change: GuardChange, alike: Alike) -> None:
    """Plan the guard of every such operation on the line; there is no harm in it for others that come to that line.

    Raises:
        NoPlaceError: no call on the line is known to compute it.
    """
    source = files.source(change.file)
    form = _FORMS.get(change.operation)
    nodes = [] if form is None else [node for node in source.within(source.module) if _computes(source, node, form)]
    nodes = [node for node in nodes if change.line in source.lines(node)]
    nodes = [node for node in nodes if source.start(node)[0] == change.line] or nodes
    if form is None or not nodes:
        raise NoPlaceError(f"line {change.line} has no call that is known to compute {change.operation}")
    planned = [(node, operand) for node in nodes if (operand := _operand(source, node, form)) is not None]
    if not planned:
        raise NoPlaceError(f"what {change.operation} takes in line {change.line} cannot be kept in its domain by itself")
    for node, operand in planned:
        guard = _guarded(source, node, form, change.epsilon)
        source.change(operand, lambda updated, guard=guard: cst.parse_expression(guard(_bare(source, updated))))


def _computes(source: Source, node: cst.CSTNode, form: _Form) -> bool:
    if isinstance(node, cst.BinaryOperation):
        return form.operator is not None and isinstance(node.operator, form.operator)
    return isinstance(node, cst.Call) and source.called(node) in form.functions and len(node.args) > form.operand


def _operand(source: Source, node: Any, form: _Form) -> Any:
    """Return the expression that is kept in the domain, or None where it is there already."""
    operand = node.args[form.operand].value if isinstance(node, cst.Call) else (node.left, node.right)[form.operand]
    if form.guard is _base:
        exponent = _exponent(node)
        return operand if exponent is not None and (exponent != math.floor(exponent) or exponent < 0) else None
    return None if _value(operand) is not None else operand


def _exponent(node: Any) -> float | None:
    """Return the exponent of a power where it is written out as a number."""
    return _value(node.args[1].value if isinstance(node, cst.Call) else node.right)


def _guarded(source: Source, node: Any, form: _Form, epsilon: float) -> Callable[[str], str]:
    package = _Package(source, _is_tensorflow(source, node))
    if form.guard is _base:
        exponent = _exponent(node) or 0.0
        return lambda x: _floor(package, x, epsilon) if exponent != math.floor(exponent) else _away(package, x, epsilon)
    return lambda x: form.guard(package, x, epsilon)


def _is_tensorflow(source: Source, node: Any) -> bool:
    """Say whether a function is TensorFlow's own, an operator whether it stands among such functions."""
    if isinstance(node, cst.Call):
        return _of_tensorflow(source, node.func)
    return any(_of_tensorflow(source, n.func) for n in source.within(source.scope(node)) if isinstance(n, cst.Call))


def _of_tensorflow(source: Source, function: cst.BaseExpression) -> bool:
    full = source.package(function)
    return full.startswith("tensorflow.") and not full.startswith("tensorflow.keras.")


def _value(node: cst.CSTNode) -> float | None:
    """Return the number that an expression writes out, or None."""
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        inner = _value(node.expression)
        return None if inner is None else -inner
    return float(node.evaluated_value) if isinstance(node, cst.Integer | cst.Float) else None


def _bare(source: Source, node: Any) -> str:
    """Return an expression without the parentheses round it; the function that is put there has its own."""
    return source.code(node.with_changes(lpar=(), rpar=()))


def _floor(package: _Package, x: str, e: float) -> str:
    return f"{package.name('maximum')}({x}, {e:g})"


def _above_minus_one(package: _Package, x: str, e: float) -> str:
    return f"{package.name('maximum')}({x}, {max(e, SMALLEST_BESIDE_ONE):g} - 1)"


def _above_one(package: _Package, x: str, e: float) -> str:
    return f"{package.name('maximum')}({x}, 1 + {max(e, SMALLEST_BESIDE_ONE):g})"


def _inside_one(package: _Package, x: str, e: float) -> str:
    edge = f"{max(e, SMALLEST_BESIDE_ONE):g}"
    return f"{package.name('clip')}({x}, {edge} - 1, 1 - {edge})"


def _limit(e: float) -> str:
    return f"{min(-math.log(e), LARGEST_EXPONENT):.4g}"


def _ceiling(package: _Package, x: str, e: float) -> str:
    if e == 0:
        return package.without_largest(x)
    return f"{package.name('minimum')}({x}, {_limit(e)})"


def _both_sides(package: _Package, x: str, e: float) -> str:
    return f"{package.name('clip')}({x}, -{_limit(e)}, {_limit(e)})"


def _finite_floor(package: _Package, x: str, e: float) -> str:
    return f"{package.name('maximum')}({x}, {max(-1 / e, LOWEST):g})"


def _away(package: _Package, x: str, e: float) -> str:
    return package.away_from_zero(x, e)


def _base(package: _Package, x: str, e: float) -> str:
    raise AssertionError("which guard a base takes depends on the exponent")


_FORMS = {
    "Sqrt": _Form(("sqrt",), _floor),
    "Rsqrt": _Form(("rsqrt",), _floor),
    "Log": _Form(("log", "log2", "log10"), _floor),
    "Log1p": _Form(("log1p",), _above_minus_one),
    "RealDiv": _Form(("divide", "truediv", "true_divide"), _away, 1, cst.Divide),
    "Reciprocal": _Form(("reciprocal",), _away),
    "Exp": _Form(("exp",), _ceiling),
    "Expm1": _Form(("expm1",), _ceiling),
    "Cosh": _Form(("cosh",), _both_sides),
    "Sinh": _Form(("sinh",), _both_sides),
    "Softmax": _Form(("softmax",), _finite_floor),
    "LogSoftmax": _Form(("log_softmax",), _finite_floor),
    "Xlogy": _Form(("xlogy",), _floor, 1),
    "Xlog1py": _Form(("xlog1py",), _above_minus_one, 1),
    "Lgamma": _Form(("lgamma",), _floor),
    "Digamma": _Form(("digamma",), _floor),
    "Erfinv": _Form(("erfinv",), _inside_one),
    "Atan2": _Form(("atan2", "arctan2"), _away, 1),
    "FloorMod": _Form(("mod", "floormod"), _away, 1, cst.Modulo),
    "Pow": _Form(("pow", "power"), _base, 0, cst.Power),
    "Acos": _Form(("acos", "arccos"), _inside_one),
    "Asin": _Form(("asin", "arcsin"), _inside_one),
    "Acosh": _Form(("acosh", "arccosh"), _above_one),
    "Atanh": _Form(("atanh", "arctanh"), _inside_one),
}
