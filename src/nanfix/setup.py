"""A training run as data: the user's model as it stands, a sample of its data, and the changes a fix makes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Affine:
    """The map v -> (v - center) / scale over the last axis; one number per feature, or one in all."""

    center: tuple[float, ...]
    scale: tuple[float, ...]

    def __call__(self, values):
        return (values - np.asarray(self.center, "float32")) / np.asarray(self.scale, "float32")

    def tiled(self, width: int) -> "Affine":
        """Return the same map repeated to `width` features, as flattening images repeats their channels."""
        times = width // len(self.center)
        return Affine(self.center * times, self.scale * times)


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
    """Compute a Keras crossentropy from logits, times a constant factor.

    The logits are what goes into the output activation, or, for `raw_outputs`, the outputs themselves.
    """

    name: str
    reduction: str = "sum_over_batch_size"
    factor: float = 1.0
    raw_outputs: bool = False


@dataclass(frozen=True)
class Sample:
    """A bounded sample of what training is fed, as numpy arrays in the order of the flattened structures.

    Shapes: every array (rows, ...), the same number of rows in all; `targets` is empty when there are none. `scalable`
    says of each input whether its numbers may be scaled: not class indices, and the model can take up the scaling.
    """

    inputs: tuple[np.ndarray, ...]
    targets: tuple[np.ndarray, ...]
    scalable: tuple[bool, ...] = ()
    x: Any = None  # the same inputs in the structure that the model takes


@dataclass(frozen=True)
class Setup:
    """What a run is made of, and what a fix changes about it. Nothing here is installed in the model yet.

    `optimizer` and `layers` hold changed attributes only, layers by their position in `walk`; `optimizer_class` is the name
    of another class in keras.optimizers, `inputs` the scaling of each flattened model input, `initializers` new initializers
    by layer position. `output_foldable` says whether the last layer can take up a scaling of the targets.
    """

    model: Any
    sample: Sample
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    optimizer_class: str | None = None
    layers: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    inputs: Mapping[int, Affine] = field(default_factory=dict)
    targets: TargetScaling | None = None
    loss: LogitsLoss | None = None
    initializers: Mapping[int, str] = field(default_factory=dict)
    output_foldable: bool = False
    keeps_weights: bool = True
    applied: tuple[str, ...] = field(default=())

    def with_optimizer(self, **attributes: Any) -> "Setup":
        return replace(self, optimizer={**self.optimizer, **attributes})

    def with_optimizer_class(self, name: str, **attributes: Any) -> "Setup":
        return replace(self, optimizer_class=name, optimizer=attributes)

    def with_layer(self, position: int, **attributes: Any) -> "Setup":
        changed = {**self.layers.get(position, {}), **attributes}
        return replace(self, layers={**self.layers, position: changed})

    def with_inputs(self, scaling: Mapping[int, Affine]) -> "Setup":
        return replace(self, inputs={**self.inputs, **scaling})

    def with_targets(self, scaling: TargetScaling) -> "Setup":
        return replace(self, targets=scaling)

    def with_loss(self, loss: LogitsLoss) -> "Setup":
        return replace(self, loss=loss)

    def with_initializer(self, position: int, initializer: str) -> "Setup":
        return replace(self, initializers={**self.initializers, position: initializer})

    @property
    def activations(self) -> list[tuple[int, Any]]:
        """Position and layer of every layer that has an activation of its own to change, first to last."""
        return [(position, layer) for position, layer in walk(self.model) if settable_activation(layer)]

    @property
    def user_loss(self) -> Any:
        """What the user gave `compile` as loss: a name, a function, a Loss, or a structure of them."""
        return getattr(self.model._compile_loss, "_user_loss", None)

    @property
    def learning_rate(self) -> float | None:
        """The rate the next step would use, changes included; None where the optimizer has no such number."""
        if "learning_rate" in self.optimizer:
            return self.optimizer["learning_rate"]
        return current_learning_rate(self.model)

    @property
    def clips(self) -> bool:
        """Whether the optimizer clips gradients, by the user's will or the fix's."""
        base = base_optimizer(self.model)
        return any(self.optimizer.get(name, getattr(base, name, None)) for name in ("clipnorm", "global_clipnorm", "clipvalue"))


def walk(model: Any) -> Iterator[tuple[int, Any]]:
    """Yield (position, layer) for every layer of the model, nested ones included, in a stable order."""
    yield from enumerate(layer for layer in model._flatten_layers(include_self=False, recursive=True))


def settable_activation(layer: Any) -> bool:
    """Say whether the layer's activation is its own to change; a recurrent layer's belongs to its cell."""
    return "activation" in vars(layer) and callable(layer.activation)


def loss_name(loss: Any) -> str:
    """Return the snake_case name of a stock Keras loss, or of whatever function or class the user passed."""
    if isinstance(loss, str):
        name = loss
    else:
        fn = getattr(loss, "fn", loss)
        name = getattr(fn, "__name__", type(fn).__name__)
    short = {"mse": "mean_squared_error", "mae": "mean_absolute_error", "crossentropy": "categorical_crossentropy"}
    return short.get(name, name)


def base_optimizer(model: Any) -> Any:
    """Return the optimizer that clips and updates: the inner one where a loss scale is wrapped round it."""
    optimizer = model.optimizer
    return getattr(optimizer, "inner_optimizer", optimizer)


def current_learning_rate(model: Any) -> float | None:
    """Return the rate the model's next step would use, or None where its optimizer has no such number."""
    rate = getattr(base_optimizer(model), "learning_rate", None)
    return None if rate is None else float(np.asarray(rate))
