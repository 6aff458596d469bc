"""The call in a layer of the user's own that makes a weight."""

import ast
import inspect
import linecache
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeGuard

from nanfix.model.user_code import is_users
from nanfix.records.source_places import Made, Span

if TYPE_CHECKING:
    import keras

    from nanfix.source.creation_sites import Places

MAKERS = ("add_weight", "add_variable")


def made_by(places: "Places", layer: "keras.Layer", weight: str) -> Made | None:
    """Return the call that makes the weight of this name in the code of a layer's class: that with
    the name, or assigned to the attribute that holds it. None where that is not one call of the
    user's own code, and where the call is given a constraint already.
    """
    kind = type(layer)
    try:
        path = inspect.getsourcefile(kind) or ""
        tree = ast.parse("".join(linecache.getlines(path)))
    except (OSError, TypeError, SyntaxError):
        return None
    owners = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    ]
    if not is_users(path) or len(owners) != 1:
        return None
    found = set(_makers(owners[0], layer, weight))
    if len(found) != 1:
        return None
    (call,) = found
    if any(keyword.arg in ("constraint", None) for keyword in call.keywords):
        return None
    end_line, end_column = call.end_lineno or call.lineno, call.end_col_offset or 0
    place = Span(
        file=places.relative(path),
        line=call.lineno,
        column=call.col_offset,
        end_line=end_line,
        end_column=end_column,
    )
    return Made(place=place, callee=call.func.attr if isinstance(call.func, ast.Attribute) else "")


def _makers(owner: ast.ClassDef, layer: "keras.Layer", weight: str) -> Iterator[ast.Call]:
    """Yield the calls that make the weight, once for each way to know that."""
    for node in ast.walk(owner):
        if isinstance(node, ast.Assign) and _is_maker(node.value):
            for target in node.targets:
                held = isinstance(target, ast.Attribute) and getattr(layer, target.attr, None)
                if getattr(held, "name", None) == weight:
                    yield node.value
        if _is_maker(node) and any(
            keyword.arg == "name"
            and isinstance(keyword.value, ast.Constant)
            and keyword.value.value == weight
            for keyword in node.keywords
        ):
            yield node


def _is_maker(node: ast.AST) -> TypeGuard[ast.Call]:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in MAKERS
    )
