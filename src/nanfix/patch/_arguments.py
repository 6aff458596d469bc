"""Where each kind of change goes in the source; here those of arguments: of layers, optimizers,
schedules and `compile`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import libcst as cst

from nanfix.patch._casts import cast_arguments
from nanfix.patch._formatting import argument, with_argument
from nanfix.patch._layers import add_layers, change_call
from nanfix.patch._loss_weights import weights_of_outputs
from nanfix.patch._operations import guard_operation
from nanfix.patch._replaced_optimizer import replace_optimizer
from nanfix.patch._rows import adapt_to_filled, feed_otherwise
from nanfix.patch._shared_lines import Alike, alone, only
from nanfix.patch._source_files import Files, Source
from nanfix.records.errors import NoPlaceError
from nanfix.records.loss_change import LossChange
from nanfix.records.source_changes import (
    ArgumentChange,
    ConstraintChange,
    OptimizerChange,
    SourceChange,
    WeightsChange,
)

WRAPPED = "keras.optimizers.LossScaleOptimizer({optimizer}, initial_scale={scale:g})"


def plan(files: Files, change: SourceChange, alike: Alike) -> None:
    """Plan one change in the files of a script.

    Raises:
        NoPlaceError: it has no place there, with the reason; nothing is planned then.
    """
    with files.attempt():
        _PLANS[change.kind](files, change, alike)


def _argument(files: Files, change: ArgumentChange, alike: Alike) -> None:
    source, call = only(files, change.target, alike)
    for definition in change.definitions:
        source.define(definition)
    _set(source, call, {change.name: change.value}, {change.name: change.position})


def _loss(files: Files, change: LossChange, alike: Alike) -> None:
    source, call = only(files, change.compiled, alike)
    weights = change.weight
    if weights is not None and argument(call, "loss_weights", 2) is not None:
        raise NoPlaceError("compile is given loss_weights already")
    if change.of_outputs:
        weights = weights_of_outputs(source, call, change)
    wanted = {"loss": change.loss, "loss_weights": weights}
    _set(
        source,
        call,
        {name: value for name, value in wanted.items() if value is not None},
        {"loss": 1, "loss_weights": 2},
    )


def _optimizer(files: Files, change: OptimizerChange, alike: Alike) -> None:
    if change.new_class is not None:
        replace_optimizer(files, change, alike, _call(change.new_class, change.arguments))
    elif change.arguments:
        _set_attributes(files, change, alike)
    if change.loss_scale is not None:
        _wrap(files, change, alike)


def _set_attributes(files: Files, change: OptimizerChange, alike: Alike) -> None:
    """Give the optimizer other arguments where it is made; what the script computes
    there is set in front of `fit`.
    """
    made = alone(files, change.target, alike)
    if made is None:
        if not _name_in_compile(files, change, alike, _call(change.name, change.arguments)):
            _before_fit(files, change, change.arguments, alike)
        return
    source, call = made
    given = {name: argument(call, name, change.positions.get(name)) for name in change.arguments}
    computed = {name for name, each in given.items() if each is not None and _computed(each.value)}
    _set(
        source,
        call,
        {name: value for name, value in change.arguments.items() if name not in computed},
        change.positions,
    )
    if computed:
        _before_fit(
            files,
            change,
            {name: change.arguments[name] for name in change.arguments if name in computed},
            alike,
        )


def _name_in_compile(files: Files, change: OptimizerChange, alike: Alike, new: str) -> bool:
    """Give compile an optimizer where it has the name of one, or leaves it to Keras;
    say whether that is so.
    """
    if change.compiled is None or not alike(change.compiled):
        return False
    source, call = files.call(change.compiled)
    given = argument(call, "optimizer", 0)
    if given is not None and not isinstance(given.value, cst.SimpleString):
        return False
    _set(source, call, {"optimizer": new}, {"optimizer": 0})
    return True


def _computed(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Name | cst.Attribute | cst.Call | cst.Subscript) or any(
        map(_computed, node.children)
    )


def _weights(files: Files, change: WeightsChange, alike: Alike) -> None:
    source, call = only(files, change.fit, alike)
    lines = []
    for number, (mean, deviation) in change.starts.items():
        weight = f"{_receiver(source, call)}.weights[{number}]"
        drawn = f"np.random.default_rng(0).normal({mean!r}, {deviation!r}, {weight}.shape)"
        start = drawn if deviation else repr(mean)
        finite = f"np.where(np.isfinite({weight}), {weight}, {start})"
        lines.append(f"{weight}.assign({source.written(finite)})")
    source.insert(source.syntax.statement(call), "before", lines)


def _constraints(files: Files, change: ConstraintChange, alike: Alike) -> None:
    source, call = only(files, change.fit, alike)
    lines = [
        f"{_receiver(source, call)}.weights[{number}].constraint = lambda weight: "
        f"{source.written(f'keras.ops.maximum(weight, {least!r})')}"
        for number, least in change.least.items()
    ]
    source.insert(source.syntax.statement(call), "before", lines)


def _before_fit(
    files: Files, change: OptimizerChange, values: Mapping[str, str | None], alike: Alike
) -> None:
    if change.fit is None:
        raise NoPlaceError("neither the optimizer nor fit stands in the script's own code")
    source, call = only(files, change.fit, alike)
    optimizer = f"{_receiver(source, call)}.optimizer{'.inner_optimizer' if change.inner else ''}"
    lines = [
        f"{optimizer}.{name} = {'None' if value is None else source.written(value)}"
        for name, value in values.items()
    ]
    source.insert(source.syntax.statement(call), "before", lines)


def _receiver(source: Source, call: cst.Call) -> str:
    """Return the expression that a method is called on, where it can be written again."""
    owner = call.func.value if isinstance(call.func, cst.Attribute) else None
    if owner is None or any(isinstance(node, cst.Call) for node in source.syntax.within(owner)):
        raise NoPlaceError("the model has no name where it is trained")
    return source.syntax.code(owner)


def _wrap(files: Files, change: OptimizerChange, alike: Alike) -> None:
    """Put a LossScaleOptimizer round what compile is given."""
    if change.compiled is None:
        raise NoPlaceError("the call of compile is not in the script's own code")
    source, call = only(files, change.compiled, alike)
    if argument(call, "optimizer", 0) is None:
        raise NoPlaceError("compile is given no optimizer")

    def wrap(updated: cst.Call) -> cst.Call:
        inner = argument(updated, "optimizer", 0)
        assert inner is not None, "it was there before"
        code = source.syntax.code(inner.value)
        optimizer = (
            f"keras.optimizers.get({code})" if isinstance(inner.value, cst.SimpleString) else code
        )
        wrapped = source.expression(WRAPPED.format(optimizer=optimizer, scale=change.loss_scale))
        return with_argument(updated, "optimizer", wrapped, 0)

    source.written("keras.optimizers")  # imports are planned before anything is changed
    source.change(call, wrap)


def _set(
    source: Source,
    call: cst.Call,
    values: Mapping[str, str | None],
    positions: Mapping[str, int | None],
) -> None:
    """Plan arguments of a call; None takes one away."""
    new = {
        name: None if value is None else source.expression(value) for name, value in values.items()
    }
    for name in new:
        argument(call, name, positions.get(name))  # or it has no place

    def changed(updated: cst.Call) -> cst.Call:
        for name, value in new.items():
            updated = with_argument(updated, name, value, positions.get(name))
        return updated

    source.change(call, changed)


def _call(name: str, arguments: Mapping[str, str | None]) -> str:
    given = ", ".join(
        f"{argument}={value}" for argument, value in arguments.items() if value is not None
    )
    return f"keras.optimizers.{name}({given})"


_PLANS: dict[str, Callable[[Files, Any, Alike], None]] = {
    "argument": _argument,
    "optimizer": _optimizer,
    "loss": _loss,
    "layer": add_layers,
    "call": change_call,
    "cast": cast_arguments,
    "guard": guard_operation,
    "weights": _weights,
    "constraint": _constraints,
    "adapt": adapt_to_filled,
    "rows": feed_otherwise,
}
