"""Which operands of the operations on a line a guard keeps in a domain, and in which: as in the
graph, for what they were in the step that failed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import libcst as cst

from nanfix.model.operands import as_written
from nanfix.patch._source_files import Source
from nanfix.records.domains import BASE, FINITE, Domain, Given, domain_of_base, kind_of_exponent
from nanfix.records.unsafe_operations import UnsafeOperation

OPERATORS: dict[str, tuple[type[cst.CSTNode], ...]] = {
    "/": (cst.Divide, cst.DivideAssign),
    "%": (cst.Modulo, cst.ModuloAssign),
    "**": (cst.Power, cst.PowerAssign),
    "*": (cst.Multiply, cst.MultiplyAssign),
}


@dataclass(frozen=True)
class Operand:
    """An expression that is kept in a domain, of the operation `node`: a call, two operands or an
    augmented assignment. The `exponent` is that of a base.
    """

    node: Any
    value: cst.BaseExpression
    domain: Domain
    exponent: cst.BaseExpression | None = None


def computes(source: Source, node: cst.CSTNode, operation: UnsafeOperation) -> bool:
    """Say whether a node is known to compute an operation."""
    if isinstance(node, cst.BinaryOperation | cst.AugAssign):
        return isinstance(node.operator, OPERATORS.get(operation.operator or "", ()))
    return (
        isinstance(node, cst.Call)
        and source.called(node) in operation.functions
        and _argument(node, operation, operation.operand) is not None
    )


def guarded(
    source: Source, nodes: Sequence[Any], operation: UnsafeOperation, given: Mapping[str, str]
) -> list[Operand]:
    """Return what is to be kept in a domain of the operations on a line, numbers left out.

    Args:
        given: operands as `model.operands` has them, each with what it was.
    """
    if operation.domain is FINITE:
        return _factors(source, nodes, operation, given)
    found = []
    for node in nodes:
        value, domain, exponent = (
            _argument(node, operation, operation.operand),
            operation.domain,
            None,
        )
        if domain is BASE:
            exponent = _argument(node, operation, 1)
            domain = _domain_of_base(source, exponent, given)
        if value is not None and domain is not None and number(value) is None:
            found.append(Operand(node, value, domain, exponent))
    return found


def number(node: cst.CSTNode | None) -> float | None:
    """Return the number that an expression writes out, or None."""
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        inner = number(node.expression)
        return None if inner is None else -inner
    return float(node.evaluated_value) if isinstance(node, cst.Integer | cst.Float) else None


def exponent(source: Source, node: cst.BaseExpression) -> cst.BaseExpression | None:
    """Return what an exponential is taken of, None where a node is none."""
    exponential = isinstance(node, cst.Call) and source.called(node) == "exp"
    return node.args[0].value if exponential and len(node.args) == 1 else None  # pyright: ignore


def infinity(node: cst.BaseExpression) -> int:
    """Return the sign of an infinity that an expression names; 0 where it names none."""
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        return -infinity(node.expression)
    if isinstance(node, cst.Name | cst.Attribute):
        name = node.value if isinstance(node, cst.Name) else node.attr.value
        return int(name.lower() in ("inf", "infty", "infinity"))
    given = node.args[0].value if isinstance(node, cst.Call) and len(node.args) == 1 else None
    if not isinstance(given, cst.SimpleString) or not isinstance(node.func, cst.Name):  # pyright: ignore
        return 0
    text = str(given.evaluated_value).strip().lower()
    return (text.lstrip("+-") in ("inf", "infinity")) * (-1 if text.startswith("-") else 1)


def _domain_of_base(
    source: Source, exponent: cst.BaseExpression | None, given: Mapping[str, str]
) -> Domain | None:
    """Return the domain that an exponent asks for, as it is written or as it was."""
    written = number(exponent)
    if written is not None:
        return domain_of_base(kind_of_exponent(written))
    seen = given.get(_text(source, exponent)) if exponent is not None else None
    return domain_of_base(Given.MIXED if seen is None else Given(seen))


def _factors(
    source: Source, nodes: Sequence[Any], operation: UnsafeOperation, given: Mapping[str, str]
) -> list[Operand]:
    """Return the factors that were infinite; of a product that was, though none of them is known to
    have been, all; and where nothing is known, all but numbers: those that name infinity, if any.
    """
    factors = [
        Operand(node, value, FINITE)
        for node in nodes
        for value in (_argument(node, operation, 0), _argument(node, operation, 1))
        if value is not None
    ]
    products = {each.value for each in factors if each.value in nodes}
    factors = [each for each in factors if number(each.value) is None]
    single = [each for each in factors if each.value not in products]
    known = {each.value for each in factors if _text(source, each.value) in given}
    found = [each for each in single if each.value in known]
    for product in products & known:
        inside = [each for each in single if each.value in source.syntax.within(product)]
        if not any(each.value in known for each in inside):
            found += inside
    return found or [each for each in single if infinity(each.value)] or single


def _argument(node: Any, operation: UnsafeOperation, position: int) -> cst.BaseExpression | None:
    if isinstance(node, cst.BinaryOperation):
        return (node.left, node.right)[position]
    if isinstance(node, cst.AugAssign):
        return (node.target, node.value)[position]
    given = [(arg.keyword.value if arg.keyword else None, arg.value) for arg in node.args]
    return operation.argument(given, position)


def _text(source: Source, node: cst.CSTNode) -> str:
    return as_written(source.syntax.code(node))
