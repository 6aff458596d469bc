"""New layers in the source: in a list, by a call of `add`, in a graph of tensors, or in
the `call` of a model class.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import libcst as cst

from nanfix.patch._formatting import argument, with_argument
from nanfix.patch._functions import block, first_statement, function_at
from nanfix.patch._shared_lines import Alike, only
from nanfix.patch._source_files import Files, Source
from nanfix.patch._uses import MODELS, is_use
from nanfix.records.errors import NoPlaceError
from nanfix.records.source_changes import CallChange, CallInput, LayerChange

NO_PLACE = "stands neither in a list of layers nor in a call of add, nor is it called there"
SHAPES = ("input_shape", "input_dim")


def add_layers(files: Files, change: LayerChange, alike: Alike) -> None:
    """Plan new layers beside the one that `change` names. Raises NoPlaceError."""
    if change.target is not None:
        try:
            with files.attempt():
                return _beside(*only(files, change.target, alike), change)
        except NoPlaceError:
            if change.otherwise is None:
                raise
    assert change.otherwise is not None, "one of the two is known"
    _beside(*only(files, change.otherwise, alike), change.model_copy(update={"side": "before"}))


def _beside(source: Source, call: cst.Call, change: LayerChange) -> None:
    """Put the layer beside what `call` makes: in a list, by a call of `add`, or in a
    graph of tensors.
    """
    if change.side == "first":
        return _first_in_list(source, call, change)
    if change.side == "outputs":
        return _round_outputs(source, call, change)
    used: cst.CSTNode = call
    parent, target = source.syntax.parent(call), source.syntax.given_to(call)
    if target is not None and change.side == "after" and change.role == "scaled":
        return _behind_input(source, call, target, change)
    if target is not None:
        used = _only_use(source, call, target)
        parent = source.syntax.parent(used)
    if isinstance(parent, cst.Element) and isinstance(
        source.syntax.parent(parent), cst.List | cst.Tuple
    ):
        return _in_list(source, call, parent, change)
    if isinstance(parent, cst.Call) and parent.func is used:
        return _on_tensor(source, parent, change)
    if isinstance(parent, cst.Arg):
        outer = source.syntax.parent(parent)
        if source.called(outer) in ("add", "append") and isinstance(
            source.syntax.parent(outer), cst.Expr
        ):
            return _by_add(source, call, outer, change)
    raise NoPlaceError(f"{source.called(call)} {NO_PLACE}")


def _only_use(source: Source, call: cst.Call, target: cst.CSTNode) -> cst.CSTNode:
    """Return the one place at which a layer with a name of its own is put into the model; an
    attribute of it, as `norm.adapt`, is none.
    """
    if not isinstance(target, cst.Name):
        raise NoPlaceError(f"{source.called(call)} {NO_PLACE}")
    named = [
        node
        for node in source.syntax.within(source.syntax.scope(call))
        if isinstance(node, cst.Name) and node.value == target.value and is_use(source, node, None)
    ]
    uses = [node for node in named if not isinstance(source.syntax.parent(node), cst.Attribute)]
    if len(uses) != 1:
        raise NoPlaceError(f"{target.value} is used {len(uses)} times, which is not once")
    return uses[0]


def _in_list(source: Source, call: cst.Call, element: cst.CSTNode, change: LayerChange) -> None:
    new = _new_layers(source, change)
    if change.side == "before":
        new = [*_taken_shape(source, call), *new]
    source.insert_elements(element, change.side, new)


def _first_in_list(source: Source, call: cst.Call, change: LayerChange) -> None:
    given = argument(call, "layers", 0)
    layers = given.value if given is not None else None
    if not isinstance(layers, cst.List | cst.Tuple) or not layers.elements:
        raise NoPlaceError("the layers of the model are not listed where it is made")
    source.insert_elements(layers.elements[0], "before", _new_layers(source, change))


def _round_outputs(source: Source, call: cst.Call, change: LayerChange) -> None:
    """Let `Model(inputs, outputs)` be `Model(inputs, Activation("softplus")(outputs))`."""
    given = argument(call, "outputs", 1) if source.called(call) in MODELS else None
    if given is None:
        raise NoPlaceError("the outputs of the model are not written where it is made")
    value = given.value
    listed = isinstance(value, cst.List | cst.Tuple)
    if listed and (change.position is not None or len(value.elements) == 1):
        value = value.elements[change.position or 0].value
    elif change.position is not None:
        raise NoPlaceError("the outputs of the model are not listed where it is made")
    new = _new_layers(source, change)
    source.change(value, lambda updated: _through(new, updated))


def _by_add(source: Source, call: cst.Call, outer: Any, change: LayerChange) -> None:
    new = _new_layers(source, change)
    if change.side == "before":
        new = [*_taken_shape(source, call), *new]
    lines = [f"{source.syntax.code(outer.func)}({source.syntax.code(layer)})" for layer in new]
    source.insert(source.syntax.statement(outer), change.side, lines)


def _new_layers(source: Source, change: LayerChange | CallInput) -> list[cst.BaseExpression]:
    """Return the new layers as this file writes them; the vectors and the class they
    need are defined in it.
    """
    vectors = source.vectors(change.numbers)
    for definition in change.definitions:
        source.define(definition)
    return [source.expression(layer, vectors) for layer in change.layers]


def _through(layers: list[cst.BaseExpression], value: cst.BaseExpression) -> cst.BaseExpression:
    """Return the expression of a value that goes through one layer after the other."""
    for layer in layers:
        value = _called(layer, value)
    return value


def _called(function: cst.BaseExpression, value: cst.BaseExpression) -> cst.Call:
    """Return the call, whose parentheses take the place of those of the value."""
    if len(value.lpar) != 1 or isinstance(value, cst.Tuple):
        return cst.Call(function, [cst.Arg(value)])
    inside = cst.Arg(
        value.with_changes(lpar=[], rpar=[]), whitespace_after_arg=value.rpar[0].whitespace_before
    )
    return cst.Call(function, [inside], whitespace_before_args=value.lpar[0].whitespace_after)


def _taken_shape(source: Source, call: cst.Call) -> list[cst.BaseExpression]:
    """Take the input's shape away from the first layer and return the Input of that
    shape, if the layer has one.
    """
    given = next(
        (each for each in call.args if each.keyword is not None and each.keyword.value in SHAPES),
        None,
    )
    if given is None or given.keyword is None:
        return []
    name, value = given.keyword.value, source.syntax.code(given.value)
    source.change(call, lambda updated: with_argument(updated, name, None))
    return [
        source.expression(f"keras.Input(shape={value if name == 'input_shape' else f'({value},)'})")
    ]


def _on_tensor(source: Source, outer: cst.Call, change: LayerChange) -> None:
    """Let `Dense(1)(x)` be `Rescaling(...)(Dense(1)(x))`, or
    `Dense(8)(LayerNormalization()(x))`.
    """
    new = _new_layers(source, change)
    if change.side == "after":
        source.change(outer, lambda updated: _through(new, updated))
        return
    if not outer.args or outer.args[0].star:
        raise NoPlaceError("what goes into the layer is not written there")

    def before(updated: cst.Call) -> cst.Call:
        first, *others = updated.args
        return updated.with_changes(
            args=[first.with_changes(value=_through(new, first.value)), *others]
        )

    source.change(outer, before)


def _behind_input(source: Source, call: cst.Call, target: cst.CSTNode, change: LayerChange) -> None:
    """Let all that is computed from the tensor `inputs = keras.Input(...)` be computed
    from the scaled one.
    """
    if not isinstance(target, cst.Name):
        raise NoPlaceError("the input tensor has no name of its own")
    scope, name = source.syntax.scope(call), target.value
    model = source.at(change.model) if change.model is not None else None
    named = [
        node
        for node in source.syntax.within(scope)
        if isinstance(node, cst.Name) and node.value == name
    ]
    uses = [
        node
        for node in named
        if source.syntax.start(node) > source.syntax.start(call) and is_use(source, node, model)
    ]
    if not uses:
        raise NoPlaceError("nothing is computed from the input where it is made")
    statement = source.syntax.statement(call)
    scaled = source.unused(f"scaled_{name}")
    source.insert(
        statement,
        "after",
        [f"{scaled} = {source.syntax.code(_through(_new_layers(source, change), cst.Name(name)))}"],
    )
    for node in uses:
        source.change(node, lambda updated: updated.with_changes(value=scaled))


def change_call(files: Files, change: CallChange, alike: Alike) -> None:
    """Plan what a model class has to do in its own `call`. Raises NoPlaceError."""
    source = files.source(change.file)
    function = function_at(source, source.line(change.file, change.line), "call")
    owner = (
        None
        if function is None
        else next(
            (o for o in source.syntax.ancestors(function) if isinstance(o, cst.ClassDef)), None
        )
    )
    if function is None or owner is None:
        raise NoPlaceError(f"no call is defined in line {change.line}")
    if not alike(change.target):
        raise NoPlaceError(f"other models are made of {change.target.callee} too")
    if change.inputs:
        _scale_inputs(source, owner, function, change)
    _change_outputs(source, function, change)


def _change_outputs(source: Source, function: cst.FunctionDef, change: CallChange) -> None:
    if change.activation is not None:
        for definition in change.definitions:
            source.define(definition)

    def changed(updated: cst.Return) -> cst.Return:
        value = updated.value
        if value is not None and change.activation is not None:
            value = _through([source.expression(change.activation)], value)
        if value is not None and change.outputs is not None:
            value = _rescaled(value, *change.outputs)
        return updated.with_changes(
            value=value, whitespace_after_return=cst.SimpleWhitespace(" " if value else "")
        )

    for each in source.syntax.within(function):
        if isinstance(each, cst.Return) and source.syntax.scope(each) is function:
            source.change(each, changed)


def _scale_inputs(
    source: Source, owner: cst.ClassDef, function: cst.FunctionDef, change: CallChange
) -> None:
    if len(function.params.params) < 2:
        raise NoPlaceError("call takes no named inputs")
    itself, given = (parameter.name.value for parameter in function.params.params[:2])
    made = {each.key: _attribute(each.key) for each in change.inputs}
    layers = {made[each.key]: _one_layer(source, each) for each in change.inputs}
    _make_in_init(source, owner, function, layers)

    def scaled(key: str | int) -> str:
        value = f"{given}[{json.dumps(key)}]"
        return f"{itself}.{made[key]}({value})" if key in made else value

    if None in made:
        new = f"{itself}.{made[None]}({given})"
    elif all(isinstance(key, int) for key in made):
        new = f"({', '.join(map(scaled, range(change.count)))})"
    else:
        entries = (f"{json.dumps(key)}: {scaled(key)}" for key in made if key is not None)
        new = f"{{**{given}, {', '.join(entries)}}}"
    source.insert(first_statement(function), "before", [f"{given} = {new}"])


def _attribute(key: str | int | None) -> str:
    """Return what the layer is called that scales an input."""
    return "scale_inputs" if key is None else f"scale_{re.sub(r'[^a-zA-Z0-9_]', '_', str(key))}"


def _one_layer(source: Source, change: CallInput) -> str:
    layers = [source.syntax.code(layer) for layer in _new_layers(source, change)]
    several = f"{source.written('keras.Sequential')}([{', '.join(layers)}])"
    return layers[0] if len(layers) == 1 else several


def _make_in_init(
    source: Source, owner: cst.ClassDef, function: cst.FunctionDef, layers: Mapping[str, str]
) -> None:
    """Make layers, by the name of their attribute, in `__init__`, which a class without one gets in
    front of its `call`.
    """
    init = next(
        (
            n
            for n in block(owner).body
            if isinstance(n, cst.FunctionDef) and n.name.value == "__init__"
        ),
        None,
    )
    if init is not None:
        itself = init.params.params[0].name.value
        lines = [f"{itself}.{name} = {layer}" for name, layer in layers.items()]
        source.insert(block(init).body[-1], "after", lines)
        return
    body = "".join(f"    self.{name} = {layer}\n" for name, layer in layers.items())
    head = "def __init__(self, *args, **kwargs):\n    super().__init__(*args, **kwargs)\n"
    source.insert(function, "before", [head + body])


def _rescaled(value: cst.BaseExpression, scale: str, center: str) -> cst.BaseExpression:
    inner = (
        value
        if value.lpar or isinstance(value, cst.Name | cst.Call | cst.Attribute)
        else _parenthesized(value)
    )
    product = cst.BinaryOperation(cst.parse_expression(scale), cst.Multiply(), inner)
    below = center.startswith("-")
    size = cst.parse_expression(center.removeprefix("-"))
    return cst.BinaryOperation(product, cst.Subtract() if below else cst.Add(), size)


def _parenthesized(value: cst.BaseExpression) -> cst.BaseExpression:
    return value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
