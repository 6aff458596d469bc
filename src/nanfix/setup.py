"""A training run as data: the user's model as it stands, a sample of its data, and the changes a fix makes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

RECURRENT_CELLS = {"LSTMCell", "GRUCell", "SimpleRNNCell"}
BOUNDED = {"tanh", "sigmoid", "hard_sigmoid", "hard_tanh", "softsign", "softmax", "relu6", "tanh_shrink", "sparse_sigmoid"}
ACTIVATION_LAYERS = {"ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu", "PReLU": "prelu", "Softmax": "softmax"}


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

    @property
    def class_name(self) -> str:
        """The name of the loss' class in keras.losses."""
        return "".join(part.capitalize() for part in self.name.split("_"))


@dataclass(frozen=True)
class Guard:
    """Keep one operation inside its domain, `epsilon` away from where it or its gradient is not finite.

    `operation` is TensorFlow's name of it. It is guarded wherever `source` ("file.py:LINE" of the user's code) computes it
    or, where no line of the user's does, in the layer at the position `layer` in `walk`.
    """

    operation: str
    source: str | None
    layer: int | None
    epsilon: float

    @property
    def place(self) -> tuple[str, str | None, int | None]:
        return self.operation, self.source, self.layer


@dataclass(frozen=True)
class RowFilter:
    """Which rows training, validation and judging leave out, and where the class labels begin.

    A row is left out for a NaN or inf in an input (`finite_inputs`) or a target (`finite_targets`), and for a label
    outside 0..classes - 1 after `first_label` was subtracted from every label. As it stands, it keeps every row.
    """

    finite_inputs: bool = False
    finite_targets: bool = False
    classes: int | None = None
    first_label: int = 0

    def keep(self, inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
        """Return for each row whether it is kept. Shapes: arrays (rows, ...); labels as the user has them."""
        checks = [np.isfinite(a) for a in inputs if self.finite_inputs and a.dtype.kind == "f"]
        checks += [np.isfinite(a) for a in targets if self.finite_targets and a.dtype.kind == "f"]
        if self.classes is not None:
            checks += [(a >= self.first_label) & (a < self.first_label + self.classes) for a in targets]
        kept = np.ones(len([*inputs, *targets][0]), bool)
        for check in checks:
            kept &= check.reshape(len(check), -1).all(axis=1)
        return kept


@dataclass(frozen=True)
class Sample:
    """A bounded sample of what training is fed, as numpy arrays in the order of the flattened structures.

    Shapes: every array (rows, ...), the same number of rows in all; `targets` is empty when there are none. `scalable`
    says of each input whether its numbers may be scaled: not class indices, and the model can take up the scaling;
    `imputable` whether it can have holes, and the model can take up what fills them. `whole` are the user's own inputs and
    targets, all rows of them, and `batch_size` what they are cut into; None for a stream, of which only a part is known.
    """

    inputs: tuple[np.ndarray, ...]
    targets: tuple[np.ndarray, ...]
    scalable: tuple[bool, ...] = ()
    x: Any = None  # the same inputs in the structure that the model takes
    imputable: tuple[bool, ...] = ()
    whole: tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]] | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Setup:
    """What a run is made of, and what a fix changes about it. Nothing here is installed in the model yet.

    `optimizer` and `layers` hold changed attributes only, layers by their position in `walk`; `optimizer_class` is the name
    of another class in keras.optimizers, `inputs` the scaling of each flattened model input, `initializers` new initializers
    by layer position, `fills` what takes the place of the non-finite cells of each flattened model input, one number per
    feature, `rows` the rows that are left out, `guards` the operations that are kept inside their domain. `output_foldable`
    says whether the last layer can take up a scaling of the targets.
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
    fills: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    rows: RowFilter = RowFilter()
    guards: tuple[Guard, ...] = ()
    output_foldable: bool = False
    keeps_weights: bool = True

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

    def with_fills(self, fills: Mapping[int, tuple[float, ...]]) -> "Setup":
        return replace(self, fills={**self.fills, **fills})

    def with_guard(self, guard: Guard) -> "Setup":
        return replace(self, guards=(*(g for g in self.guards if g.place != guard.place), guard))

    def with_rows(self, **changes: Any) -> "Setup":
        return replace(self, rows=replace(self.rows, **changes))

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
    """Yield (position, layer) for every layer of the model, nested ones included, in a stable order.

    Input layers are left out, as Keras leaves them out of the layers of a Sequential model. Operations on symbolic tensors
    (`keras.ops.log(x)` in a Functional model), which are nodes like layers, come after them.
    """
    layers = model._flatten_layers(include_self=True, recursive=True)
    nodes = {id(node): node for layer in layers for node in getattr(layer, "operations", [])}
    operations = [node for node in nodes.values() if not hasattr(node, "_flatten_layers")]
    yield from enumerate([*(la for la in layers[1:] if type(la).__name__ != "InputLayer"), *operations])


def settable_activation(layer: Any) -> bool:
    """Say whether the layer's activation is its own to change; a recurrent layer's belongs to its cell."""
    return "activation" in vars(layer) and callable(layer.activation)


def unbounded_recurrences(setup: Setup) -> list[Any]:
    """Return the recurrent cells whose activation is not bounded, so that they can feed themselves ever more."""
    cells = [layer for _, layer in setup.activations if type(layer).__name__ in RECURRENT_CELLS]
    return [cell for cell in cells if activation_name(cell) not in BOUNDED]


def linear_throughout(setup: Setup) -> list[Any]:
    """Return the hidden layers of a model in which none of them has an activation; an empty list for any other."""
    hidden = [layer for _, layer in setup.activations[:-1]]
    return hidden if all(activation_name(layer) == "linear" for layer in hidden) else []


def activation_name(layer: Any) -> str:
    """Return the name of a layer's activation as Keras spells it in an argument, also where it is given as a layer."""
    kind = type(layer.activation).__name__
    return getattr(layer.activation, "__name__", ACTIVATION_LAYERS.get(kind, kind))


def loss_name(loss: Any) -> str:
    """Return the snake_case name of a stock Keras loss, or of whatever function or class the user passed."""
    if isinstance(loss, str):
        import keras

        loss = keras.losses.get(loss)
    function = getattr(loss, "fn", loss)
    return getattr(function, "__name__", type(function).__name__)


def takes_logits(loss: Any) -> bool:
    """Say whether a stock crossentropy was asked to work on logits."""
    return bool(getattr(loss, "from_logits", False) or getattr(loss, "_fn_kwargs", {}).get("from_logits"))


def base_optimizer(model: Any) -> Any:
    """Return the optimizer that clips and updates: the inner one where a loss scale is wrapped round it."""
    optimizer = model.optimizer
    return getattr(optimizer, "inner_optimizer", optimizer)


def current_learning_rate(model: Any) -> float | None:
    """Return the rate the model's next step would use, or None where its optimizer has no such number."""
    rate = getattr(base_optimizer(model), "learning_rate", None)
    return None if rate is None else float(np.asarray(rate))


def scaled_schedule(schedule: Any, factor: float) -> Any:
    """Return the same stock schedule with every rate in it multiplied by `factor`."""
    config = schedule.get_config()
    for name in ("initial_learning_rate", "end_learning_rate", "warmup_target"):
        if isinstance(config.get(name), float | int):
            config[name] = config[name] * factor
    if "values" in config:
        config["values"] = [value * factor for value in config["values"]]
    return type(schedule).from_config(config)
