"""Scale the inputs to unit size, so that every feature pulls on the weights equally hard."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler

from nanfix.changes.maps import Affine, Power
from nanfix.changes.scaling import Scaling
from nanfix.explain.codes import with_holes
from nanfix.model.addresses import SINGLE
from nanfix.records.cause import Cause
from nanfix.records.features import feature_table, short, some_cells
from nanfix.records.plurals import counted
from nanfix.records.powers import yeo_johnson_exponents
from nanfix.remedies.strategy import Strategy, Tier


class ScaleInputs(Strategy):
    """Replace each feature x by (x - median) / (interquartile range), as scikit-learn's
    RobustScaler does.

    Features are the last axis: columns of a table, channels of an image or a sequence. A feature
    whose range is zero although it varies (mostly one value) is divided by its standard deviation
    instead. Images of bytes are first tried as x / 255. Stronger levels take mean and standard
    deviation (StandardScaler), then Yeo-Johnson's power of the scaled feature, fitted by maximum
    likelihood (PowerTransformer), which draws long tails in. The scaling ends up in the model,
    which goes on taking raw inputs. Columns of 0 and 1 are left as they are. Does not help when the
    inputs are of unit scale already, and is not applied to numbers that name something, as class
    indices, or whole numbers that the model compares with others, nor to columns of which it takes
    the sine, logarithm or root and nothing else; where it tells 0 from other numbers, nothing is
    subtracted.

    Reference: LeCun, Bottou, Orr & Mueller (1998), Efficient BackProp, section 4.3;
    sklearn.preprocessing.RobustScaler, StandardScaler and PowerTransformer.
    """

    name = "scale-inputs"
    tier = Tier.SCALING
    treats = frozenset({Cause.UNSCALED_INPUT, Cause.REDUCED_PRECISION, Cause.OUTLIER})
    keeps_weights = False
    reference = (
        "LeCun et al. (1998), Efficient BackProp; sklearn.preprocessing.RobustScaler, "
        "PowerTransformer"
    )

    def refusal(self, diagnosis, run, plan):
        if plan.of(Scaling).inputs:
            return "the inputs are scaled already"
        if _scalable(run, plan):
            return None
        if run.sample.passed_by:
            return (
                "the model's own training step does not call the model, where a scaling would stand"
            )
        return "no input is a quantity whose scaling the model can take up"

    def space(self, hp, diagnosis, run, plan):
        arrays = _scalable(run, plan)
        levels = [
            *(["bytes"] if all(map(holds_bytes, arrays.values())) else []),
            "robust",
            "standard",
        ]
        levels += ["power"] if run.rebuildable and not run.sample.keep_zero & {*arrays} else []
        scaler = hp.Choice("scaler", levels)
        return {"scaler": scaler, "inputs": numbers_of(run, SCALERS[scaler], arrays)}

    def apply(self, run, plan, *, scaler, inputs):
        return plan.with_change(
            Scaling(inputs={name: _read(numbers) for name, numbers in inputs.items()})
        )

    def explain(self, params):
        shifted = any(any(numbers["center"]) for numbers in params["inputs"].values())
        plain = "" if shifted or params["scaler"] == "bytes" else ", without a shift: 0 stays 0"
        told = f"{TOLD[params['scaler']]}{plain}"
        return f"Scale {features(params['inputs'])} {told}, inside the model."

    def snippet(self, params):
        return by_hand(params) or SNIPPETS[params["scaler"]]


SMALL = 1.0  # per cent of the values of a feature that are smaller than its unit
TOLD = {
    "bytes": "by 1 / 255",
    "robust": "with scikit-learn's RobustScaler (median, interquartile range)",
    "standard": "with scikit-learn's StandardScaler (mean, standard deviation)",
    "power": "with scikit-learn's PowerTransformer (Yeo-Johnson)",
}
SNIPPETS = {
    "bytes": "X = X / 255.0",
    "robust": "X = sklearn.preprocessing.RobustScaler().fit_transform(X)",
    "standard": "X = sklearn.preprocessing.StandardScaler().fit_transform(X)",
    "power": "X = sklearn.preprocessing.PowerTransformer().fit_transform(X)",
}


def by_hand(params: Mapping[str, Any]) -> str | None:
    """Return the scaling as arithmetic where it is not that of all columns of one input, which
    scikit-learn does; None of that, of bytes and of a power.
    """
    inputs = params["inputs"]
    if params["scaler"] in ("bytes", "power"):
        return None
    pairs = {p for each in inputs.values() for p in zip(each["center"], each["scale"], strict=True)}
    if [*inputs] == [SINGLE] and (0.0, 1.0) not in pairs:
        return None
    return "\n".join(
        f"{_called(name)} = ({_called(name)} - np.array({each['center']})) / "
        f"np.array({each['scale']})  # and what predict is given"
        for name, each in inputs.items()
    )


def _called(name: str) -> str:
    """Return what an input is called in code: one without a name goes by its number."""
    if name == SINGLE:
        return "X"
    number = name.removeprefix("input")
    return f"X{number}" if number.startswith("[") else f'X["{name}"]'


def _scalable(run, plan) -> dict[str, np.ndarray]:
    """Return the inputs whose numbers mean a quantity, by name, without what the plan fills."""
    sample = with_holes(run.sample) if plan.of(Scaling).missing_values else run.sample
    return {name: array for name, array in sample.named(sample.scalable).items() if array.size}


def holds_bytes(array: np.ndarray) -> bool:
    """Say whether an array holds images, or other fields, of whole numbers from 0 to 255."""
    if array.ndim < 3 and array.dtype != np.uint8:
        return False
    return (
        array.size > 0
        and array.min() >= 0
        and 127 < array.max() <= 255
        and bool((array == np.floor(array)).all())
    )


def byte_scaling(array: np.ndarray) -> Affine:
    """Return x / 255 for every feature. It has no shift, so that it folds into
    convolutions that pad with zeros.
    """
    width = array.shape[-1] if array.ndim > 1 else 1
    return Affine((0.0,) * width, (255.0,) * width)


def robust_scaling(array: np.ndarray) -> Affine:
    """Return median and interquartile range of each feature; non-finite cells are left out."""
    table = feature_table(some_cells(array))
    low, center, high = _percentiles(table, [25, 50, 75])
    iqr = high - low
    return affine(center, np.where(iqr > 1e-12 * np.abs(center), iqr, np.nanstd(table, axis=0)))


def standard_scaling(array: np.ndarray) -> Affine:
    """Return mean and standard deviation of each feature; non-finite cells are left out."""
    scaler = StandardScaler().fit(feature_table(some_cells(array)))
    return affine(np.asarray(scaler.mean_), np.sqrt(np.asarray(scaler.var_)))


def power_scaling(array: np.ndarray) -> Power:
    """Return Yeo-Johnson's power of each scaled feature, brought to mean 0 and standard
    deviation 1.

    Yeo-Johnson's power is a logarithm far above 1 and a straight line far below: a
    feature without negative values is measured by a small one of its own, any other by
    median and interquartile range.
    """
    table, robust = feature_table(some_cells(array)), robust_scaling(array)
    positive = (np.nanmin(table, axis=0) >= 0) & (table > 0).any(axis=0)
    above = np.where(positive & ~(table > 0), np.nan, table)
    (small,) = _percentiles(above, [SMALL])
    first = affine(np.where(positive, 0.0, robust.center), np.where(positive, small, robust.scale))
    exponents = short(yeo_johnson_exponents((table - first.center) / first.scale))
    same = Affine((0.0,) * len(exponents), (1.0,) * len(exponents))
    powers = np.asarray(Power(first, exponents, same)(table))
    return Power(first, exponents, standard_scaling(powers))


SCALERS = {
    "bytes": byte_scaling,
    "robust": robust_scaling,
    "standard": standard_scaling,
    "power": power_scaling,
}


def _percentiles(table: np.ndarray, shares: list[float]) -> np.ndarray:
    """Return these percentiles of the known values of each feature, shape (shares, features)."""
    # numpy goes through the columns one by one where some values may be unknown.
    taken = np.nanpercentile if np.isnan(table).any() else np.percentile
    return taken(table, shares, axis=0)


def affine(center: np.ndarray, scale: np.ndarray) -> Affine:
    """Return the map; a scale that is zero beside the center, as a constant feature's,
    counts as 1.
    """
    scale = np.where(scale > 1e-12 * np.maximum(np.abs(center), 1e-30), scale, 1.0)
    return Affine(short(center), short(scale))


def numbers_of(run, scaler, arrays) -> dict[str, dict[str, list[float]]]:
    """Return the numbers of the scaling of each input. Columns that name something stay, and those
    of 0 and 1, which are of unit scale and may be a mask.
    """
    named = run.sample.categories
    kept = {name: {*named.get(name, ()), *_binary(each)} for name, each in arrays.items()}
    scalings = {name: scaler(each) for name, each in arrays.items()}
    for name in run.sample.keep_zero & {*arrays}:
        scalings[name] = _without_shift(scalings[name])
    return {name: written(leaving(each, kept[name])) for name, each in scalings.items()}


def _without_shift(scaling: Affine | Power) -> Affine:
    """Return a map of the same size that leaves 0 where it is."""
    assert isinstance(scaling, Affine), "a power is not tried where 0 has to stay"
    center, scale = np.asarray(scaling.center), np.asarray(scaling.scale)
    return affine(np.zeros_like(center), np.hypot(center, scale))


def _binary(array: np.ndarray) -> list[int]:
    """Return the columns that hold nothing but 0 and 1."""
    table = feature_table(some_cells(array))
    return np.flatnonzero((np.isin(table, (0, 1)) | np.isnan(table)).all(axis=0)).tolist()


def leaving(scaling: Affine | Power, columns: Collection[int]) -> Affine | Power:
    """Return the map with these columns as they are."""

    def with_numbers(numbers: Sequence[float], plain: float) -> tuple[float, ...]:
        return tuple(plain if at in columns else number for at, number in enumerate(numbers))

    if isinstance(scaling, Affine):
        return Affine(with_numbers(scaling.center, 0.0), with_numbers(scaling.scale, 1.0))
    first, last = (leaving(each, columns) for each in (scaling.first, scaling.last))
    assert isinstance(first, Affine) and isinstance(last, Affine)
    return Power(first, with_numbers(scaling.exponent, 1.0), last)


def features(inputs: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Say how many features are scaled, of all inputs."""
    pairs = [
        pair
        for numbers in inputs.values()
        for pair in zip(numbers["center"], numbers["scale"], strict=True)
    ]
    left = sum(pair == (0.0, 1.0) for pair in pairs)  # columns that name something
    return counted(len(pairs) - left or len(pairs), "input feature")


def written(scaling: Affine | Power) -> dict[str, list[float]]:
    if isinstance(scaling, Affine):
        return {"center": list(scaling.center), "scale": list(scaling.scale)}
    last = {"last_center": list(scaling.last.center), "last_scale": list(scaling.last.scale)}
    return {**written(scaling.first), "exponent": list(scaling.exponent), **last}


def _read(numbers: dict[str, list[float]]) -> Affine | Power:
    first = Affine(tuple(numbers["center"]), tuple(numbers["scale"]))
    if "exponent" not in numbers:
        return first
    return Power(
        first,
        tuple(numbers["exponent"]),
        Affine(tuple(numbers["last_center"]), tuple(numbers["last_scale"])),
    )
