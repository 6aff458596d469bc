"""What the names in a function of the user's source mean where they are read, and the formulas that
are made of them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import libcst as cst

from nanfix.patch._operands import exponent, number
from nanfix.patch._package import of_tensorflow
from nanfix.patch._source_files import Source

STATEMENTS = cst.BaseSmallStatement | cst.BaseCompoundStatement
OWN = ("tensorflow.", "keras.")
SINGLE = cst.Name | cst.Call | cst.Attribute | cst.Subscript | cst.Integer | cst.Float


@dataclass(frozen=True)
class Reduction:
    """What a call sums up or takes the mean of, along which axis, None for all, and how the other
    arguments are written.
    """

    of: cst.BaseExpression
    axis: str | None
    kept: bool
    tensorflow: bool


def reduction(source: Source, node: cst.CSTNode, functions: tuple[str, ...]) -> Reduction | None:
    """Return what a call of one of these functions of TensorFlow's or Keras' reduces; None where it
    is none, or its axis is not written there.
    """
    if not isinstance(node, cst.Call) or source.called(node) not in functions or not node.args:
        return None
    if not source.package(node.func).startswith(OWN):
        return None
    names = ("x", "axis", "keepdims")
    given = {
        argument.keyword.value if argument.keyword else names[min(place, 2)]: argument.value
        for place, argument in enumerate(node.args)
    }
    axis = given.get("axis")
    if axis is not None and number(axis) is None:
        return None
    written = None if axis is None else source.syntax.code(axis)
    kept = source.syntax.code(given["keepdims"]) == "True" if "keepdims" in given else False
    return Reduction(node.args[0].value, written, kept, of_tensorflow(source, node.func))


def same(source: Source, one: cst.BaseExpression, other: cst.BaseExpression) -> bool:
    """Say whether two expressions are written alike; names mean one thing where they are read."""
    plain = [each.with_changes(lpar=(), rpar=()) for each in (one, other)]
    return source.syntax.code(plain[0]) == source.syntax.code(plain[1])


def meaning(source: Source, node: cst.BaseExpression) -> cst.BaseExpression:
    """Return what a name was given before, in the same function, if it holds that whenever it is
    read there, and the names in it still mean what they did; else the node.
    """
    if not isinstance(node, cst.Name):
        return node
    syntax, scope = source.syntax, source.syntax.scope(node)
    reading = next(each for each in syntax.ancestors(node) if isinstance(each, STATEMENTS))
    given = [(each, _targets(source, each)) for each in syntax.within(scope)]
    of_it = [each for each, names in given if node.value in names]
    before = [each for each in of_it if syntax.start(each) < syntax.start(reading)]
    made: Any = before[-1] if before else None
    multiplied = isinstance(made, cst.AugAssign) and isinstance(made.operator, cst.MultiplyAssign)
    if not multiplied and not isinstance(made, cst.Assign):
        return node
    given_to: Any = [made] if multiplied else made.targets  # pyright: ignore
    targets = [each.target for each in given_to]
    if not isinstance(targets[0], cst.Name):
        return node
    loops = (cst.For, cst.While)
    outer = list(syntax.ancestors(node))
    again = len(of_it) > len(before) and any(isinstance(each, loops) for each in outer)
    if len(targets) > 1 or syntax.parent(syntax.parent(made)) not in outer or again:
        return node
    begins, ends = syntax.start(made), syntax.start(reading)
    since = [names for each, names in given if names and begins <= syntax.start(each) < ends]
    changed = _names(source, made.value) & set().union(*since)
    if not multiplied and not changed:
        return made.value
    if changed - {node.value}:
        return node
    factors = (targets[0], made.value) if multiplied else _factors(made.value)
    times = Counter(name for _, names in given for name in names)
    return _product(source, node, factors, times) or node


def in_parentheses(source: Source, node: cst.BaseExpression | str) -> str:
    """Return a node as it can be written beside an operator."""
    node = cst.parse_expression(node) if isinstance(node, str) else node
    text = source.syntax.code(node)
    single = isinstance(node, SINGLE) or node.lpar
    return text if single else f"({text})"


def exponent_of(source: Source, node: cst.BaseExpression) -> str | None:
    """Return what an exponential is taken of, None of what is none."""
    meant = meaning(source, node)
    inside = exponent(source, meant)
    if inside is None or not isinstance(meant, cst.Call):
        return None
    return source.syntax.code(inside) if source.package(meant.func).startswith(OWN) else None


def _factors(node: cst.BaseExpression) -> tuple[Any, Any]:
    product = isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply)
    return (node.left, node.right) if product else (None, None)  # pyright: ignore


def _product(
    source: Source, name: cst.Name, factors: tuple[Any, Any], times: Mapping[str, int]
) -> cst.BaseExpression | None:
    """Return what a name was multiplied to, as by `e = e * mask`, with what it was before in the
    place of it; None where that is not known, or may be something else by now.

    Args:
        times: how often each name is given something in the function.
    """
    own = [each for each in factors if isinstance(each, cst.Name) and each.value == name.value]
    if len(own) != 1:
        return None
    before = meaning(source, own[0])
    once = all(times[each] <= 1 for each in _names(source, before))
    if before is own[0] or not once:
        return None
    left, right = (before if each is own[0] else each for each in factors)
    return cst.BinaryOperation(left, cst.Multiply(), right)


def _targets(source: Source, statement: cst.CSTNode) -> set[str]:
    """Return the names that a statement, or a parameter, gives something."""
    if isinstance(statement, cst.Assign):
        return set().union(*(_names(source, target.target) for target in statement.targets))
    if isinstance(statement, cst.Param):
        return {statement.name.value}
    if isinstance(statement, cst.AnnAssign | cst.AugAssign | cst.For | cst.NamedExpr):
        return _names(source, statement.target)
    return set()


def _names(source: Source, node: cst.CSTNode) -> set[str]:
    return {each.value for each in source.syntax.within(node) if isinstance(each, cst.Name)}
