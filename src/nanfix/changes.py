"""What a fix can change about a run, as plain records: scalings, losses, guards, rows left out, how steps are taken."""

from dataclasses import dataclass
from typing import Any

import numpy as np

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
class LogitsLoss:
    """Compute the crossentropy called `name` from logits, times a constant factor.

    The logits are what goes into the output activation, or, for `raw_outputs`, the outputs themselves.
    """

    name: str
    reduction: str = "sum_over_batch_size"
    factor: float = 1.0
    raw_outputs: bool = False


@dataclass(frozen=True)
class RobustLoss:
    """Train on `factor` times a loss of keras.losses, whose gradient is bounded; the user's own goes on judging."""

    name: str
    arguments: tuple[tuple[str, float], ...] = ()
    factor: float = 1.0


@dataclass(frozen=True)
class AdaptiveClip:
    """Clip the gradient's global norm at `share` times a running `quantile` of it, which starts at `norm`."""

    quantile: float
    share: float
    norm: float


@dataclass(frozen=True)
class Stepping:
    """How steps are taken, apart from the optimizer's own attributes.

    Every learning rate is `rate_share` times what the user's optimizers, schedules and callbacks make it, and rises in proportion
    over the first `warm_up` steps; `fresh_moments` lets the optimizer forget what it remembers of earlier steps; `loss_scale` is
    what LossScaleOptimizer starts with; `skip_nonfinite` leaves the weights alone at a step whose gradient is not finite.
    """

    rate_share: float = 1.0
    warm_up: int | None = None
    fresh_moments: bool = False
    adaptive_clip: AdaptiveClip | None = None
    loss_scale: float | None = None
    skip_nonfinite: bool = False


@dataclass(frozen=True)
class Guard:
    """Keep one operation inside its domain, `epsilon` away from where it or its gradient is not finite.

    With an `epsilon` of 0 what is divided by 0 is 0, and exponentials are relative to the largest along the last axis.
    `operation` is TensorFlow's name of it. It is guarded wherever `source` ("file.py:LINE" of the user's code) computes it or,
    where no line of the user's does, in the layer at the address `layer`. `code` is the function and the text of that line, by
    which it is found again when the file has changed.
    """

    operation: str
    source: str | None
    layer: str | None
    epsilon: float
    code: str | None = None

    @property
    def place(self) -> tuple[str, str | None, str | None]:
        return self.operation, self.source, self.layer


@dataclass(frozen=True)
class RowFilter:
    """Which rows training, validation and judging leave out, and where the class labels begin.

    A row is left out for a NaN or inf in an input (`finite_inputs`) or a target (`finite_targets`), for a value outside the
    band of its feature (`bands`, by the position of the array among inputs and then targets), and for a label outside
    0..classes - 1 after `first_label` was subtracted from every label; `labels` maps those of a binary crossentropy to 0..1.
    A row goes too for a weight that is not finite (`finite_weights`). Training also leaves out what does not fill a batch of
    `batch_rows`. As it stands, it keeps every row.
    """

    finite_inputs: bool = False
    finite_targets: bool = False
    classes: int | None = None
    first_label: int = 0
    labels: Affine | None = None
    finite_weights: bool = False
    bands: tuple[tuple[int, Affine], ...] = ()
    batch_rows: int | None = None
