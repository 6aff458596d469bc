"""Scaling and imputation: what is done to the numbers that go into the model, and
undone to those that come out.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nanfix.changes.change import Change, Lasts, check_known
from nanfix.changes.maps import Affine, Power, TargetScaling
from nanfix.model.outputs import OUTPUT, end_names
from nanfix.records.errors import InputError

if TYPE_CHECKING:
    import keras

    from nanfix.changes.layer_source import WrittenLayers
    from nanfix.model.run import Run
    from nanfix.records.source_changes import LayerChange, SourceChange
    from nanfix.source.fit_call import FitCall


@dataclass(frozen=True)
class Scaling(Change):
    """Fill and scale the inputs, by name, and train on scaled targets.

    Attributes:
        inputs: the scaling of each input.
        targets: the scaling of the targets of each output, by its name (`outputs.end_names`).
        fills: what takes the place of the non-finite cells of each input, one number per feature.
        missing_values: what stands for a missing value in each input that is filled, one number per
            feature; the fill itself where nothing does.
    """

    inputs: Mapping[str, Affine | Power] = field(default_factory=dict)
    targets: Mapping[str, TargetScaling] = field(default_factory=dict)
    fills: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    missing_values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    kind: ClassVar[str] = "scaling"
    order: ClassVar[int] = 55

    @property
    def lasts(self):
        return Lasts.MODEL

    @property
    def may_change_predictions(self):
        return bool(self.inputs or self.fills or self.targets)

    def check(self, run):
        widths = {name: scaling.width for name, scaling in self.inputs.items()}
        widths |= {name: len(fill) for name, fill in self.fills.items()}
        known = {
            name: array
            for name, array in zip(run.sample.names, run.sample.inputs, strict=True)
            if name is not None
        }
        check_known("input", widths, known)
        check_known("scalable output", self.targets, run.scalable_outputs)
        for name, scaling in self.targets.items():
            shape = run.output_shapes[end_names(run).index(name)]
            if scaling.width > 1 and shape != (scaling.width,):
                raise InputError(
                    f"The fix was found for another output {name!r}. Expected: {scaling.width} "
                    f"columns. Received: the shape {shape}. Search again for this model."
                )
        for name, width in widths.items():
            features = known[name].shape[-1] if known[name].ndim > 1 else 1
            if width not in (1, features):
                raise InputError(
                    f"The fix was found for another input {name!r}. Expected: {width} features. "
                    f"Received: {features}. Search again for these data."
                )

    def graph_key(self, shop):
        return {
            name: scaling for name, scaling in self.inputs.items() if isinstance(scaling, Power)
        }

    def install_for_training(self, shop, plan):
        shop.gate.fill(self.fills, self.missing_values)
        shop.gate.set(self.inputs, self.targets)

    def in_source(self, run, plan, call):
        from nanfix.changes.loss import compile_change, weigh_outputs
        from nanfix.changes.scaling_in_call import in_call
        from nanfix.source.fit_call import own_call

        own = own_call(call.model) is not None
        yield from (in_call if own else _around)(self, run, call)
        whole = {n: each for n, each in self.targets.items() if each.width == 1 and each.degree}
        weights = {name: _weight(scaling) for name, scaling in whole.items()}
        if OUTPUT in weights:
            yield compile_change(run, call, weight=weights[OUTPUT])
        elif weights:
            yield weigh_outputs(run, call, weights)

    @property
    def affine(self) -> dict[str, Affine]:
        """The scalings of inputs that are affine maps."""
        return {
            name: scaling for name, scaling in self.inputs.items() if isinstance(scaling, Affine)
        }

    def computed_in_front(
        self, folded: Mapping[str, Any]
    ) -> "dict[str, list[Callable[[Any], Any]]]":
        """Return by name of the input what fills and scales it, but for scalings that are `folded`;
        the same as `layers_in_front` where no layer can be put there.
        """
        from nanfix.changes.scaling_call import filling, scaling

        computed = {
            name: [filling(fill, self.missing_values.get(name, fill))]
            for name, fill in self.fills.items()
        }
        apart = {name: change for name, change in self.inputs.items() if name not in folded}
        for name, change in apart.items():
            computed[name] = [*computed.get(name, []), scaling(change)]
        return computed

    def layers_in_front(
        self, model: "keras.Model", folded: Mapping[str, Any]
    ) -> "dict[str, list[keras.Layer]]":
        """Return by name of the input the stock layers that fill and scale it, but for
        scalings that are `folded`.
        """
        from nanfix.changes.insertion import imputation, scaling

        apart = {name: change for name, change in self.inputs.items() if name not in folded}
        return {
            name: [
                *(
                    [imputation(model, name, self.fills[name], self.missing_values.get(name))]
                    if name in self.fills
                    else []
                ),
                *([scaling(model, name, apart[name])] if name in apart else []),
            ]
            for name in {**self.fills, **apart}
        }


def _around(wanted: Scaling, run: "Run", call: "FitCall") -> "Iterator[SourceChange]":
    """Yield the layers that fill and scale what goes into a Sequential or Functional model, and
    scale back what comes out.
    """
    for name in {**wanted.fills, **wanted.inputs}:
        yield from _in_front(wanted, name, run, call)
    for name, scaling in wanted.targets.items():
        yield from _behind(name, scaling, run, call)


def _behind(
    name: str, scaling: TargetScaling, run: "Run", call: "FitCall"
) -> "Iterator[SourceChange]":
    """Yield the layer that scales an output back, which takes over the name of the layer that gives
    this output where losses go by it.
    """
    from nanfix.changes.insertion import INNER, are_named
    from nanfix.changes.layer_source import float32_argument, literal, numbers_as_written
    from nanfix.changes.scaling_in_call import BY_COLUMN
    from nanfix.records.source_changes import UNKNOWN_CALL, ArgumentChange, LayerChange, NoPlace

    if scaling.width > 1 and scaling.degree:
        yield NoPlace(reason=BY_COLUMN)
        return
    last = _giver(run, name)
    target = call.places.of(last) if last is not None else None
    if target is None:
        yield NoPlace(reason=UNKNOWN_CALL.format(what="the last layer"))
        return
    outer = call.model.output_names[end_names(run).index(name)] if are_named(call.model) else ""
    named = f", name={literal(outer)}" if outer else ""
    scale, center = map(numbers_as_written, (scaling.scale, scaling.center))
    layer = f"keras.layers.Rescaling({scale}, offset={center}{float32_argument()}{named})"
    yield LayerChange(target=target, side="after", layers=[layer], role="outputs")
    if outer:
        inner = literal(INNER.format(name=outer))
        yield ArgumentChange(target=target, name="name", value=inner)


def _weight(scaling: TargetScaling) -> str:
    """Return, as source, by what the loss of scaled targets is that of the user's."""
    from nanfix.changes.layer_source import number

    return f"1 / {number(scaling.scale[0])}{'**2' if scaling.degree == 2 else ''}"


def _in_front(wanted: Scaling, name: str, run: "Run", call: "FitCall") -> "Iterator[SourceChange]":
    """Yield the layers that fill and scale an input, and what fills its holes in front of `fit`
    where these have no place.
    """
    from nanfix.changes.layer_source import (
        TOO_NARROW,
        WrittenLayers,
        filling_layer,
        scaling_layers,
    )
    from nanfix.changes.rows import fit_change
    from nanfix.records.rows_change import FIT_ALONE, RowsChange
    from nanfix.records.source_changes import UNKNOWN_CALL, NoPlace

    fill, missing = wanted.fills.get(name), wanted.missing_values.get(name)
    scaling = wanted.inputs.get(name)
    scaled = None if scaling is None else scaling_layers(scaling, built=_is_built(call, name))
    if scaling is not None and scaled is None:
        yield NoPlace(reason=TOO_NARROW)
    written = WrittenLayers([])
    for stage in (filling_layer(fill, missing) if fill else None, scaled):
        written = written if stage is None else written + stage
    if not written.layers:
        return
    change = _where_it_goes_in(call, name, written, fills=fill is not None)
    by_hand = None
    if fill is not None:
        by_hand = fit_change(
            run, call, fill=list(fill), missing=list(missing or ()), instead=change is not None
        )
    instead = by_hand if isinstance(by_hand, RowsChange) else None
    unknown = UNKNOWN_CALL.format(what="the input")
    yield change or NoPlace(reason=unknown if instead is None else f"{unknown}; {FIT_ALONE}")
    if instead is not None:
        yield instead


def _is_built(call: "FitCall", name: str) -> bool:
    """Say whether the patched model is built before it is trained, as one with an Input is."""
    entry = call.inputs.get(name)
    return call.built or (entry is not None and (entry.in_list or entry.input is not None))


def _where_it_goes_in(
    call: "FitCall", name: str, written: "WrittenLayers", *, fills: bool
) -> "LayerChange | None":
    """Return the change that puts layers where an input goes in; None where nobody knows."""
    from nanfix.records.source_changes import LayerChange

    entry = call.inputs.get(name)
    if entry is not None and entry.in_list and entry.model is not None:
        # With an Input, so that the model is built as soon as it was without the layers.
        built = f"keras.Input({call.model.input_shape[1:]})"
        return LayerChange(
            target=entry.model,
            side="first",
            role="scaled",
            fills=fills,
            layers=[built, *written.layers],
            numbers=written.numbers,
            definitions=written.definitions,
        )
    if entry is None or (entry.input is None and entry.first is None):
        return None
    return LayerChange(
        target=entry.input,
        side="after",
        role="scaled",
        otherwise=entry.first,
        model=entry.model,
        fills=fills,
        layers=written.layers,
        numbers=written.numbers,
        definitions=written.definitions,
    )


def _giver(run: "Run", name: str) -> "keras.Layer | None":
    """Return the layer that gives an output to a Sequential or Functional model."""
    from nanfix.private.graphs import giver_of
    from nanfix.private.objects import is_layer

    names = end_names(run)
    address = run.outputs[names.index(name)] if run.outputs and name in names else None
    if address is not None:
        return run.members[address]
    if run.outputs and name in names and len(run.columns[names.index(name)]) > 1:
        joining: Any = giver_of(run.model.outputs[names.index(name)])
        return joining if is_layer(joining) else None
    weighted = [
        layer for layer in run.members.values() if getattr(layer, "kernel", None) is not None
    ]
    return weighted[-1] if weighted else None
