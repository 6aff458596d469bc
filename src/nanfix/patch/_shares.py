"""Write quotients of exponentials into the source: `exp(a) / sum(exp(a))`, and weighted means,
`sum(exp(a) * x) / sum(exp(a))` and `exp(a) @ x / sum(exp(a))`, as a softmax, those by a sum of two
as a sigmoid or tanh.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import libcst as cst

from nanfix.patch._meanings import (
    Reduction,
    exponent_of,
    in_parentheses,
    meaning,
    reduction,
    same,
)
from nanfix.patch._operands import number
from nanfix.patch._sigmoids import as_product, as_sigmoid
from nanfix.patch._source_files import Source
from nanfix.records.errors import NoPlaceError
from nanfix.records.source_changes import GuardChange
from nanfix.records.unsafe_operations import KEEPS_FROM_0

NOWHERE = (
    "the exponentials that line {line} needs may be computed elsewhere: write "
    "ops.softmax(a, axis=...) instead of exp(a) / sum(exp(a))"
)
SUMS = ("sum", "reduce_sum")
LAST = ("-1", "1")  # the last axis of a matrix
NEW_LAST = ("[:, None]", "[..., None]", "[:, tf.newaxis]", "[..., tf.newaxis]")


def write_shares(source: Source, change: GuardChange) -> None:
    """Plan the softmax, sigmoid, tanh or product of every quotient by exponentials in the file, as
    it is the same number.

    Raises:
        NoPlaceError: none is made of what its function itself computes.
    """
    found = False
    for node in source.syntax.within(source.syntax.module):
        augmented = isinstance(node, cst.AugAssign) and isinstance(node.operator, cst.DivideAssign)
        if augmented or (isinstance(node, cst.BinaryOperation) and _divides(node)):
            parts = (node.target, node.value) if augmented else (node.left, node.right)  # pyright: ignore
            ways = (_as_softmax, as_sigmoid, as_product)
            written = next(filter(None, (way(source, *parts) for way in ways)), None)
            if written is not None:
                source.change(node, partial(_written, written))
                found = True
    if not found:
        raise NoPlaceError(NOWHERE.format(line=change.line))


def _divides(node: cst.BinaryOperation) -> bool:
    return isinstance(node.operator, cst.Divide)


def _written(softmax: str, updated: cst.CSTNode) -> cst.CSTNode:
    """Return the softmax in the place of a quotient, of `a /= b` given to a."""
    value: Any = cst.parse_expression(softmax)
    if isinstance(updated, cst.AugAssign):
        return cst.Assign([cst.AssignTarget(updated.target)], value)
    if isinstance(value, cst.BinaryOperation) and not value.lpar:
        return value.with_changes(lpar=updated.lpar, rpar=updated.rpar)  # pyright: ignore
    return value


def _as_softmax(source: Source, left: cst.BaseExpression, right: cst.BaseExpression) -> str | None:
    """Return how a share, or a mean that is weighted with shares, is written with a softmax; None
    where a quotient is neither.
    """
    whole = _sum(source, _without_floor(source, meaning(source, right)))
    share = None if whole is None else _share(source, whole)
    if whole is None or share is None:
        return None
    if whole.kept and same(source, left, whole.of):
        return share
    part = meaning(source, left)
    first = _first_factor(source, part)
    if first is None or not same(source, first, whole.of):
        return _weighted(source, part, whole, share)
    if not whole.kept or whole.axis not in LAST:
        return None
    product = _put(source, part, first, share)
    return product if isinstance(part, cst.Call) or part.lpar else f"({product})"


def _without_floor(source: Source, node: cst.BaseExpression) -> cst.BaseExpression:
    """Return what is kept from being 0 by adding a tiny number, or by a maximum with one."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Add):
        parts = (node.left, node.right)
    elif isinstance(node, cst.Call) and source.called(node) == "maximum" and len(node.args) == 2:
        parts = (node.args[0].value, node.args[1].value)
    else:
        return node
    rest = [part for part in parts if not _is_tiny(source, part)]
    return meaning(source, rest[0]) if len(rest) == 1 else node


def _is_tiny(source: Source, node: cst.BaseExpression) -> bool:
    written = number(node)
    if written is not None:
        return 0 < written <= KEEPS_FROM_0
    return isinstance(node, cst.Call) and source.called(node) == "epsilon"


def _first_factor(source: Source, node: cst.CSTNode) -> cst.BaseExpression | None:
    """Return the first factor of a product of matrices, None of anything else."""
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.MatrixMultiply):
        return node.left
    if isinstance(node, cst.Call) and source.called(node) == "matmul" and len(node.args) == 2:
        return node.args[0].value
    return None


def _weighted(source: Source, part: cst.CSTNode, whole: Reduction, share: str) -> str | None:
    """Return the sum of a product with the exponentials, over the same axis, with their shares."""
    total = _sum(source, part)
    if total is None or (total.axis, total.kept) != (whole.axis, whole.kept):
        return None
    product = total.of
    factors = ()
    if isinstance(product, cst.BinaryOperation) and isinstance(product.operator, cst.Multiply):
        factors = (product.left, product.right)
    for factor in factors:
        if same(source, factor, whole.of):
            return _put(source, part, factor, share)
    return None


def _put(source: Source, node: cst.CSTNode, part: cst.CSTNode, instead: str) -> str:
    """Return a node as it is written with something else in the place of a part of it."""
    return source.syntax.code(node.deep_replace(part, cst.parse_expression(instead)))  # pyright: ignore


def _sum(source: Source, node: cst.CSTNode) -> Reduction | None:
    """Return what a call sums up over an axis that is written there, or in front of which another
    axis is put in its place; None where it does not.
    """
    if isinstance(node, cst.Subscript) and source.syntax.code(node).endswith(NEW_LAST):
        found = _sum(source, meaning(source, node.value))
        last = found is not None and not found.kept and found.axis in LAST
        return replace(found, kept=True) if found is not None and last else None
    found = reduction(source, node, SUMS)
    return None if found is None or found.axis is None else found


def _share(source: Source, whole: Reduction) -> str | None:
    """Return the shares of what is summed up, an exponential that may be masked, as they are
    written with a softmax; None of anything else.
    """
    package = "tf" if whole.tensorflow else "keras.ops"
    softmax = source.written("tf.nn.softmax" if whole.tensorflow else "keras.ops.softmax")
    summed = meaning(source, whole.of)
    power = exponent_of(source, summed)
    if power is not None:
        return f"{softmax}({power}, axis={whole.axis})"
    masked = _masked(source, summed)
    if masked is None:
        return None
    power, mask, condition = masked
    where, cast = (source.written(f"{package}.{name}") for name in ("where", "cast"))
    factor = f"{cast}({mask}, {power}.dtype)" if condition else mask
    kept = mask if condition else f"{mask} > 0"
    return f"({softmax}({where}({kept}, {power}, -1e9), axis={whole.axis}) * {factor})"


def _masked(source: Source, node: cst.BaseExpression) -> tuple[str, str, bool] | None:
    """Return the exponent of a masked exponential, its mask, and whether that is a condition."""
    code = source.syntax.code
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply):
        for part, mask in ((node.left, node.right), (node.right, node.left)):
            power = exponent_of(source, part)
            if power is not None:
                return power, in_parentheses(source, mask), False
    if isinstance(node, cst.Call) and source.called(node) == "where" and len(node.args) == 3:
        mask, part, rest = (argument.value for argument in node.args)
        power = exponent_of(source, part) if number(rest) == 0 else None
        return None if power is None else (in_parentheses(source, power), code(mask), True)
    return None
