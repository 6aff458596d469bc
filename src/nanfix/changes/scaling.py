"""Scaling and imputation: what is done to the numbers that go into the model, and undone to those that come out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from nanfix.changes.change import Change, check_known
from nanfix.records.errors import InputError

TINY_EXPONENT = 1e-6  # nearer to its limit, Yeo-Johnson's map is a logarithm


@dataclass(frozen=True)
class Affine:
    """The map v -> (v - center) / scale over the last axis; one number per feature, or one in all."""

    center: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.center)

    def __call__(self, values):
        return (values - np.asarray(self.center, "float32")) / np.asarray(self.scale, "float32")

    def within(self, values):
        """Return where every value, shape (rows, ..., features), lies at most `scale` away from the center."""
        return abs(self(values)) <= 1.0

    def tiled(self, width: int) -> "Affine":
        """Return the same map repeated to `width` features, as flattening images repeats their channels."""
        times = width // len(self.center)
        return Affine(self.center * times, self.scale * times)


@dataclass(frozen=True)
class Power:
    """A scaling that also draws in long tails: `first`, then Yeo-Johnson's power of each feature, then `last`.

    Yeo-Johnson's map with the exponent e, one per feature, is ((v + 1)**e - 1) / e for v >= 0 and
    -((1 - v)**(2 - e) - 1) / (2 - e) below, with logarithms in the limits e = 0 and e = 2.

    Reference: Yeo & Johnson (2000), doi:10.1093/biomet/87.4.954; sklearn.preprocessing.PowerTransformer.
    """

    first: Affine
    exponent: tuple[float, ...]
    last: Affine

    @property
    def width(self) -> int:
        """The number of features."""
        return self.first.width

    def __call__(self, values):
        from keras import ops  # loads TensorFlow

        e = np.asarray(self.exponent, "float32")
        v = self.first(values)
        upper, lower = np.where(abs(e) < TINY_EXPONENT, 1.0, e), np.where(abs(e - 2) < TINY_EXPONENT, 1.0, 2 - e)
        above: Any
        below: Any
        above, below = ops.log1p(ops.maximum(v, 0.0)), ops.log1p(ops.maximum(-v, 0.0))
        above = ops.where(abs(e) < TINY_EXPONENT, above, ops.expm1(above * upper) / upper)
        below = ops.where(abs(e - 2) < TINY_EXPONENT, below, ops.expm1(below * lower) / lower)
        return self.last(ops.where(v >= 0, above, -below))


@dataclass(frozen=True)
class TargetScaling:
    """Train on (y - center) / scale while the model goes on predicting y.

    A loss that grows with the `degree`-th power of the error (2 for squared, 1 for absolute) has a gradient
    that is scale**degree / scale too large for the last layer; the scaling takes that factor out.
    """

    center: float
    scale: float
    degree: int


@dataclass(frozen=True)
class Scaling(Change):
    """Fill and scale the inputs, by name, and train on scaled targets.

    Attributes:
        inputs: the scaling of each input.
        targets: the scaling of the targets of the single output.
        fills: what takes the place of the non-finite cells of each input, one number per feature.
    """

    inputs: Mapping[str, Affine | Power] = field(default_factory=dict)
    targets: TargetScaling | None = None
    fills: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    kind: ClassVar[str] = "scaling"
    order: ClassVar[int] = 55

    def check(self, run):
        widths = {name: scaling.width for name, scaling in self.inputs.items()}
        widths |= {name: len(fill) for name, fill in self.fills.items()}
        known = {name: array for name, array in zip(run.sample.names, run.sample.inputs, strict=True) if name is not None}
        check_known("input", widths, known)
        for name, width in widths.items():
            features = known[name].shape[-1] if known[name].ndim > 1 else 1
            if width not in (1, features):
                raise InputError(
                    f"The fix was found for another input {name!r}. Expected: {width} features. Received: {features}. "
                    "Search again for these data."
                )

    def graph_key(self, shop):
        return {name: scaling for name, scaling in self.inputs.items() if isinstance(scaling, Power)}

    def install_for_training(self, shop, plan):
        shop.gate.fill(self.fills)
        shop.gate.set(self.inputs, self.targets)

    def in_source(self, run, plan, call):
        from nanfix.changes.loss import loss_in_source
        from nanfix.changes.rows import rows_in_source

        yield from (_in_call if _own_call(call) is not None else _around)(self, run, call)
        if self.targets is not None:
            yield from loss_in_source(run, plan, call)
        if self.fills:
            yield from rows_in_source(run, plan, call)

    @property
    def affine(self) -> dict[str, Affine]:
        """The scalings of inputs that are affine maps."""
        return {name: scaling for name, scaling in self.inputs.items() if isinstance(scaling, Affine)}

    def layers_in_front(self, model: Any, folded: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Return by name of the input the stock layers that fill and scale it, but for scalings that are `folded`."""
        from nanfix.changes.insertion import imputation, scaling

        apart = {name: change for name, change in self.inputs.items() if name not in folded}
        return {
            name: [
                *([imputation(model, name, self.fills[name])] if name in self.fills else []),
                *([scaling(model, name, apart[name])] if name in apart else []),
            ]
            for name in {**self.fills, **apart}
        }


def _around(wanted: Scaling, run: Any, call: Any) -> Iterator[Any]:
    """Yield the layers that scale what goes into a Sequential or Functional model, and back what comes out."""
    from nanfix.changes.layer_source import TOO_NARROW, float32_argument, number, scaling_layers
    from nanfix.records.source_changes import UNKNOWN_CALL, LayerChange, NoPlace

    for name, scaling in wanted.inputs.items():
        layers = scaling_layers(scaling)
        entry, first = call.inputs.get(name, (None, None))
        if layers is None:
            yield NoPlace(reason=TOO_NARROW)
        elif entry is None and first is None:
            yield NoPlace(reason=UNKNOWN_CALL.format(what="the input"))
        else:
            whole = call.places.of(call.model)
            yield LayerChange(target=entry, side="after", role="scaled", otherwise=first, model=whole, **layers)
    if wanted.targets is None:
        return
    last = _last_weighted(run)
    target = call.places.of(last) if last is not None else None
    if target is None:
        yield NoPlace(reason=UNKNOWN_CALL.format(what="the last layer"))
        return
    scale, center = number(wanted.targets.scale), number(wanted.targets.center)
    layer = f"keras.layers.Rescaling({scale}, offset={center}{float32_argument()})"
    yield LayerChange(target=target, side="after", layers=[layer], role="outputs")


def _in_call(wanted: Scaling, run: Any, call: Any) -> Iterator[Any]:
    """Yield what a subclassed model has to do in its own `call`."""
    from nanfix.changes.layer_source import TOO_NARROW, scaling_layers
    from nanfix.records.source_changes import CallChange, NoPlace

    if not (wanted.inputs or wanted.targets):
        return
    own, target = _own_call(call), call.places.of(call.model)
    scaling = next(iter(wanted.inputs.values()), None)
    if target is None or len(run.sample.inputs) != 1:
        yield NoPlace(reason=f"the call of {type(call.model).__name__} cannot be told to scale what goes in and comes out")
        return
    layers = {} if scaling is None else scaling_layers(scaling)
    if layers is None:
        yield NoPlace(reason=TOO_NARROW)
        return
    layers = {("inputs" if name == "layers" else name): value for name, value in layers.items()}
    outputs = None if wanted.targets is None else (wanted.targets.scale, wanted.targets.center)
    file, line = call.places.relative(own.co_filename), own.co_firstlineno
    yield CallChange(file=file, line=line, target=target, outputs=outputs, **layers)


def _own_call(call: Any) -> Any:
    from nanfix.source.fit_call import own_call

    return own_call(call.model)


def _last_weighted(run: Any) -> Any:
    """Return the layer that gives a Sequential or Functional model its single output."""
    weighted = [layer for layer in run.members.values() if getattr(layer, "kernel", None) is not None]
    return weighted[-1] if weighted else None
