"""Write a guarded operation into the source: `tf.math.log(p)` becomes
`tf.math.log(tf.maximum(p, 1e-07))`, on that line alone.
"""

import re
from collections.abc import Callable
from typing import Any

import libcst as cst

from nanfix.patch._constants import write_constants
from nanfix.patch._differences import write_differences
from nanfix.patch._logarithms import write_logarithms
from nanfix.patch._operands import Operand, computes, guarded, infinity
from nanfix.patch._package import is_tensorflow, of_tensorflow
from nanfix.patch._shared_lines import Alike
from nanfix.patch._shares import write_shares
from nanfix.patch._source_files import Files, Source
from nanfix.records.domains import FINITE, Domain, Given, Helper, greatest
from nanfix.records.errors import NoPlaceError
from nanfix.records.source_changes import GuardChange
from nanfix.records.unsafe_operations import (
    CONSTANT,
    DIFFERENCES,
    LOG_OF_EXPONENTIALS,
    SHARES_OF_EXPONENTIALS,
    UNSAFE_OPERATIONS,
)

BINARY: dict[type[cst.BaseAugOp], type[cst.BaseBinaryOp]] = {
    cst.DivideAssign: cst.Divide,
    cst.ModuloAssign: cst.Modulo,
    cst.PowerAssign: cst.Power,
    cst.MultiplyAssign: cst.Multiply,
}
# What an operator would tear apart where it stands in no parentheses.
COMPOUND = (
    cst.BinaryOperation
    | cst.UnaryOperation
    | cst.BooleanOperation
    | cst.Comparison
    | cst.IfExp
    | cst.Lambda
)
OPS = re.compile(r"\bops\.(\w+)")
# Functions that end with a root, and what they take it of, by whether they are TensorFlow's.
DEVIATIONS = {("reduce_std", True): "tf.math.reduce_variance", ("std", False): "keras.ops.var"}
SUMS = {True: "tf.reduce_sum", False: "keras.ops.sum"}
# What is not just kept inside a domain.
FORMULAS: dict[str, Callable[[Source, GuardChange], None]] = {
    CONSTANT: write_constants,
    DIFFERENCES: write_differences,
    LOG_OF_EXPONENTIALS: write_logarithms,
    SHARES_OF_EXPONENTIALS: write_shares,
}


class _Package:
    """The functions that the guarded operand is computed with: TensorFlow's or Keras' own, as the
    operation itself is.
    """

    def __init__(self, source: Source, tensorflow: bool):
        self._source, self._tensorflow = source, tensorflow
        self._package = "tf" if tensorflow else "keras.ops"

    def name(self, function: str) -> str:
        if self._tensorflow:
            return self._source.written(f"tf.{'clip_by_value' if function == 'clip' else function}")
        return self._source.written(f"keras.ops.{function}")

    def define(self, helper: Helper) -> None:
        """Put the definition of a helper into the source, computed with these functions."""
        reduce = "reduce_" if self._tensorflow else ""
        self._source.define(helper.code.format(package=self._package, reduce=reduce))

    def kept(self, domain: Domain, epsilon: float, half: bool) -> str:
        """Return what keeps an operand `{x}` in a domain, after a definition of what it calls."""
        text, helper = domain.source(epsilon, half)
        if helper is not None:
            self.define(helper)
        if self._tensorflow:  # its functions take numbers of Python's as they are
            text = text.replace("ops.convert_to_tensor({x})", "{x}")
        return OPS.sub(lambda found: self.name(found[1]), text)


def guard_operation(files: Files, change: GuardChange, alike: Alike) -> None:
    """Plan the guard of every such operation on the line, and on those of its function that compute
    the same of other variables; there is no harm in it for others that come to that line.

    Raises:
        NoPlaceError: no call on the line is known to compute it.
    """
    source = files.source(change.file)
    if change.operation in FORMULAS:
        FORMULAS[change.operation](source, change)
        return
    for line in source.syntax.lines_alike(source.line(change.file, change.line)):
        _guard_line(source, line, change)


def _guard_line(source: Source, line: int, change: GuardChange) -> None:
    operation = UNSAFE_OPERATIONS.get(change.operation)
    nodes = (
        []
        if operation is None
        else [
            node
            for node in source.syntax.within(source.syntax.module)
            if computes(source, node, operation)
        ]
    )
    nodes = [node for node in nodes if line in source.syntax.lines(node)]
    nodes = [node for node in nodes if source.syntax.start(node)[0] == line] or nodes
    if operation is not None and not nodes and _guard_root_inside(source, line, change):
        return
    if operation is None or not nodes:
        raise NoPlaceError(
            f"line {change.line} has no call that is known to compute {change.operation}"
        )
    operands = guarded(source, nodes, operation, _given(change))
    if not operands:
        raise NoPlaceError(
            f"what {change.operation} takes in line {change.line} is in its domain as it is written"
        )
    for node in nodes:
        of_node = [each for each in operands if each.node is node]
        if of_node and operation.instead is not None and isinstance(node, cst.Call):
            _call(source, node, of_node[0], operation.instead)
        elif of_node and not change.epsilon and operation.at_zero is not None:
            _divide_no_nan(source, node)
        else:
            _write(source, node, of_node, change)


def _given(change: GuardChange) -> dict[str, str]:
    """Return by its text what each operand was, in all steps that failed."""
    given: dict[str, str] = {}
    for text, what in change.given:
        given[text] = what if given.get(text, what) == what else Given.MIXED
    return given


def _call(source: Source, node: cst.Call, operand: Operand, instead: Helper) -> None:
    """Plan to call another function with the same arguments, the operand first of them."""
    package = _Package(source, is_tensorflow(source, node))
    package.define(instead)
    place = next(i for i, argument in enumerate(node.args) if argument.value is operand.value)

    def called(updated: Any) -> cst.CSTNode:
        plain = cst.MaybeSentinel.DEFAULT
        given = [argument.with_changes(comma=plain) for argument in updated.args]
        first = given.pop(place).with_changes(keyword=None, equal=plain)
        return updated.with_changes(func=cst.Name(instead.call), args=[first, *given])

    source.change(node, called)


def _divide_no_nan(source: Source, node: Any) -> None:
    """Plan a division that is 0 where it is one by 0, and so is its gradient."""
    tensorflow = is_tensorflow(source, node)
    function = source.expression(f"{'tf.math' if tensorflow else 'keras.ops'}.divide_no_nan")

    def divided(updated: Any) -> cst.CSTNode:
        if isinstance(updated, cst.Call):
            return updated.with_changes(func=function)
        augmented = isinstance(updated, cst.AugAssign)
        parts = (updated.target, updated.value) if augmented else (updated.left, updated.right)
        given = ", ".join(_bare(source, each) for each in parts)
        quotient = cst.parse_expression(f"{source.syntax.code(function)}({given})")
        return cst.Assign([cst.AssignTarget(updated.target)], quotient) if augmented else quotient

    source.change(node, divided)


def _write(source: Source, node: Any, operands: list[Operand], change: GuardChange) -> None:
    """Plan to keep these operands of an operation in their domains."""
    package = _Package(source, is_tensorflow(source, node))
    for operand in operands:
        text = _great_number(operand.value, change) if operand.domain is FINITE else ""
        text = text or package.kept(operand.domain, change.epsilon, change.half)

        def kept(updated: Any, text: str = text, each: Operand = operand) -> cst.BaseExpression:
            exponent = "" if each.exponent is None else _bare(source, each.exponent)
            return cst.parse_expression(text.format(x=_bare(source, updated), y=exponent))

        if isinstance(node, cst.AugAssign) and operand.value is node.target:
            source.change(node, lambda updated, kept=kept: _written_out(updated, kept))
        else:
            source.change(operand.value, kept)


def _great_number(factor: cst.BaseExpression, change: GuardChange) -> str:
    """Return a great number for an infinity that a factor names; empty where it names none."""
    sign, great = infinity(factor), greatest(change.epsilon, change.half)
    return f"{sign * great:g}".replace("e+0", "e") if sign else ""


def _written_out(
    updated: cst.AugAssign, kept: Callable[[cst.BaseExpression], cst.BaseExpression]
) -> cst.Assign:
    """Return `x *= y` as `x = kept(x) * y`."""
    value = updated.value
    if isinstance(value, COMPOUND) and not value.lpar:
        value = value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    product = cst.BinaryOperation(kept(updated.target), BINARY[type(updated.operator)](), value)
    return cst.Assign([cst.AssignTarget(updated.target)], product)


def _guard_root_inside(source: Source, line: int, change: GuardChange) -> bool:
    """Plan to write out the functions on the line that end with a root, a deviation or a norm, with
    that root guarded; return whether there are any.
    """
    calls = [
        node
        for node in source.syntax.within(source.syntax.module)
        if change.operation == "Sqrt"
        and isinstance(node, cst.Call)
        and source.syntax.start(node)[0] == line
        and _radicand(source, node, node) is not None
    ]
    for call in calls:
        package = _Package(source, is_tensorflow(source, call))
        kept = package.kept(UNSAFE_OPERATIONS["Sqrt"].domain, change.epsilon, change.half)
        root = f"{package.name('sqrt')}({kept})"
        source.change(
            call,
            lambda updated, call=call, root=root: cst.parse_expression(
                root.format(x=_radicand(source, call, updated))
            ),
        )
    return bool(calls)


def _radicand(source: Source, call: cst.Call, updated: cst.Call) -> str | None:
    """Return what a call takes the root of at its end, written out with the arguments of
    `updated`; None where it is not known to do so.
    """
    tensorflow, name = of_tensorflow(source, call.func), source.called(call)
    if not tensorflow and not source.package(call.func).startswith(("keras.", "tensorflow.keras.")):
        return None  # of numpy, say
    if (name, tensorflow) in DEVIATIONS:
        function = source.expression(DEVIATIONS[name, tensorflow])
        return source.syntax.code(updated.with_changes(func=function))
    others = [argument.keyword.value if argument.keyword else None for argument in call.args[1:]]
    if name != "norm" or not call.args or not {*others} <= {"axis", "keepdims"}:
        return None
    square = f"{_Package(source, tensorflow).name('square')}({{}})"
    first = square.format(_bare(source, updated.args[0].value))
    args = [updated.args[0].with_changes(value=cst.parse_expression(first)), *updated.args[1:]]
    function = source.expression(SUMS[tensorflow])
    return source.syntax.code(updated.with_changes(func=function, args=args))


def _bare(source: Source, node: cst.BaseExpression) -> str:
    """Return an expression without the parentheses round it; the function that is put
    there has its own.
    """
    return source.syntax.code(node.with_changes(lpar=(), rpar=()))
