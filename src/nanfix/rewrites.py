"""One function for each kind of change of the source: where it goes in a file and what it puts there."""

from collections.abc import Callable
from typing import Any

import libcst as cst

from nanfix.guarding import guard_operation
from nanfix.rewriting import NoPlaceError, Source, argument, with_argument
from nanfix.source import (
    ArgumentChange,
    Band,
    CallChange,
    GuardChange,
    LayerChange,
    LossChange,
    Made,
    OptimizerChange,
    RowsChange,
    SourceChange,
)

Alike = Callable[[Made], bool]  # whether all that a call makes is changed alike
MODELS = ("Model", "Functional")
SHAPES = ("input_shape", "input_dim")
FIT = {"x": 0, "y": 1, "sample_weight": 10}


def plan(source: Source, change: SourceChange, alike: Alike) -> None:
    """Plan one change in the file it belongs to.

    Raises:
        NoPlaceError: it has no place there, with the reason; nothing is planned then.
    """
    _PLANS[change.kind](source, change, alike)


def _argument(source: Source, change: ArgumentChange, alike: Alike) -> None:
    call = _only(source, change.target, alike)
    _set(source, call, {change.name: change.value}, {change.name: change.position})


def _optimizer(source: Source, change: OptimizerChange, alike: Alike) -> None:
    rest: dict[str, str | None] = dict(change.arguments)
    if change.new_class is not None or rest:
        made = _made_here(source, change, alike)
        named = None if made is not None else _named_in_compile(source, change, alike)
        if made is not None:
            if change.new_class is not None:
                _replace(source, made, _call(change.new_class, rest))
                rest = {}
            else:
                here = {name: value for name, value in rest.items() if _replaceable(made, name, change.positions.get(name))}
                later = {name: value for name, value in rest.items() if name not in here}
                if later:
                    _before_fit(source, change, later, alike)
                _set(source, made, here, dict(change.positions))
        elif named is not None:
            _set(source, named, {"optimizer": _call(change.new_class or change.name, rest)}, {"optimizer": 0})
        elif change.new_class is None:
            _before_fit(source, change, rest, alike)
        else:
            raise NoPlaceError("the optimizer is made elsewhere, so its class cannot be changed here")
    if change.loss_scale is not None:
        _wrap_optimizer(source, change, alike)


def _made_here(source: Source, change: OptimizerChange, alike: Alike) -> cst.Call | None:
    """Return the call that makes the optimizer, if it makes no other."""
    if change.target is None or not alike(change.target):
        return None
    try:
        return source.call(change.target)
    except NoPlaceError:
        return None


def _named_in_compile(source: Source, change: OptimizerChange, alike: Alike) -> cst.Call | None:
    """Return the call of compile, if it names the optimizer, or leaves it to Keras, for no other model."""
    if change.compiled is None or not alike(change.compiled):
        return None
    call = source.call(change.compiled)
    given = argument(call, "optimizer", 0)
    return call if given is None or isinstance(given.value, cst.SimpleString) else None


def _replaceable(call: cst.Call, name: str, position: int | None) -> bool:
    """Say whether an argument is absent or a plain number; one that the script computes is set elsewhere."""
    given = argument(call, name, position)
    return given is None or not _computed(given.value)


def _computed(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Name | cst.Attribute | cst.Call | cst.Subscript) or any(map(_computed, node.children))


def _before_fit(source: Source, change: OptimizerChange, values: dict[str, str | None], alike: Alike) -> None:
    if change.fit is None:
        raise NoPlaceError("neither the optimizer nor fit stands in the script's own code")
    call = _only(source, change.fit, alike)
    model = _receiver(source, call)
    optimizer = f"{model}.optimizer.inner_optimizer" if change.inner else f"{model}.optimizer"
    lines = [f"{optimizer}.{name} = {'None' if value is None else source.written(value)}" for name, value in values.items()]
    source.insert(source.statement(call), "before", lines)


def _receiver(source: Source, call: cst.Call) -> str:
    """Return the expression that a method is called on, where it can be written again."""
    owner = call.func.value if isinstance(call.func, cst.Attribute) else None
    if owner is None or any(isinstance(node, cst.Call) for node in source.within(owner)):
        raise NoPlaceError("the model has no name where it is trained")
    return source.code(owner)


def _wrap_optimizer(source: Source, change: OptimizerChange, alike: Alike) -> None:
    if change.compiled is None:
        raise NoPlaceError("the call of compile is not in the script's own code")
    call = _only(source, change.compiled, alike)
    given = argument(call, "optimizer", 0)
    if given is None:
        raise NoPlaceError("compile is given no optimizer")
    scaled = f"keras.optimizers.LossScaleOptimizer(OPTIMIZER, initial_scale={change.loss_scale:g})"
    wrapped = source.expression(scaled)
    by_name = isinstance(given.value, cst.SimpleString)
    named = source.expression(f"keras.optimizers.get({source.code(given.value)})") if by_name else None

    def wrap(updated: cst.Call) -> cst.Call:
        inner = argument(updated, "optimizer", 0)
        assert inner is not None and isinstance(wrapped, cst.Call), "it was there before"
        optimizer = named if named is not None and isinstance(inner.value, cst.SimpleString) else inner.value
        first, *others = wrapped.args
        return with_argument(updated, "optimizer", wrapped.with_changes(args=[first.with_changes(value=optimizer), *others]), 0)

    source.change(call, wrap)


def _loss(source: Source, change: LossChange, alike: Alike) -> None:
    call = _only(source, change.compiled, alike)
    if change.weight is not None and argument(call, "loss_weights", 2) is not None:
        raise NoPlaceError("compile is given loss_weights already")
    _set(source, call, {"loss": change.loss, "loss_weights": change.weight}, {"loss": 1, "loss_weights": 2}, keep_none=True)


def _layer(source: Source, change: LayerChange, alike: Alike) -> None:
    if change.target is not None:
        try:
            return _beside(source, _only(source, change.target, alike), change)
        except NoPlaceError:
            if change.otherwise is None:
                raise
    assert change.otherwise is not None, "one of the two is known"
    _beside(source, _only(source, change.otherwise, alike), change.model_copy(update={"side": "before"}))


def _beside(source: Source, call: cst.Call, change: LayerChange) -> None:
    """Put the layer beside what `call` makes: in a list, by a call of `add`, or in a graph of tensors."""
    parent = source.parent(call)
    if isinstance(parent, cst.Element) and isinstance(source.parent(parent), cst.List | cst.Tuple):
        return _in_list(source, call, parent, change)
    if isinstance(parent, cst.Call) and parent.func is call:
        return _on_tensor(source, parent, change)
    if isinstance(parent, cst.Arg):
        outer = source.parent(parent)
        if source.called(outer) in ("add", "append") and isinstance(source.parent(outer), cst.Expr):
            return _by_add(source, call, outer, change)
    if isinstance(parent, cst.Assign) and change.side == "after" and change.role == "scaled":
        return _behind_input(source, call, parent, change)
    raise NoPlaceError(f"{source.called(call)} stands neither in a list of layers nor in a call of add, nor is it called there")


def _in_list(source: Source, call: cst.Call, element: cst.CSTNode, change: LayerChange) -> None:
    new = _new_layers(source, change)
    if change.side == "before":
        new = [*_taken_shape(source, call), *new]
    source.insert_elements(element, change.side, new)


def _by_add(source: Source, call: cst.Call, outer: Any, change: LayerChange) -> None:
    new = _new_layers(source, change)
    if change.side == "before":
        new = [*_taken_shape(source, call), *new]
    lines = [f"{source.code(outer.func)}({source.code(layer)})" for layer in new]
    source.insert(source.statement(outer), change.side, lines)


def _new_layers(source: Source, change: LayerChange | CallChange) -> list[cst.BaseExpression]:
    """Return the new layers as this file writes them; the vectors and the class they need are defined in it."""
    layers = change.layers if isinstance(change, LayerChange) else change.inputs
    vectors = source.vectors(change.numbers)
    if change.definition is not None:
        source.define(source.localized(change.definition))
    return [source.expression(layer, vectors) for layer in layers]


def _through(layers: list[cst.BaseExpression], value: cst.BaseExpression) -> cst.BaseExpression:
    """Return the expression of a value that goes through one layer after the other."""
    for layer in layers:
        value = cst.Call(layer, [cst.Arg(value)])
    return value


def _taken_shape(source: Source, call: cst.Call) -> list[cst.BaseExpression]:
    """Take the input's shape away from the first layer and return the Input of that shape, if the layer has one."""
    given = next((each for each in call.args if each.keyword is not None and each.keyword.value in SHAPES), None)
    if given is None or given.keyword is None:
        return []
    name, value = given.keyword.value, source.code(given.value)
    source.change(call, lambda updated: with_argument(updated, name, None))
    return [source.expression(f"keras.Input(shape={value if name == 'input_shape' else f'({value},)'})")]


def _on_tensor(source: Source, outer: cst.Call, change: LayerChange) -> None:
    """Let `Dense(1)(x)` be `Rescaling(...)(Dense(1)(x))`, or `Dense(8)(LayerNormalization()(x))`."""
    new = _new_layers(source, change)
    if change.side == "after":
        source.change(outer, lambda updated: _through(new, updated))
        return
    if not outer.args or outer.args[0].star:
        raise NoPlaceError("what goes into the layer is not written there")

    def before(updated: cst.Call) -> cst.Call:
        first, *others = updated.args
        return updated.with_changes(args=[first.with_changes(value=_through(new, first.value)), *others])

    source.change(outer, before)


def _behind_input(source: Source, call: cst.Call, assignment: cst.Assign, change: LayerChange) -> None:
    """Let all that is computed from the tensor `inputs = keras.Input(...)` be computed from the scaled one."""
    target = assignment.targets[0].target
    if len(assignment.targets) != 1 or not isinstance(target, cst.Name):
        raise NoPlaceError("the input tensor has no name of its own")
    scope, name = source.scope(call), target.value
    model = source.call_at(change.model) if change.model is not None else None
    named = [node for node in source.within(scope) if isinstance(node, cst.Name) and node.value == name]
    uses = [node for node in named if source.start(node) > source.start(call) and _is_use(source, node, model)]
    if not uses:
        raise NoPlaceError("nothing is computed from the input where it is made")
    statement = source.statement(call)
    scaled = source.unused(f"scaled_{name}")
    source.insert(statement, "after", [f"{scaled} = {source.code(_through(_new_layers(source, change), cst.Name(name)))}"])
    for node in uses:
        source.change(node, lambda updated: updated.with_changes(value=scaled))


def _is_use(source: Source, node: cst.Name, model: cst.Call | None) -> bool:
    """Say whether a name stands for its value, and not as an end of the model that is made of the graph."""
    parent = source.parent(node)
    if isinstance(parent, cst.AssignTarget) or (isinstance(parent, cst.Attribute) and parent.attr is node):
        return False
    if isinstance(parent, cst.Arg) and parent.keyword is node:
        return False
    innermost = next((outer for outer in source.ancestors(node) if isinstance(outer, cst.Call)), None)
    return innermost is None or (innermost is not model and source.called(innermost) not in MODELS)


def _own_call(source: Source, change: CallChange, alike: Alike) -> None:
    function = next((n for n in source.within(source.module) if isinstance(n, cst.FunctionDef) and n.name.value == "call"
                     and change.line in _head(source, n)), None)  # fmt: skip
    owner = None if function is None else next((o for o in source.ancestors(function) if isinstance(o, cst.ClassDef)), None)
    if function is None or owner is None:
        raise NoPlaceError(f"no call is defined in line {change.line}")
    if not alike(change.target):
        raise NoPlaceError(f"other models are made of {change.target.callee} too")
    if change.inputs:
        if len(function.params.params) < 2:
            raise NoPlaceError("call takes no named inputs")
        init = next((n for n in _block(owner).body if isinstance(n, cst.FunctionDef) and n.name.value == "__init__"), None)
        if init is None:
            raise NoPlaceError(f"{owner.name.value} has no __init__ to make a layer in")
        given, itself = function.params.params[1].name.value, function.params.params[0].name.value
        made, layers = f"{init.params.params[0].name.value}.scale_inputs", list(map(source.code, _new_layers(source, change)))
        layer = layers[0] if len(layers) == 1 else f"{source.written('keras.Sequential')}([{', '.join(layers)}])"
        source.insert(_block(init).body[-1], "after", [f"{made} = {layer}"])
        source.insert(_first(function), "before", [f"{given} = {itself}.scale_inputs({given})"])
    if change.outputs is not None:
        returns = [n for n in source.within(function) if isinstance(n, cst.Return) and source.scope(n) is function]
        scale, center = change.outputs
        for each in returns:
            source.change(each, lambda updated: updated.with_changes(value=_rescaled(updated.value, scale, center)))


def _rescaled(value: Any, scale: float, center: float) -> cst.BaseExpression:
    inner = value if value.lpar or isinstance(value, cst.Name | cst.Call | cst.Attribute) else _parenthesized(value)
    product = cst.BinaryOperation(cst.parse_expression(f"{scale:.7g}"), cst.Multiply(), inner)
    sign, size = (cst.Subtract(), -center) if center < 0 else (cst.Add(), center)
    return cst.BinaryOperation(product, sign, cst.parse_expression(f"{size:.7g}"))


def _parenthesized(value: Any) -> Any:
    return value.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def _head(source: Source, function: cst.FunctionDef) -> range:
    """Return the lines from the decorators of a function to the one in front of its first statement."""
    lines = source.lines(function)
    decorators = [source.lines(decorator).start for decorator in function.decorators]
    return range(min([lines.start, *decorators]), source.lines(_block(function).body[0]).start + 1)


def _block(owner: cst.FunctionDef | cst.ClassDef) -> cst.IndentedBlock:
    if not isinstance(owner.body, cst.IndentedBlock):
        raise NoPlaceError(f"{owner.name.value} is written on one line")
    return owner.body


def _first(function: cst.FunctionDef) -> cst.CSTNode:
    """Return the first statement behind the docstring."""
    body = _block(function).body
    return body[1] if function.get_docstring() is not None and len(body) > 1 else body[0]


def _guard(source: Source, change: GuardChange, alike: Alike) -> None:
    guard_operation(source, change)


def _rows(source: Source, change: RowsChange, alike: Alike) -> None:
    call = _only(source, change.fit, alike)
    statement = source.statement(call)
    given = {name: argument(call, name, position) for name, position in FIT.items()}
    held = argument(call, "validation_data", 7)
    weights = argument(call, "class_weight", 9) if change.renumber else None
    if given["x"] is None:
        raise NoPlaceError("fit is given no x")
    lines: list[str] = []
    named = {name: _name_for(source, lines, name, each.value) for name, each in given.items() if each is not None}
    new = _cleaned(source, change, named, lines, "keep")
    if change.batch_rows is not None:
        new = _whole(source, change.batch_rows, {**named, **new}, lines)
    if held is not None:
        parts = _held_parts(source, lines, held.value, change.held)
        kept = change.model_copy(update={"batch_rows": None})
        cleaned = _cleaned(source, kept, dict(zip(FIT, parts, strict=False)), lines, "keep_held")
        new["validation_data"] = f"({', '.join(cleaned.get(name, part) for name, part in zip(FIT, parts, strict=False))})"
    if weights is not None:
        new["class_weight"] = _renumbered(source, weights.value, change.first_label)
    source.insert(statement, "before", lines)
    values = {name: cst.parse_expression(value) for name, value in new.items()}
    positions = {**FIT, "validation_data": 7, "class_weight": 9}

    def fed(updated: cst.Call) -> cst.Call:
        for name, value in values.items():
            updated = with_argument(updated, name, value, positions[name])
        return updated

    source.change(call, fed)


def _name_for(source: Source, lines: list[str], name: str, value: cst.BaseExpression) -> str:
    """Return the name of what fit is given, one of its own made for an expression."""
    if isinstance(value, cst.Name):
        return value.value
    made = source.unused({"x": "inputs", "y": "targets", "sample_weight": "weights"}[name])
    lines.append(f"{made} = {source.code(value)}")
    return made


def _renumbered(source: Source, weights: cst.BaseExpression, first_label: int) -> str:
    """Return class weights, as source, for labels counted from 0."""
    elements = weights.elements if isinstance(weights, cst.Dict) else ()
    written = [(e.key, e.value) for e in elements if isinstance(e, cst.DictElement) and isinstance(e.key, cst.Integer)]
    if elements and len(written) == len(elements):
        told = [f"{key.evaluated_value - first_label}: {source.code(value)}" for key, value in written]
        return f"{{{', '.join(told)}}}"
    return f"{{label - {first_label}: weight for label, weight in {source.code(weights)}.items()}}"


def _held_parts(source: Source, lines: list[str], value: cst.BaseExpression, count: int) -> list[str]:
    """Return the expressions of the validation data, a tuple of that many arrays."""
    if isinstance(value, cst.Tuple) and not any(isinstance(each, cst.StarredElement) for each in value.elements):
        return [source.code(each.value) for each in value.elements]
    made = value.value if isinstance(value, cst.Name) else source.unused("held")
    if not isinstance(value, cst.Name):
        lines.append(f"{made} = {source.code(value)}")
    return [f"{made}[{index}]" for index in range(count)]


def _cleaned(source: Source, change: RowsChange, named: dict[str, str], lines: list[str], keep: str) -> dict[str, str]:
    """Return what fit is to be given instead; what has to be computed before is added to `lines`."""
    finite = "np.isfinite(np.reshape({0}, (len({0}), -1))).all(axis=1)"
    checks = [finite.format(named[name]) for name in change.finite if name in named]
    checks += [_inside(source, band, named[band.part]) for band in change.bands if band.part in named]
    if change.classes is not None and "y" in named:
        labels = f"np.ravel({named['y']})"
        checks.append(f"({labels} >= 0) & ({labels} < {change.classes})")
    new: dict[str, str] = {}
    if checks:
        mask = source.unused(keep)
        first, *others = map(source.written, checks)
        lines += [f"{mask} = {first}", *(f"{mask} &= {check}" for check in others)]
        new = {name: f"{value}[{mask}]" for name, value in named.items()}
    if change.fill is not None:
        x, filled = new.get("x", named["x"]), source.unused("filled")
        values = source.written(f"np.where(np.isfinite({x}), {x}, FILL)", source.vectors({"FILL": change.fill}))
        lines.append(f"{filled} = {values}")
        new["x"] = filled
    if "y" in named and (change.first_label or change.labels):
        labels, (low, span) = new.get("y", named["y"]), change.labels or (float(change.first_label), 1.0)
        moved = f"{labels} - {low:g}" if low else labels
        new["y"] = moved if span == 1 else f"({moved}) / {span:g}" if low else f"{labels} / {span:g}"
    return new


def _inside(source: Source, band: Band, name: str) -> str:
    vectors = source.vectors({"CENTER": band.center, "SCALE": band.scale})
    inside = source.written(f"np.abs(np.asarray({name}) - CENTER) <= SCALE", vectors)
    return f"np.reshape({inside}, (len({name}), -1)).all(axis=1)"


def _whole(source: Source, rows: int, given: dict[str, str], lines: list[str]) -> dict[str, str]:
    """Return the arrays without the rows that do not fill a batch."""
    named = {name: _name_for(source, lines, name, cst.parse_expression(value)) for name, value in given.items()}
    whole = source.unused("whole")
    lines.append(f"{whole} = len({named['x']}) - len({named['x']}) % {rows}")
    return {name: f"{value}[:{whole}]" for name, value in named.items()}


def _only(source: Source, made: Made, alike: Alike) -> cst.Call:
    """Return the call at a place, all that it makes being changed alike."""
    call = source.call(made)
    if not alike(made):
        raise NoPlaceError(f"the same line is also that of others, which stay as they are: {made.place}")
    return call


def _set(source: Source, call: cst.Call, values: dict[str, str | None], positions: Any, *, keep_none: bool = False) -> None:
    """Plan arguments of a call; None takes one away, or with `keep_none` leaves it."""
    new = {n: None if v is None else source.expression(v) for n, v in values.items() if v is not None or not keep_none}
    for name in new:
        argument(call, name, positions.get(name))

    def changed(updated: cst.Call) -> cst.Call:
        for name, value in new.items():
            updated = with_argument(updated, name, value, positions.get(name))
        return updated

    source.change(call, changed)


def _replace(source: Source, call: cst.Call, text: str) -> None:
    new = source.expression(text)
    source.change(call, lambda updated: new.with_changes(lpar=updated.lpar, rpar=updated.rpar))


def _call(name: str, arguments: dict[str, str | None]) -> str:
    given = ", ".join(f"{argument}={value}" for argument, value in arguments.items() if value is not None)
    return f"keras.optimizers.{name}({given})"


_PLANS: dict[str, Callable[[Source, Any, Alike], None]] = {
    "argument": _argument,
    "optimizer": _optimizer,
    "loss": _loss,
    "layer": _layer,
    "call": _own_call,
    "guard": _guard,
    "rows": _rows,
}
