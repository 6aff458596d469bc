"""Numbers, and the layers that scale by them, as a person writes them in source."""

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import keras

from nanfix.changes.maps import Affine, Power
from nanfix.records.source_changes import UNKNOWN_CALL, ArgumentChange, NoPlace

if TYPE_CHECKING:
    from nanfix.model.run import Run
    from nanfix.source.fit_call import FitCall

SMALLEST_SCALE = 1e-7  # a Normalization layer divides by no less
TOO_NARROW = "a feature varies by less than a Normalization layer can tell"
NEAR_LIMIT = 1e-5  # so near to 0 or 2, a power is its limit to the digits of a float32
# keras.utils, since tf.keras has no keras.saving.
YEO_JOHNSON = '''@keras.utils.register_keras_serializable()
class YeoJohnson(keras.layers.Layer):
    """Draw in the long tails of each feature by Yeo-Johnson's power of it."""

    def __init__(self, exponent, **kwargs):
        super().__init__(**kwargs)
        self.exponent = exponent

    def call(self, inputs):
        up = np.array(self.exponent, "float32")
        above = keras.ops.expm1(up * keras.ops.log1p(keras.ops.relu(inputs))) / up
        below = keras.ops.expm1((2 - up) * keras.ops.log1p(keras.ops.relu(-inputs))) / (2 - up)
        return above - below

    def get_config(self):
        return {**super().get_config(), "exponent": self.exponent}'''

FILL_HOLES = '''@keras.utils.register_keras_serializable()
class FillHoles(keras.layers.Layer):
    """Give every feature that is NaN or inf the number that stands for it."""

    def __init__(self, fill, **kwargs):
        super().__init__(**kwargs)
        self.fill = fill

    def call(self, inputs):
        fill = keras.ops.cast(self.fill, inputs.dtype)
        return keras.ops.where(keras.ops.isfinite(inputs), inputs, fill)

    def get_config(self):
        return {**super().get_config(), "fill": self.fill}'''


def arguments_of_layers(
    run: "Run",
    call: "FitCall",
    arguments: Mapping[str, Mapping[str, str]],
    definitions: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[ArgumentChange | NoPlace]:
    """Yield, once for each call that makes layers, the `arguments` that it has to be given, by
    address of the layer; `definitions` are those of functions that are among them, by name.
    """
    wanted: dict[tuple[object, str], list[ArgumentChange]] = {}
    for address in (address for address in run.members if arguments.get(address)):
        layer = run.members[address]
        owner = next((m for m in run.members.values() if getattr(m, "cell", None) is layer), layer)
        target = call.places.of(owner) if isinstance(owner, keras.Layer) else None
        if target is None:
            yield NoPlace(reason=UNKNOWN_CALL.format(what=f"layer {layer.name}"))
            continue
        for name, value in arguments[address].items():
            taken, position_of = parameter(type(owner), name)
            if taken:
                change = ArgumentChange(
                    target=target,
                    name=name,
                    value=value,
                    position=position_of,
                    definitions=[definitions[value]] if value in definitions else [],
                )
                wanted.setdefault((change.subject, value), []).append(change)
            else:
                yield NoPlace(reason=f"{target.callee} takes no argument {name}")
    for alike in wanted.values():
        target = alike[0].target.model_copy(update={"changed": len(alike)})
        yield alike[0].model_copy(update={"target": target})


def parameter(kind: type, name: str) -> tuple[bool, int | None]:
    """Say whether a class takes an argument, and at which position it may be given
    without its name.
    """
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    for index, parameter in enumerate(parameters):
        if parameter.name == name:
            return True, index if parameter.kind is parameter.POSITIONAL_OR_KEYWORD else None
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters), None


@dataclass(frozen=True)
class WrittenLayers:
    """Layers as expressions of the source, one after the other, with the vectors that they name and
    what has to be defined for them.
    """

    layers: list[str]
    numbers: dict[str, list[float]] = field(default_factory=dict)
    definitions: list[str] = field(default_factory=list)

    def __add__(self, other: "WrittenLayers") -> "WrittenLayers":
        return WrittenLayers(
            self.layers + other.layers,
            self.numbers | other.numbers,
            self.definitions + other.definitions,
        )


def scaling_layers(scaling: Affine | Power, *, built: bool = True) -> WrittenLayers | None:
    """Return the layers that scale like this.

    None where a scale is smaller than what a Normalization layer divides by.

    Args:
        built: whether the model is built before it is trained. Else a Normalization layer, built in
            the graph of the first step, has its numbers there and is of no use outside.
    """
    affine = [scaling] if isinstance(scaling, Affine) else [scaling.first, scaling.last]
    if min(scale for each in affine for scale in each.scale) < SMALLEST_SCALE:
        return None
    if isinstance(scaling, Affine):
        layer, numbers = _affine(scaling, "", built)
        return WrittenLayers([layer], numbers)
    (first, given), (last, more) = (
        _affine(scaling.first, "", built),
        _affine(scaling.last, "POWER_", built),
    )
    exponents = [_regular(exponent) for exponent in scaling.exponent]
    return WrittenLayers(
        [first, "YeoJohnson(EXPONENT)", last],
        {**given, "EXPONENT": exponents, **more},
        [YEO_JOHNSON],
    )


FILL_MISSING = '''@keras.utils.register_keras_serializable()
class FillMissing(keras.layers.Layer):
    """Give every feature that is NaN, inf or its missing value the number that stands for it."""

    def __init__(self, fill, missing_values, **kwargs):
        super().__init__(**kwargs)
        self.fill = fill
        self.missing_values = missing_values

    def call(self, inputs):
        fill = keras.ops.cast(self.fill, inputs.dtype)
        missing = inputs == keras.ops.cast(self.missing_values, inputs.dtype)
        known = keras.ops.logical_and(keras.ops.isfinite(inputs), keras.ops.logical_not(missing))
        return keras.ops.where(known, inputs, fill)

    def get_config(self):
        given = {"fill": self.fill, "missing_values": self.missing_values}
        return {**super().get_config(), **given}'''


def filling_layer(fill: Sequence[float], missing: Sequence[float] | None) -> WrittenLayers:
    """Return the layer that fills holes with these numbers, and what stands for a missing value
    too.
    """
    numbers = {"FILL": [float(f"{number:.6g}") for number in fill]}
    if missing is None:
        return WrittenLayers(["FillHoles(FILL)"], numbers, [FILL_HOLES])
    numbers["MISSING"] = [float(f"{number:.9g}") for number in missing]
    return WrittenLayers(["FillMissing(FILL, MISSING)"], numbers, [FILL_MISSING])


def _affine(scaling: Affine, prefix: str, built: bool) -> tuple[str, dict[str, list[float]]]:
    """Return the stock layer, as source, that computes (x - center) / scale, and the vectors it
    names.
    """
    scale, *others = {*scaling.scale}
    if not others and not any(scaling.center):
        return f"keras.layers.Rescaling(1 / {number(scale)}{float32_argument()})", {}
    return (_normalization if built else _rescaling)(scaling, prefix)


def _normalization(scaling: Affine, prefix: str) -> tuple[str, dict[str, list[float]]]:
    centers, scales = scaling.center, scaling.scale
    alike = len({*centers}) == 1 and len({*scales}) == 1
    if alike:
        mean, variance = digits(centers[0], scales[0]), number(scales[0] ** 2)
        return (
            (
                f"keras.layers.Normalization(axis=None, mean={number(mean)}, "
                f"variance={variance}{float32_argument()})"
            ),
            {},
        )
    means = [digits(c, s) for c, s in zip(centers, scales, strict=True)]
    numbers = {f"{prefix}VARIANCE": [float(f"{s**2:.6g}") for s in scales]}
    mean = f"{prefix}MEAN"
    if len({*means}) == 1:
        mean = f"[{number(means[0])}] * {len(means)}"
    else:
        numbers = {mean: means, **numbers}
    return (
        f"keras.layers.Normalization(mean={mean}, variance={prefix}VARIANCE{float32_argument()})",
        numbers,
    )


def _rescaling(scaling: Affine, prefix: str) -> tuple[str, dict[str, list[float]]]:
    """Of x / scale - center / scale: unlike a Normalization it keeps no numbers of its own."""
    ends = zip(scaling.center, scaling.scale, strict=True)
    pairs = [(1 / scale, -center / scale) for center, scale in ends]
    numbers = {
        f"{prefix}SCALE": [digits(scale, scale / max(1.0, abs(offset))) for scale, offset in pairs],
        f"{prefix}OFFSET": [digits(offset, 1.0) for _, offset in pairs],
    }
    scale, offset = numbers
    if len({*pairs}) == 1:
        scale, offset = (number(values[0]) for values in numbers.values())
        numbers = {}
    return f"keras.layers.Rescaling({scale}, offset={offset}{float32_argument()})", numbers


def _regular(exponent: float) -> float:
    """Return an exponent of Yeo-Johnson's power, or the nearest at which its formula
    needs no limit.
    """
    near = next((limit for limit in (0.0, 2.0) if abs(exponent - limit) < NEAR_LIMIT), None)
    return float(f"{exponent:.6g}") if near is None else near + NEAR_LIMIT


def digits(center: float, scale: float) -> float:
    """Round a center to six digits, or to so many that what is cut off is small beside
    the scale.
    """
    digits = 6 if center == 0 else max(6, math.ceil(math.log10(abs(center) / scale)) + 4)
    return float(f"{center:.{digits}g}")


def float32_argument() -> str:
    """Return the argument that keeps raw numbers out of half precision, where that is
    the policy.
    """
    return (
        ', dtype="float32"'
        if keras.config.dtype_policy().compute_dtype in ("float16", "bfloat16")
        else ""
    )


def literal(value: object) -> str:
    return number(value) if isinstance(value, float) else repr(value)


def number(value: float) -> str:
    """Return a number as a person writes it, to the digits that a float32 holds."""
    text = f"{value:.7g}"
    return text if any(sign in text for sign in ".e") else f"{text}.0"


def numbers_as_written(numbers: Sequence[float]) -> str:
    """Return as source a number for all columns, or one for each."""
    texts = [number(each) for each in numbers]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
