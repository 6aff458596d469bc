"""How the operands of an operation are written in the user's source. Loads nothing but the standard
library.
"""

import ast
import linecache
from collections.abc import Mapping, Sequence
from types import CodeType
from typing import Any

from nanfix.model.user_code import span
from nanfix.records.unsafe_operations import UnsafeOperation

OPERATORS: Mapping[str, type[ast.operator]] = {
    "/": ast.Div,
    "%": ast.Mod,
    "**": ast.Pow,
    "*": ast.Mult,
}


def operands(code: CodeType, instruction: int, operation: UnsafeOperation) -> tuple[str, ...]:
    """Return the operands of an operation as the instruction that computes it has them in its
    source, in the order of the operation; none where the instruction does not write it itself.
    """
    node = _expression(code, instruction)
    found: Sequence[ast.expr | None] = ()
    if isinstance(node, ast.BinOp | ast.AugAssign):
        if isinstance(node.op, OPERATORS.get(operation.operator or "", ())):
            binary = isinstance(node, ast.BinOp)
            found = (node.left, node.right) if binary else (node.target, node.value)
    elif isinstance(node, ast.Call) and _name(node.func) in operation.functions:
        given = [(None, each) for each in node.args]
        given += [(each.arg, each.value) for each in node.keywords]
        count = len(operation.parameters)
        found = [operation.argument(given, position) for position in range(count)]
    return tuple(ast.unparse(each) for each in found if each is not None)


def as_written(text: str) -> str:
    """Return an expression in the form in which `operands` returns it."""
    return ast.unparse(ast.parse(f"({text})", mode="eval"))


def _expression(code: CodeType, instruction: int) -> ast.AST | None:
    """Return what an instruction computes, as an expression or statement."""
    place = span(code, instruction)
    if place is None:
        return None
    line, column, end_line, end_column = place
    lines = [
        linecache.getline(code.co_filename, number).encode() for number in range(line, end_line + 1)
    ]
    lines[-1] = lines[-1][:end_column]
    lines[0] = lines[0][column:]
    text = b"".join(lines).decode(errors="replace")
    for form in (f"({text}\n)", text):  # inside brackets a line may end anywhere
        try:
            return _first(ast.parse(form))
        except SyntaxError:
            continue
    return None


def _first(module: ast.Module) -> ast.AST | None:
    statement: Any = module.body[0] if module.body else None
    return statement.value if isinstance(statement, ast.Expr) else statement


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
