"""The maps by which numbers are scaled: affine, a power, and those of outputs and targets."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

TINY_EXPONENT = 1e-6  # nearer to its limit, Yeo-Johnson's map is a logarithm


@dataclass(frozen=True)
class Affine:
    """The map v -> (v - center) / scale over the last axis; one number per feature, or
    one in all.
    """

    center: tuple[float, ...]
    scale: tuple[float, ...]

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.center)

    def __call__(self, values):
        return (values - np.asarray(self.center, "float32")) / np.asarray(self.scale, "float32")

    def tiled(self, width: int) -> "Affine":
        """Return the same map repeated to `width` features, as flattening images
        repeats their channels.
        """
        times = width // len(self.center)
        return Affine(self.center * times, self.scale * times)


@dataclass(frozen=True)
class Mixed:
    """Probabilities p of `classes` with a `share` of an even guess: (1 - share) * p + share /
    classes, so that none is below that.
    """

    share: float
    classes: int

    @property
    def offset(self) -> float:
        """The least probability that there is."""
        return self.share / self.classes

    def __call__(self, values):
        return (1.0 - self.share) * values + self.offset


@dataclass(frozen=True)
class Power:
    """A scaling that also draws in long tails: `first`, then Yeo-Johnson's power of
    each feature, then `last`.

    Yeo-Johnson's map with the exponent e, one per feature, is ((v + 1)**e - 1) / e for v >= 0 and
    -((1 - v)**(2 - e) - 1) / (2 - e) below, with logarithms in the limits e = 0 and e = 2.

    Reference: Yeo & Johnson (2000), doi:10.1093/biomet/87.4.954;
    sklearn.preprocessing.PowerTransformer.
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
        upper, lower = (
            np.where(abs(e) < TINY_EXPONENT, 1.0, e),
            np.where(abs(e - 2) < TINY_EXPONENT, 1.0, 2 - e),
        )
        above: Any
        below: Any
        above, below = ops.log1p(ops.maximum(v, 0.0)), ops.log1p(ops.maximum(-v, 0.0))
        above = ops.where(abs(e) < TINY_EXPONENT, above, ops.expm1(above * upper) / upper)
        below = ops.where(abs(e - 2) < TINY_EXPONENT, below, ops.expm1(below * lower) / lower)
        return self.last(ops.where(v >= 0, above, -below))


LOCATION = "location"
# What a column of an output may be and, where targets t become center + scale * t, what is added to
# it and what it is multiplied by before.
MOVES: dict[str, Callable[[float, float], tuple[float, float]]] = {
    "fixed": lambda center, scale: (0.0, 1.0),
    LOCATION: lambda center, scale: (center, scale),
    "scale": lambda center, scale: (0.0, scale),
    "log-scale": lambda center, scale: (math.log(scale), 1.0),
    "variance": lambda center, scale: (0.0, scale**2),
    "log-variance": lambda center, scale: (2 * math.log(scale), 1.0),
    "inverse scale": lambda center, scale: (0.0, 1 / scale),
    "precision": lambda center, scale: (0.0, scale**-2.0),
    "log-precision": lambda center, scale: (-2 * math.log(scale), 1.0),
}


def moves(
    columns: Sequence[str], of: Sequence[int], center: Sequence[float], scale: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return what is added to each column of an output, and what it is multiplied by before, where
    it goes with one `of` the columns of the targets.
    """
    pairs = [MOVES[kind](center[at], scale[at]) for kind, at in zip(columns, of, strict=True)]
    return tuple(shift for shift, _ in pairs), tuple(factor for _, factor in pairs)


@dataclass(frozen=True)
class TargetScaling:
    """Train on (y - center) / scale while the model goes on predicting y; one number for each
    column of the output, or one in all. Of the columns of a likelihood each has its own (`moves`).

    A loss that grows with the `degree`-th power of the error (2 for squared, 1 for
    absolute) has a gradient that is scale**degree / scale too large for the last layer;
    the scaling takes that factor out. One of degree 0 does not grow with the scale.
    """

    center: tuple[float, ...]
    scale: tuple[float, ...]
    degree: int

    @property
    def width(self) -> int:
        """The number of columns that are scaled by themselves."""
        return len(self.scale)

    @property
    def factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The center, the scale, and what a gradient is multiplied by."""
        center, scale = np.asarray(self.center, "float32"), np.asarray(self.scale, "float32")
        return center, scale, scale ** np.float32(1.0 - self.degree)
