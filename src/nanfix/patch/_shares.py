"""Write shares of exponentials into the source as a softmax: `exp(a) / sum(exp(a))`, and weighted
means, `sum(exp(a) * x) / sum(exp(a))` and `exp(a) @ x / sum(exp(a))`.
"""

from dataclasses import dataclass

import libcst as cst

from nanfix.patch._operands import number
from nanfix.patch._package import of_tensorflow
from nanfix.patch._source_files import Source
from nanfix.records.errors import NoPlaceError

NOWHERE = (
    "the exponentials that line {line} divides may be computed elsewhere: write "
    "ops.softmax(a, axis=...) instead of exp(a) / sum(exp(a))"
)
SUMS = ("sum", "reduce_sum")
LAST = ("-1", "1")  # the last axis of a matrix


@dataclass(frozen=True)
class _Sum:
    """A sum over an axis: what is summed up, and how the other arguments are written."""

    of: cst.BaseExpression
    axis: str
    kept: bool
    tensorflow: bool


def write_shares(source: Source, line: int) -> None:
    """Plan the softmax of every share of exponentials on a line.

    Raises:
        NoPlaceError: none is made of what the function of that line itself computes.
    """
    found = False
    for node in source.syntax.within(source.syntax.module):
        if line in source.syntax.lines(node) and isinstance(node, cst.BinaryOperation):
            written = _as_softmax(source, node) if isinstance(node.operator, cst.Divide) else None
            if written is not None:
                source.change(node, lambda _, written=written: cst.parse_expression(written))
                found = True
    if not found:
        raise NoPlaceError(NOWHERE.format(line=line))


def _as_softmax(source: Source, division: cst.BinaryOperation) -> str | None:
    """Return how a share, or a mean that is weighted with shares, is written with a softmax; None
    where a division is neither.
    """
    whole = _sum(source, _meaning(source, division.right))
    if whole is None:
        return None
    exponent = _exponent(source, whole.of)
    if exponent is None:
        return None
    function = "tf.nn.softmax" if whole.tensorflow else "keras.ops.softmax"
    share = source.written(f"{function}({exponent}, axis={whole.axis})")
    if whole.kept and _same(source, division.left, whole.of):
        return share
    part = _meaning(source, division.left)
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
    if not isinstance(meant, cst.Call) or source.called(meant) != "exp" or len(meant.args) != 1:
        return None
    own = source.package(meant.func).startswith(("tensorflow.", "keras."))
    return source.syntax.code(meant.args[0].value) if own else None


def _same(source: Source, one: cst.BaseExpression, other: cst.BaseExpression) -> bool:
    """Say whether two expressions are written alike; names mean one thing where they are read."""
    plain = [each.with_changes(lpar=(), rpar=()) for each in (one, other)]
    return source.syntax.code(plain[0]) == source.syntax.code(plain[1])


def _meaning(source: Source, node: cst.BaseExpression) -> cst.BaseExpression:
    """Return what a name was given in the same function, if that happens once and none of the names
    in it are given anything after that; else the node.
    """
    if not isinstance(node, cst.Name):
        return node
    scope = source.syntax.scope(node)
    statements = source.syntax.within(scope)
    given = [
        (target, statement) for statement in statements for target in _targets(source, statement)
    ]
    of_it = [statement for target, statement in given if target == node.value]
    if len(of_it) != 1 or not isinstance(of_it[0], cst.Assign):
        return node
    made = of_it[0]
    if len(made.targets) != 1 or not isinstance(made.targets[0].target, cst.Name):
        return node
    begins, ends = source.syntax.start(made), source.syntax.start(node)
    changed = {target for target, each in given if begins < source.syntax.start(each) < ends}
    return node if changed & _names(source, made.value) else made.value


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
