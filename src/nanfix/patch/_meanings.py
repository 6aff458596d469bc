"""What the names in a function of the user's source mean where they are read, and the formulas that
are made of them.
"""

from dataclasses import dataclass

import libcst as cst

from nanfix.patch._operands import number
from nanfix.patch._package import of_tensorflow
from nanfix.patch._source_files import Source

STATEMENTS = cst.BaseSmallStatement | cst.BaseCompoundStatement
OWN = ("tensorflow.", "keras.")


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
    made = before[-1] if before else None
    if not isinstance(made, cst.Assign) or not isinstance(made.targets[0].target, cst.Name):
        return node
    loops = (cst.For, cst.While)
    outer = list(syntax.ancestors(node))
    again = len(of_it) > len(before) and any(isinstance(each, loops) for each in outer)
    if len(made.targets) > 1 or syntax.parent(syntax.parent(made)) not in outer or again:
        return node
    begins, ends = syntax.start(made), syntax.start(reading)
    since = [names for each, names in given if names and begins <= syntax.start(each) < ends]
    return node if _names(source, made.value) & set().union(*since) else made.value


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
