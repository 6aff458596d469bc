"""From the setup of a fix to the changes of the user's source that make the same training: which call, line or argument."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from nanfix.activations import activation_name
from nanfix.changes import LogitsLoss, RobustLoss, RowFilter
from nanfix.crossentropies import COMPUTED_FROM_LOGITS, CROSSENTROPIES, PROBABILITIES, crossentropy_of
from nanfix.fitcall import CLIPPING, FitCall, OptimizerMade, own_call
from nanfix.layercode import TOO_NARROW, float32_argument, literal, number, scaling_layers
from nanfix.optimizers import trained_slots
from nanfix.schedules import ScaledSchedule, scaled_schedule
from nanfix.setup import Setup, kernels
from nanfix.source import (
    AdaptChange,
    ArgumentChange,
    Band,
    CallChange,
    GuardChange,
    LayerChange,
    LossChange,
    NoPlace,
    OptimizerChange,
    RowsChange,
    SourceChange,
)

UNKNOWN_CALL = "the call that makes {what} is not in the script's own code"


def source_changes(stages: Sequence[Setup], call: FitCall) -> list[SourceChange]:
    """Return the changes of the source that make the last of the `stages`, each with the edits that want it.

    `stages` is the setup after each edit. What has no place in the source is a NoPlace with the reason.
    """
    if not stages:
        return []
    told = [{change.subject: change for change in _changes(setup, call)} for setup in stages]
    final = told[-1]
    wanted: dict[Any, list[int]] = {subject: [] for subject in final}
    for index, (before, after) in enumerate(zip([{}, *told[:-1]], told, strict=True)):
        new = [subject for subject, change in after.items() if before.get(subject) != change and subject in final]
        for subject in new:
            wanted[subject].append(index)
    found: list[SourceChange] = [change.model_copy(update={"edits": wanted[subject]}) for subject, change in final.items()]
    idle = sorted(set(range(len(stages))) - {index for edits in wanted.values() for index in edits})
    return [*found, *(NoPlace(edits=[index], reason="nothing in the source holds what it changes") for index in idle)]


def _changes(setup: Setup, call: FitCall) -> Iterator[SourceChange]:
    yield from _of_layers(setup, call)
    yield from _of_optimizer(setup, call)
    yield from _of_loss(setup, call)
    yield from _of_inputs(setup, call)
    yield from _of_outputs(setup, call)
    yield from _of_calls(setup, call)
    yield from _normalizations(setup, call)
    yield from _of_guards(setup, call)
    yield from _of_rows(setup, call)


def _of_layers(setup: Setup, call: FitCall) -> Iterator[SourceChange]:
    """Yield, once for each call that makes layers, the arguments that give them the setup's attributes and initial weights."""
    wanted: dict[Any, list[ArgumentChange]] = {}
    for address in (a for a in setup.members if a in setup.layers or a in setup.initializers):
        layer = setup.members[address]
        owner = next((m for m in setup.members.values() if getattr(m, "cell", None) is layer), layer)
        target = call.places.of(owner) if isinstance(owner, keras.Layer) else None
        changed = dict(setup.layers.get(address, {}))
        statistics = changed.pop("statistics", None)  # what it is adapted to is no argument
        arguments = {**_attributes(changed, layer), **_initial(setup.initializers.get(address), layer)}
        if target is None:
            if arguments or statistics:
                yield NoPlace(reason=UNKNOWN_CALL.format(what=f"layer {layer.name}"))
            continue
        if statistics and _is_by_feature(layer):
            yield AdaptChange(target=target, fill=list(statistics[0]))
        elif statistics:
            yield NoPlace(reason=f"{layer.name} has an axis of its own")
        for name, value in arguments.items():
            taken, position_of = _parameter(type(owner), name)
            if taken:
                change = ArgumentChange(target=target, name=name, value=value, position=position_of)
                wanted.setdefault((change.subject, value), []).append(change)
            else:
                yield NoPlace(reason=f"{target.callee} takes no argument {name}")
    for alike in wanted.values():
        target = alike[0].target.model_copy(update={"changed": len(alike)})
        yield alike[0].model_copy(update={"target": target})


def _is_by_feature(layer: Any) -> bool:
    """Say whether a Normalization has a mean and a variance for each index of the last axis, and for nothing else."""
    rank = len(layer.get_build_config()["input_shape"])
    return {axis % rank for axis in layer.axis} == {rank - 1}


def _attributes(changed: Mapping[str, Any], layer: Any) -> dict[str, str]:
    """Return the arguments, as source, that give a layer the changed attributes."""
    arguments = {}
    for name, value in changed.items():
        if name == "max_norm":
            arguments.update(dict.fromkeys(kernels(layer).values(), f"keras.constraints.MaxNorm({value:g})"))
        else:
            arguments["dtype" if name == "dtype_policy" else name] = literal(value)
    return arguments


def _initial(initializer: str | None, layer: Any) -> dict[str, str]:
    """Return the arguments, as source, with which a layer draws such initial weights, where it does not yet."""
    if initializer is None:
        return {}
    wanted = {"kernel_initializer": initializer, "recurrent_initializer": "orthogonal", "bias_initializer": "zeros"}
    return {
        name: repr(kind)
        for name, kind in wanted.items()
        if hasattr(layer, name) and type(getattr(layer, name)) is not type(keras.initializers.get(kind))
    }


def _of_optimizer(setup: Setup, call: FitCall) -> Iterator[SourceChange]:
    """Yield the changes of every optimizer that the training step calls."""
    stepping = setup.stepping
    if stepping.adaptive_clip is not None:
        yield NoPlace(reason="Keras has no optimizer that clips at a running norm")
    set_again = any(isinstance(c, keras.callbacks.LearningRateScheduler) for c in _callbacks(call))
    if ("learning_rate" in setup.optimizer or stepping.rate_share != 1.0) and set_again:
        yield NoPlace(reason="a LearningRateScheduler of the script sets the learning rate again")
    trained = {slot.key for slot in trained_slots(setup.model)}
    for made in call.optimizers:
        if made.key in trained:
            yield from _of_one(setup, call, made)


def _of_one(setup: Setup, call: FitCall, made: OptimizerMade) -> Iterator[SourceChange]:
    stepping, given, first = setup.stepping, dict(setup.optimizer), made.key == ("optimizer", None)
    if stepping.adaptive_clip is not None:
        given = {name: value for name, value in given.items() if name not in CLIPPING}
    if stepping.fresh_moments and made.started:
        yield NoPlace(reason="the optimizer is made before an earlier training; make a new one after it")
    kind = getattr(keras.optimizers, setup.optimizer_class) if setup.optimizer_class else type(made.base)
    rate = given.get("learning_rate", made.rate)
    if stepping.rate_share != 1.0:
        if made.schedule is not None and not setup.optimizer_class:
            yield from _of_schedule(call, made.schedule, stepping.rate_share)
        elif rate is not None:
            rate = given["learning_rate"] = stepping.rate_share * rate
    arguments = {name: None if value is None else literal(value) for name, value in given.items()}
    if not setup.optimizer_class:
        arguments = {name: value for name, value in arguments.items() if value is not None or name in made.clips}
    if stepping.warm_up is not None:
        rate, steps = rate or 0.0, stepping.warm_up
        start, end = number(rate / steps), number(rate)
        arguments["learning_rate"] = f"keras.optimizers.schedules.PolynomialDecay({start}, {steps}, end_learning_rate={end})"
    scale = stepping.loss_scale if stepping.loss_scale is not None else 1.0 if stepping.skip_nonfinite else None
    if not (arguments or setup.optimizer_class or scale is not None):
        return
    if made.made is None and not first:
        yield NoPlace(reason=UNKNOWN_CALL.format(what=f"the optimizer {made.key[0]}"))
        return
    places = {name: _parameter(kind, name)[1] for name in arguments}
    yield OptimizerChange(
        target=made.made,
        compiled=call.compiled if first else None,
        fit=call.fit if first else None,
        name=type(made.base).__name__,
        inner=made.inner,
        new_class=setup.optimizer_class,
        arguments=arguments,
        positions={name: position for name, position in places.items() if position is not None},
        loss_scale=scale,
    )


def _callbacks(call: FitCall) -> list[Any]:
    given = call.arguments.get("callbacks")
    return tree.flatten(getattr(given, "callbacks", given) or [])


def _of_schedule(call: FitCall, schedule: Any, share: float) -> Iterator[SourceChange]:
    """Yield the arguments of a stock schedule whose rates are all lowered in proportion."""
    target, scaled = call.places.of(schedule), scaled_schedule(schedule, share)
    if isinstance(scaled, ScaledSchedule):
        yield NoPlace(
            reason=f"{getattr(schedule, '__name__', type(schedule).__name__)} is the script's own: multiply it by {number(share)}"
        )
        return
    if target is None:
        yield NoPlace(reason=UNKNOWN_CALL.format(what="the schedule of the learning rate"))
        return
    before, after = schedule.get_config(), scaled.get_config()
    for name in before:
        if before[name] != after[name]:
            values = after[name] if isinstance(after[name], list) else [after[name]]
            numbers = [number(value) for value in values]
            value = f"[{', '.join(numbers)}]" if isinstance(after[name], list) else numbers[0]
            yield ArgumentChange(target=target, name=name, value=value, position=_parameter(type(schedule), name)[1])


def _of_loss(setup: Setup, call: FitCall) -> Iterator[SourceChange]:
    if setup.loss is None and setup.targets is None:
        return
    if call.compiled is None:
        yield NoPlace(reason="the call of compile is not in the script's own code")
        return
    loss, factor = None, 1.0
    if isinstance(setup.loss, RobustLoss):
        arguments = ", ".join(f"{name}={number(value)}" for name, value in setup.loss.arguments)
        loss, factor = f"keras.losses.{setup.loss.name}({arguments})", setup.loss.factor
    elif isinstance(setup.loss, LogitsLoss):
        loss, factor = _crossentropy(setup, setup.loss), setup.loss.factor
        if loss is None:
            yield NoPlace(reason="without its last activation the model would predict logits")
            return
    scale = None if setup.targets is None else f"{number(setup.targets.scale)}{'**2' if setup.targets.degree == 2 else ''}"
    weight = None if factor == 1.0 else number(factor)
    if loss is None and isinstance(setup.user_loss, list | tuple | dict):
        yield NoPlace(reason="compile is given losses in a list or dict")
        return
    if scale is not None:
        weight = f"{weight or 1} / {scale}"
    if loss or weight:
        yield LossChange(compiled=call.compiled, loss=loss, weight=weight)


def _crossentropy(setup: Setup, wanted: LogitsLoss) -> str | None:
    """Return the stock loss that computes as `wanted` does, also by way of the logits that Keras' own activations keep.

    None where it is the user's own stock loss that has to be told of logits: then the model would predict these.
    """
    address, last = setup.activations_described[-1] if setup.activations_described else (None, None)
    activation = setup.layers.get(address, {}).get("activation") if address is not None else None
    activation = activation or (activation_name(last) if last is not None else "linear")
    given = ["from_logits=True"] if wanted.raw_outputs else []
    given += [f"reduction={wanted.reduction!r}"] if wanted.reduction != "sum_over_batch_size" else []
    own = crossentropy_of(setup.user_loss)
    if not wanted.raw_outputs and (activation not in PROBABILITIES or own in COMPUTED_FROM_LOGITS):
        return None
    return f"keras.losses.{CROSSENTROPIES[wanted.name].class_name}({', '.join(given)})"


def _of_inputs(setup: Setup, call: FitCall) -> Iterator[SourceChange]:
    """Yield the layers that scale the inputs of a Sequential or Functional model."""
    if own_call(call.model) is not None:
        return
    for name, scaling in setup.inputs.items():
        layers = scaling_layers(scaling)
        entry, first = call.inputs.get(name, (None, None))
        if layers is None:
            yield NoPlace(reason=TOO_NARROW)
        elif entry is None and first is None:
            yield NoPlace(reason=UNKNOWN_CALL.format(what="the input"))
        else:
            whole = call.places.of(call.model)
            yield LayerChange(target=entry, side="after", role="scaled", otherwise=first, model=whole, **layers)


def _of_outputs(setup: Setup, call: FitCall) -> Iterator[SourceChange]:
    """Yield the layer that brings the outputs of a Sequential or Functional model back to the user's units."""
    if setup.targets is None or own_call(call.model) is not None:
        return
    last = _last_weighted(setup)
    target = call.places.of(last) if last is not None else None
    if target is None:
        yield NoPlace(reason=UNKNOWN_CALL.format(what="the last layer"))
        return
    scale, center = number(setup.targets.scale), number(setup.targets.center)
    layer = f"keras.layers.Rescaling({scale}, offset={center}{float32_argument()})"
    yield LayerChange(target=target, side="after", layers=[layer], role="outputs")


def _of_calls(setup: Setup, call: FitCall) -> Iterator[SourceChange]:
    """Yield what a subclassed model has to do in its own `call`."""
    own = own_call(call.model)
    if own is None or not (setup.inputs or setup.targets):
        return
    target = call.places.of(call.model)
    scaling = next(iter(setup.inputs.values()), None)
    if target is None or len(setup.sample.inputs) != 1:
        yield NoPlace(reason=f"the call of {type(call.model).__name__} cannot be told to scale what goes in and comes out")
        return
    layers = {} if scaling is None else scaling_layers(scaling)
    if layers is None:
        yield NoPlace(reason=TOO_NARROW)
        return
    layers = {("inputs" if name == "layers" else name): value for name, value in layers.items()}
    outputs = None if setup.targets is None else (setup.targets.scale, setup.targets.center)
    file, line = call.places.relative(own.co_filename), own.co_firstlineno
    yield CallChange(file=file, line=line, target=target, outputs=outputs, **layers)


def _normalizations(setup: Setup, call: FitCall) -> Iterator[SourceChange]:
    for address in setup.normalized:
        layer = setup.members[address]
        target = call.places.of(layer)
        if target is None:
            yield NoPlace(reason=UNKNOWN_CALL.format(what=f"layer {layer.name}"))
        else:
            expression = f"keras.layers.LayerNormalization(center=False, scale=False{float32_argument()})"
            yield LayerChange(target=target, side="before", layers=[expression], role="normalized")


def _of_guards(setup: Setup, call: FitCall) -> Iterator[SourceChange]:
    for guard in setup.guards:
        if guard.source is None:
            layer = None if guard.layer is None else setup.members[guard.layer].name
            yield NoPlace(reason=f"{guard.operation} is computed in Keras' own code, in layer {layer}")
            continue
        name, _, line = guard.source.rpartition(":")
        file = call.places.file(name)
        if file is None:
            yield NoPlace(reason=f"{name} is not a file of the script, or one of several of that name")
        else:
            yield GuardChange(file=file, line=int(line), operation=guard.operation, epsilon=guard.epsilon)


def _of_rows(setup: Setup, call: FitCall) -> Iterator[SourceChange]:
    rows, fill = setup.rows, next(iter(setup.fills.values()), None)
    if rows == RowFilter() and not setup.fills:
        return
    x, y = call.arguments.get("x"), call.arguments.get("y")
    if call.fit is None:
        yield NoPlace(reason="the call of fit is not in the script's own code")
        return
    if setup.sample.whole is None or not _is_array(x) or not (y is None or _is_array(y)):
        yield NoPlace(reason="the data are not one array of inputs and one of targets")
        return
    held = call.arguments.get("validation_data")
    if held is not None and not (isinstance(held, tuple | list) and all(map(_is_array, held))):
        yield NoPlace(reason="the validation data are no tuple of arrays")
        return
    if rows.batch_rows and call.arguments.get("validation_split"):
        yield NoPlace(reason="Keras takes the rows for validation out of the incomplete batch")
        return
    finite: list[Any] = ["x"] if rows.finite_inputs and _is_floating(x) else []
    finite += ["y"] if rows.finite_targets and _is_floating(y) else []
    weight = call.arguments.get("sample_weight")
    finite += ["sample_weight"] if rows.finite_weights and weight is not None else []
    bands = [Band(part="y" if i else "x", center=list(b.center), scale=list(b.scale)) for i, b in rows.bands]
    weights = call.arguments.get("class_weight")
    yield RowsChange(
        fit=call.fit,
        finite=finite,
        classes=rows.classes if not rows.first_label else None,
        first_label=rows.first_label,
        labels=None if rows.labels is None else (rows.labels.center[0], rows.labels.scale[0]),
        bands=bands,
        batch_rows=rows.batch_rows,
        fill=None if fill is None else list(fill),
        held=0 if held is None else len(held),
        renumber=bool(rows.first_label and weights and all(label >= rows.first_label for label in weights)),
    )


def _last_weighted(setup: Setup) -> Any:
    """Return the layer that gives a Sequential or Functional model its single output."""
    weighted = [layer for layer in setup.members.values() if getattr(layer, "kernel", None) is not None]
    return weighted[-1] if weighted else None


def _parameter(kind: Any, name: str) -> tuple[bool, int | None]:
    """Say whether a class takes an argument, and at which position it may be given without its name."""
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    for index, parameter in enumerate(parameters):
        if parameter.name == name:
            return True, index if parameter.kind is parameter.POSITIONAL_OR_KEYWORD else None
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters), None


def _is_array(part: Any) -> bool:
    return hasattr(part, "shape") and hasattr(part, "__getitem__")


def _is_floating(part: Any) -> bool:
    return np.asarray(part).dtype.kind == "f"
