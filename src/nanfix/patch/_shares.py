"""Write shares of exponentials into the source as a softmax: `exp(a) / sum(exp(a))`, and weighted
means, `sum(exp(a) * x) / sum(exp(a))` and `exp(a) @ x / sum(exp(a))`.
"""

from dataclasses import dataclass
from functools import partial

import libcst as cst

from nanfix.patch._operands import exponent, number
from nanfix.patch._package import of_tensorflow
from nanfix.patch._source_files import Source
from nanfix.records.errors import NoPlaceError
from nanfix.records.source_changes import GuardChange

NOWHERE = (
    "the exponentials that line {line} divides may be computed elsewhere: write "
    "ops.softmax(a, axis=...) instead of exp(a) / sum(exp(a))"
)
SUMS = ("sum", "reduce_sum")
LAST = ("-1", "1")  # the last axis of a matrix
STATEMENTS = cst.BaseSmallStatement | cst.BaseCompoundStatement


@dataclass(frozen=True)
class _Sum:
    """A sum over an axis: what is summed up, and how the other arguments are written."""

    of: cst.BaseExpression
    axis: str
    kept: bool
    tensorflow: bool


def write_shares(source: Source, change: GuardChange) -> None:
    """Plan the softmax of every share of exponentials on a line.

    Raises:
        NoPlaceError: none is made of what the function of that line itself computes.
    """
    found, line = False, source.line(change.file, change.line)
    for node in source.syntax.within(source.syntax.module):
        if line not in source.syntax.lines(node):
            continue
        augmented = isinstance(node, cst.AugAssign) and isinstance(node.operator, cst.DivideAssign)
        if augmented or (isinstance(node, cst.BinaryOperation) and _divides(node)):
            parts = (node.target, node.value) if augmented else (node.left, node.right)  # pyright: ignore
            written = _as_softmax(source, *parts)
            if written is not None:
                source.change(node, partial(_written, written))
                found = True
    if not found:
        raise NoPlaceError(NOWHERE.format(line=change.line))


def _divides(node: cst.BinaryOperation) -> bool:
    return isinstance(node.operator, cst.Divide)


def _written(softmax: str, updated: cst.CSTNode) -> cst.CSTNode:
    """Return the softmax in the place of a quotient, of `a /= b` given to a."""
    value = cst.parse_expression(softmax)
    if isinstance(updated, cst.AugAssign):
        return cst.Assign([cst.AssignTarget(updated.target)], value)
    return value


def _as_softmax(source: Source, left: cst.BaseExpression, right: cst.BaseExpression) -> str | None:
    """Return how a share, or a mean that is weighted with shares, is written with a softmax; None
    where a quotient is neither.
    """
    whole = _sum(source, _meaning(source, right))
    if whole is None:
        return None
    power = _exponent(source, whole.of)
    if power is None:
        return None
    function = "tf.nn.softmax" if whole.tensorflow else "keras.ops.softmax"
    share = source.written(f"{function}({power}, axis={whole.axis})")
    if whole.kept and _same(source, left, whole.of):
        return share
    part = _meaning(source, left)
    first = _first_factor(source, part)
    if first is None or not _same(source, first, whole.of):
        return _weighted(source, part, whole, share)
    if not whole.kept or whole.axis not in LAST:
        return None
    product = _put(source, part, first, share)
    return product if isinstance(part, cst.Call) or part.lpar else f"({product})"


def _first_factor(source: Source, node: cst.CSTNode) -> cst.BaseExpression | None:
    """Return the first factor of a product of matrices, None of anything else."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.MatrixMultiply):
        return node.left
    if isinstance(node, cst.Call) and source.called(node) == "matmul" and len(node.args) == 2:
        return node.args[0].value
    return None


def _weighted(source: Source, part: cst.CSTNode, whole: _Sum, share: str) -> str | None:
    """Return the sum of a product with the exponentials, over the same axis, with their shares."""
    total = _sum(source, part)
    if total is None or (total.axis, total.kept) != (whole.axis, whole.kept):
        return None
    product = total.of
    factors = ()
    if isinstance(product, cst.BinaryOperation) and isinstance(product.operator, cst.Multiply):
        factors = (product.left, product.right)
    for factor in factors:
        if _same(source, factor, whole.of):
            return _put(source, part, factor, share)
    return None


def _put(source: Source, node: cst.CSTNode, part: cst.CSTNode, instead: str) -> str:
    """Return a node as it is written with something else in the place of a part of it."""
    return source.syntax.code(node.deep_replace(part, cst.parse_expression(instead)))  # pyright: ignore


def _sum(source: Source, node: cst.CSTNode) -> _Sum | None:
    """Return what a call sums up over an axis that is written there; None where it does not."""
    if not isinstance(node, cst.Call) or source.called(node) not in SUMS:
        return None
    names = ("x", "axis", "keepdims")
    given = {
        argument.keyword.value if argument.keyword else names[min(place, 2)]: argument.value
        for place, argument in enumerate(node.args)
    }
    first = node.args[0].value if node.args else None
    axis = given.get("axis")
    if first is None or axis is None or number(axis) is None:
        return None
    kept = source.syntax.code(given["keepdims"]) == "True" if "keepdims" in given else False
    return _Sum(first, source.syntax.code(axis), kept, of_tensorflow(source, node.func))


def _exponent(source: Source, node: cst.BaseExpression) -> str | None:
    """Return what an exponential is taken of, None of what is none."""
    meant = _meaning(source, node)
    inside = exponent(source, meant)
    if inside is None or not isinstance(meant, cst.Call):
        return None
    own = source.package(meant.func).startswith(("tensorflow.", "keras."))
    return source.syntax.code(inside) if own else None


def _same(source: Source, one: cst.BaseExpression, other: cst.BaseExpression) -> bool:
    """Say whether two expressions are written alike; names mean one thing where they are read."""
    plain = [each.with_changes(lpar=(), rpar=()) for each in (one, other)]
    return source.syntax.code(plain[0]) == source.syntax.code(plain[1])


def _meaning(source: Source, node: cst.BaseExpression) -> cst.BaseExpression:
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
