"""Makes another optimizer in the place of the one that a script trains with."""

from typing import Any

import libcst as cst

from nanfix.patch._formatting import argument, with_argument
from nanfix.patch._shared_lines import Alike, alone, only
from nanfix.patch._source_files import Files, Source
from nanfix.records.errors import NoPlaceError
from nanfix.records.source_changes import OptimizerChange

# Functions of Keras that give an optimizer made of a description.
GIVING = ("keras.optimizers.get", "keras.optimizers.deserialize")
SHARED = "other lines may use the optimizer that compile is given, so no other can take its place"


def replace_optimizer(files: Files, change: OptimizerChange, alike: Alike, new: str) -> None:
    """Plan to make the optimizer `new` where the script makes the old one; where others have that
    too, where `compile` is given it.

    Raises:
        NoPlaceError: something else uses it, or neither call is in the script.
    """
    made = _where_it_is_made(files, change, alike)
    if made is not None:
        _exchange(*made, new)
        return
    if change.compiled is None:
        if change.target is not None:
            only(files, change.target, alike)  # says why not there
        raise NoPlaceError("the call of compile is not in the script's own code")
    source, call = only(files, change.compiled, alike)
    given = argument(call, "optimizer", 0)
    by_compile = change.target is not None and change.target.place == change.compiled.place
    if given is None or by_compile or _is_made_there(given.value):
        _give(source, call, new)
    elif isinstance(given.value, cst.Name):
        _of_name(source, call, given.value, new)
    else:
        raise NoPlaceError(SHARED)


def _where_it_is_made(
    files: Files, change: OptimizerChange, alike: Alike
) -> tuple[Source, cst.Call] | None:
    """Return the call that makes the optimizer, if the script has it and it makes no other."""
    known = alone(files, change.target, alike)
    if known is not None or change.target is None or not alike(change.target):
        return known
    try:
        source = files.source(change.target.place.file)
    except NoPlaceError:
        return None
    call = source.at(change.target)
    return (source, call) if call is not None and _gives_an_optimizer(source, call) else None


def _gives_an_optimizer(source: Source, call: cst.Call) -> bool:
    """Say whether a call that has made an optimizer gives just that: of a class that is looked up,
    or of a description.
    """
    function = call.func
    if isinstance(function, cst.Subscript):
        return True
    if isinstance(function, cst.Call):
        return source.called(function) == "getattr"
    full = source.package(function).removeprefix("tensorflow.")
    return full in GIVING or source.called(call) == "from_config"


def _is_made_there(value: cst.BaseExpression) -> bool:
    """Say whether an expression makes a new optimizer, or names one for Keras to make."""
    if isinstance(value, cst.IfExp):
        return _is_made_there(value.body) and _is_made_there(value.orelse)
    return isinstance(value, cst.Call | cst.SimpleString | cst.Dict)


def _of_name(source: Source, call: cst.Call, given: cst.Name, new: str) -> None:
    """Plan the new optimizer where the variable that compile is given gets its value, or in its
    place where it is a parameter. Raises NoPlaceError where it is used for more.
    """
    scope = source.syntax.scope(call)
    others = [
        node
        for node in source.syntax.within(scope)
        if isinstance(node, cst.Name)
        and node.value == given.value
        and node is not given
        and not _is_label(source, node)
    ]
    parent: Any = source.syntax.parent(others[0]) if len(others) == 1 else None
    if isinstance(parent, cst.Param) and isinstance(scope, cst.FunctionDef):
        return _give(source, call, new)
    statement: Any = source.syntax.parent(parent) if isinstance(parent, cst.AssignTarget) else None
    if not isinstance(statement, cst.Assign) or len(statement.targets) != 1:
        raise NoPlaceError(SHARED)
    if not _is_made_there(statement.value):
        raise NoPlaceError(SHARED)
    _exchange(source, statement.value, new)


def _is_label(source: Source, node: cst.Name) -> bool:
    """Say whether a name is that of an attribute or an argument, and no variable."""
    parent = source.syntax.parent(node)
    attribute = isinstance(parent, cst.Attribute) and parent.attr is node
    return attribute or (isinstance(parent, cst.Arg) and parent.keyword is node)


def _exchange(source: Source, old: cst.BaseExpression, new: str) -> None:
    value = source.expression(new)
    source.change(old, lambda updated: value.with_changes(lpar=updated.lpar, rpar=updated.rpar))


def _give(source: Source, call: cst.Call, new: str) -> None:
    value = source.expression(new)
    source.change(call, lambda updated: with_argument(updated, "optimizer", value, 0))
