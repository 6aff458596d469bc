"""Write logarithms into the source in their stable form: `log(sum(exp(a)))` becomes `logsumexp(a)`,
`log(1 - exp(-a))` becomes `log(-expm1(-a))`, `log(bessel_i0(k))` becomes
`log(bessel_i0e(k)) + abs(k)`, `log(det(a))` becomes `slogdet(a)[1]`, `a * log(b)` becomes
`xlogy(a, b)`.
"""

from collections.abc import Callable
from typing import Any

import libcst as cst

from nanfix.patch._meanings import OWN
from nanfix.patch._operands import exponent, number
from nanfix.patch._package import is_tensorflow
from nanfix.patch._source_files import Source
from nanfix.records.errors import NoPlaceError
from nanfix.records.source_changes import GuardChange

NOWHERE = (
    "no log(sum(exp(...))), log of a difference of exponentials, of a Bessel function or of a "
    "determinant, or product with a logarithm stands in one expression: write the stable form by "
    "hand"
)
LOG_OF_DIFFERENCE = '''def log_of_difference(a, b):
    """Return log(exp(a) - exp(b)) of a > b, neither too great nor lost to rounding."""
    return a + {log}(-{expm1}(b - a))'''
TIMES_LOG = {"log": "tf.math.xlogy", "log1p": "tf.math.xlog1py"}
BESSEL = {"bessel_i0": "bessel_i0e", "bessel_i1": "bessel_i1e"}  # and times exp(-|x|)
ONE = ("1", "1.0", "1.")


def write_logarithms(source: Source, change: GuardChange) -> None:
    """Plan the stable form of every logarithm of exponentials in the file, and of every product
    with a logarithm in the function of that line. Raises NoPlaceError where none stands in one
    expression.
    """
    line = source.line(change.file, change.line)
    found: list[tuple[cst.CSTNode, Callable[[Any], Any]]] = []
    for node in source.syntax.within(source.syntax.module):
        written = _stable(source, node)
        if written is None and isinstance(node, cst.BinaryOperation):
            near = line in source.syntax.lines(source.syntax.scope(node))
            written = _product(source, node) if near else None
        found += [] if written is None else [(node, written)]
    if not found:
        raise NoPlaceError(NOWHERE)
    for node, written in found:
        source.change(node, written)


def _stable(source: Source, node: cst.CSTNode) -> Callable[[Any], Any] | None:
    if isinstance(node, cst.Call) and source.called(node) == "log" and len(node.args) == 1:
        forms = (_logsumexp, _difference, _bessel, _determinant)
        return next((written for form in forms if (written := form(source, node))), None)
    return None


def _product(source: Source, node: cst.BinaryOperation) -> Callable[[Any], Any] | None:
    """Return what writes a factor times a logarithm so that it is 0 where the factor is; None where
    it is no such.
    """
    if not isinstance(node.operator, cst.Multiply):
        return None
    for log, factor in (("right", "left"), ("left", "right")):
        logarithm = getattr(node, log)
        if not isinstance(logarithm, cst.Call) or len(logarithm.args) != 1:
            continue
        function = TIMES_LOG.get(source.called(logarithm))
        own = source.package(logarithm.func).startswith(OWN)
        if function is None or not own or _stable(source, logarithm) is not None:
            continue
        if number(getattr(node, factor)) is not None:
            continue
        name = source.written(function)

        def written(updated: Any, log: str = log, factor: str = factor, name: str = name) -> Any:
            first = source.syntax.code(getattr(updated, factor).with_changes(lpar=(), rpar=()))
            second = source.syntax.code(getattr(updated, log).args[0].value)
            return cst.parse_expression(f"{name}({first}, {second})")

        return written
    return None


def _logsumexp(source: Source, logarithm: cst.Call) -> Callable[[Any], Any] | None:
    """Return what writes a logarithm of a sum of exponentials; None where it is no such."""
    total = logarithm.args[0].value
    if not isinstance(total, cst.Call) or source.called(total) not in ("sum", "reduce_sum"):
        return None
    if not total.args or exponent(source, total.args[0].value) is None:
        return None
    tensorflow = is_tensorflow(source, logarithm)
    name = source.written("tf.reduce_logsumexp" if tensorflow else "keras.ops.logsumexp")

    def written(updated: cst.Call) -> cst.BaseExpression:
        total = cst.ensure_type(updated.args[0].value, cst.Call)
        exponential = cst.ensure_type(total.args[0].value, cst.Call)
        first = total.args[0].with_changes(value=exponential.args[0].value)
        function = cst.parse_expression(name)
        return updated.with_changes(func=function, args=[first, *total.args[1:]])

    return written


def _difference(source: Source, logarithm: cst.Call) -> Callable[[Any], Any] | None:
    """Return what writes a logarithm of exp(a) - exp(b), of which one may be 1; None where it is no
    such.
    """
    given = logarithm.args[0].value
    if not isinstance(given, cst.BinaryOperation) or not isinstance(given.operator, cst.Subtract):
        return None
    whole, less = (exponent(source, each) for each in (given.left, given.right))
    ones = [source.syntax.code(each) in ONE for each in (given.left, given.right)]
    if (whole is None and not ones[0]) or (less is None and not ones[1]) or all(ones):
        return None
    package = "tf.math" if is_tensorflow(source, logarithm) else "keras.ops"
    if not ones[0]:
        source.define(LOG_OF_DIFFERENCE.format(log=f"{package}.log", expm1=f"{package}.expm1"))
    log, expm1 = (source.written(f"{package}.{name}") for name in ("log", "expm1"))

    def written(updated: cst.Call) -> cst.BaseExpression:
        difference = cst.ensure_type(updated.args[0].value, cst.BinaryOperation)
        a, b = (_inside(source, each) for each in (difference.left, difference.right))
        text = f"{log}(-{expm1}({b}))" if ones[0] else f"log_of_difference({a}, {b})"
        return cst.parse_expression(text)

    return written


def _bessel(source: Source, logarithm: cst.Call) -> Callable[[Any], Any] | None:
    """Return what writes a logarithm of a Bessel function, which may have factors; None where it is
    no such.
    """
    if _bessel_among(source, logarithm.args[0].value) is None:
        return None
    tensorflow = is_tensorflow(source, logarithm)
    size = source.written("tf.abs" if tensorflow else "keras.ops.abs")

    def written(updated: cst.Call) -> cst.BaseExpression:
        bessel = cst.ensure_type(_bessel_among(source, updated.args[0].value), cst.Call)
        function = cst.ensure_type(bessel.func, cst.Attribute)
        scaled = function.with_changes(attr=cst.Name(BESSEL[function.attr.value]))
        stable = source.syntax.code(updated.deep_replace(function, scaled))  # pyright: ignore
        given = source.syntax.code(bessel.args[0].value)
        return cst.parse_expression(f"({stable} + {size}({given}))")

    return written


def _determinant(source: Source, logarithm: cst.Call) -> Callable[[Any], Any] | None:
    """Return what writes a logarithm of a determinant, or of its magnitude; None where it is no
    such.
    """
    determinant = _within(source, logarithm.args[0].value, ("abs", "absolute"))
    if _within(source, determinant, ("det",)) is determinant:
        return None
    tensorflow = is_tensorflow(source, cst.ensure_type(determinant, cst.Call))
    name = source.written("tf.linalg.slogdet" if tensorflow else "keras.ops.slogdet")

    def written(updated: cst.Call) -> cst.BaseExpression:
        determinant = _within(source, updated.args[0].value, ("abs", "absolute"))
        matrix = source.syntax.code(_within(source, determinant, ("det",)))
        return cst.parse_expression(f"{name}({matrix})[1]")

    return written


def _within(source: Source, node: cst.BaseExpression, names: tuple[str, ...]) -> cst.BaseExpression:
    """Return the argument of a call of one of these functions, and anything else as it is."""
    if isinstance(node, cst.Call) and source.called(node) in names and len(node.args) == 1:
        return node.args[0].value
    return node


def _bessel_among(source: Source, node: cst.BaseExpression) -> cst.Call | None:
    """Return the first factor of a product that is a Bessel function, called by its dotted name."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply):
        return _bessel_among(source, node.left) or _bessel_among(source, node.right)
    found = isinstance(node, cst.Call) and source.called(node) in BESSEL and len(node.args) == 1
    return node if found and isinstance(node.func, cst.Attribute) else None  # pyright: ignore


def _inside(source: Source, node: cst.BaseExpression) -> str:
    """Return the exponent of an exponential, and that of 1."""
    return source.syntax.code(node.args[0].value) if isinstance(node, cst.Call) else "0.0"
