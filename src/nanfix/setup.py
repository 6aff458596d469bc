"""A training run as data: the user's model as it stands, a sample of its data, and the changes a fix makes."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nanfix.activations import activation_name, is_bounded, with_activations
from nanfix.addresses import walk
from nanfix.changes import Affine, Guard, LogitsLoss, Power, RobustLoss, RowFilter, Stepping, TargetScaling
from nanfix.errors import InputError
from nanfix.optimizers import trained_optimizers
from nanfix.private.objects import given_loss, learning_rate_of

DECAYS = ("momentum", "rho", "beta_1", "beta_2")  # shares of the past that an optimizer keeps: at least 0, below 1
RECURRENT_CELLS = {"LSTMCell", "GRUCell", "SimpleRNNCell"}


KERNELS = {  # what may hold for each kind of kernel; that of a DepthwiseConv2D is called "kernel", too
    "kernel": ("kernel_constraint", "depthwise_constraint"),
    "recurrent_kernel": ("recurrent_constraint",),
    "depthwise_kernel": ("depthwise_constraint",),
    "pointwise_kernel": ("pointwise_constraint",),
}


@dataclass(frozen=True)
class Sample:
    """A bounded sample of what training is fed, as numpy arrays in the order of the flattened structures.

    Shapes: every array (rows, ...), the same number of rows in all; `targets` is empty when there are none. Ragged and sparse
    inputs are seen by the largest magnitude of each row, what has no numbers has no columns. `quantities` says of each input
    whether its numbers mean one, so that their scale can matter; `scalable` whether the model can also take up a scaling of
    them; `imputable` whether it can have holes, and the model can take up what fills them. `unfilterable` says why no rows can
    be left out of these data, None where they can. `whole` are the user's own inputs,
    targets and sample weights, all rows of them; None for a stream, of which only a part is known. `batch_size` is the number
    of rows in a full batch, of a stream as far as seen, `training_rows` that of the rows trained on, None for a stream. `names`
    are those of the model's inputs, as `addresses.input_names` gives them; None for what the model is fed and ignores.
    """

    inputs: tuple[np.ndarray, ...]
    targets: tuple[np.ndarray, ...]
    scalable: tuple[bool, ...] = ()
    x: Any = None  # the same inputs in the structure that the model takes
    imputable: tuple[bool, ...] = ()
    whole: tuple[tuple[np.ndarray, ...], ...] | None = None
    batch_size: int | None = None
    training_rows: int | None = None
    quantities: tuple[bool, ...] = ()
    unfilterable: str | None = None
    names: tuple[str | None, ...] = ()

    @property
    def measured(self) -> tuple[np.ndarray, ...]:
        """The inputs whose numbers mean a quantity."""
        return tuple(array for array, quantity in zip(self.inputs, self.quantities or self.scalable, strict=True) if quantity)

    def named(self, marks: Sequence[bool]) -> dict[str, np.ndarray]:
        """Return by name the inputs that are marked, as `scalable` and `imputable` mark them."""
        given = zip(self.names, self.inputs, marks or (False,) * len(self.inputs), strict=True)
        return {name: array for name, array, marked in given if marked and name is not None}


@dataclass(frozen=True)
class Setup:
    """What a run is made of, and what a fix changes about it. Nothing here is installed in the model yet.

    Layers are known by their address, inputs by their name (`addresses`). `members` are the layers when the run was described,
    also after a repair has put others between them. `optimizer` and `layers` hold changed attributes only; `optimizer_class`
    is the name of another class in keras.optimizers, `inputs` the scaling of each input, `initializers` new initializers by
    layer, `fills` what takes the place of the non-finite cells of each input, one number per feature, `rows` the rows that are
    left out, `guards` the operations that are kept inside their domain, `stepping` how steps are taken, `normalized` the layers
    whose inputs are normalized. `output_foldable` says whether the model can take up a scaling of the targets, `normalizable`
    the layers in front of which one can be put, `rebuildable` whether layers can be put behind the inputs, `ruined` the
    Normalization layers that were adapted to data with holes, each with the input that goes straight into it, if one does,
    `planned_steps` the length of the run where it is known, and `rate_varies` whether a callback sets the learning rate in its
    course.
    """

    model: Any
    sample: Sample
    members: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    optimizer_class: str | None = None
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stepping: Stepping = field(default_factory=Stepping)
    inputs: Mapping[str, Affine | Power] = field(default_factory=dict)
    targets: TargetScaling | None = None
    loss: LogitsLoss | RobustLoss | None = None
    initializers: Mapping[str, str] = field(default_factory=dict)
    fills: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    rows: RowFilter = field(default_factory=RowFilter)
    guards: tuple[Guard, ...] = ()
    normalized: tuple[str, ...] = ()
    output_foldable: bool = False
    normalizable: tuple[str, ...] = ()
    rebuildable: bool = False
    ruined: Mapping[str, str | None] = field(default_factory=dict)
    planned_steps: int | None = None
    rate_varies: bool = False
    keeps_weights: bool = True

    def with_optimizer(self, **attributes: Any) -> "Setup":
        return replace(self, optimizer={**self.optimizer, **attributes})

    def with_optimizer_class(self, name: str, **attributes: Any) -> "Setup":
        return replace(self, optimizer_class=name, optimizer=attributes)

    def with_stepping(self, **changes: Any) -> "Setup":
        return replace(self, stepping=replace(self.stepping, **changes))

    def with_layer(self, address: str, **attributes: Any) -> "Setup":
        self._check_layers(address)
        changed = {**self.layers.get(address, {}), **attributes}
        return replace(self, layers={**self.layers, address: changed})

    def with_inputs(self, scaling: Mapping[str, Affine | Power]) -> "Setup":
        self._check_inputs({name: change.width for name, change in scaling.items()})
        return replace(self, inputs={**self.inputs, **scaling})

    def with_targets(self, scaling: TargetScaling) -> "Setup":
        return replace(self, targets=scaling)

    def with_loss(self, loss: LogitsLoss | RobustLoss) -> "Setup":
        return replace(self, loss=loss)

    def with_initializer(self, address: str, initializer: str) -> "Setup":
        self._check_layers(address)
        return replace(self, initializers={**self.initializers, address: initializer})

    def with_fills(self, fills: Mapping[str, tuple[float, ...]]) -> "Setup":
        self._check_inputs({name: len(fill) for name, fill in fills.items()})
        return replace(self, fills={**self.fills, **fills})

    def with_guard(self, guard: Guard) -> "Setup":
        if guard.layer is not None:
            self._check_layers(guard.layer)
        return replace(self, guards=(*(g for g in self.guards if g.place != guard.place), guard))

    def with_normalization(self, addresses: Iterable[str]) -> "Setup":
        addresses = {*self.normalized, *addresses}
        self._check_layers(*addresses)
        return replace(self, normalized=tuple(address for address in self.members if address in addresses))

    def with_rows(self, **changes: Any) -> "Setup":
        return replace(self, rows=replace(self.rows, **changes))

    @property
    def changed_layers(self) -> set[str]:
        """The addresses of the layers that the changes name."""
        guarded = {guard.layer for guard in self.guards if guard.layer is not None}
        return {*self.layers, *self.initializers, *self.normalized, *guarded}

    def _check_layers(self, *addresses: str) -> None:
        _check_known("layer", addresses, self.members or dict(walk(self.model)))

    def _check_inputs(self, widths: Mapping[str, int]) -> None:
        """Raise InputError for an input that the model has not, or that has another number of features."""
        known = {name: array for name, array in zip(self.sample.names, self.sample.inputs, strict=True) if name is not None}
        _check_known("input", widths, known)
        for name, width in widths.items():
            features = known[name].shape[-1] if known[name].ndim > 1 else 1
            if width not in (1, features):
                raise InputError(
                    f"The fix was found for another input {name!r}. Expected: {width} features. Received: {features}. "
                    "Search again for these data."
                )

    @property
    def activations(self) -> list[tuple[str, Any]]:
        """Address and layer of every layer that has an activation, first to last; see `with_activations`."""
        return with_activations(list(walk(self.model)))

    @property
    def activations_described(self) -> list[tuple[str, Any]]:
        """The same of the layers that the model had when the run was described."""
        return with_activations(list(self.members.items()))

    @property
    def user_loss(self) -> Any:
        """What the user gave `compile` as loss: a name, a function, a Loss, or a structure of them."""
        return given_loss(self.model)

    @property
    def learning_rate(self) -> float | None:
        """The rate the next step would use, changes included; None where the optimizer has no such number."""
        rate = self.optimizer.get("learning_rate", current_learning_rate(self.model))
        return None if rate is None else self.stepping.rate_share * rate

    @property
    def has_one_rate(self) -> bool:
        """Whether a single number is the learning rate of the whole training: neither schedule nor callbacks nor several."""
        if self.optimizer_class is not None:
            return not self.rate_varies
        return not self.rate_varies and not has_schedule(self.model) and len(trained_optimizers(self.model)) == 1

    @property
    def has_stock_step(self) -> bool:
        """Whether the model trains with Keras' own training step."""
        import keras  # loads TensorFlow

        return type(self.model).train_step is keras.Model.train_step

    @property
    def has_stock_objective(self) -> bool:
        """Whether the loss that is trained on is computed by Keras' own method, in Keras' own training step."""
        import keras

        return self.has_stock_step and type(self.model).compute_loss is keras.Model.compute_loss

    @property
    def decay_of_a_step(self) -> float:
        """The share of itself that a weight loses at each step by weight decay; from 1 on it turns over."""
        rate = self.learning_rate
        decays = [getattr(optimizer, "weight_decay", None) or 0.0 for optimizer in trained_optimizers(self.model)]
        return 0.0 if rate is None else rate * max(decays, key=abs, default=0.0)

    @property
    def decays_out_of_range(self) -> dict[str, float]:
        """The decays of the optimizer by which what it remembers does not fade."""
        given = [(name, getattr(each, name, None)) for each in trained_optimizers(self.model) for name in DECAYS]
        return {name: value for name, value in given if isinstance(value, float | int) and not fades(value)}

    @property
    def replicas(self) -> int:
        """The number of devices that train together."""
        return self.model.distribute_strategy.num_replicas_in_sync

    @property
    def clips(self) -> bool:
        """Whether the optimizer clips gradients, by the user's will or the fix's."""
        names, each = ("clipnorm", "global_clipnorm", "clipvalue"), trained_optimizers(self.model)
        return any(self.optimizer.get(name, getattr(optimizer, name, None)) for optimizer in each for name in names)


def _check_known(what: str, wanted: Iterable[str], known: Collection[str]) -> None:
    """Raise InputError when a layer or input that a change names is not one that the model has."""
    missing = [name for name in wanted if name not in known]
    if missing:
        raise InputError(
            f"The model has no {what} {missing[0]!r}. Expected: a fix that was made for this model, whose {what}s are "
            f"{', '.join(known) or 'none'}. Received: one that changes {what} {missing[0]!r}. Repair this model anew."
        )


def kernels(layer: Any) -> dict[str, str]:
    """Return the kernels that a layer has, each with the name of its constraint, where that can be set."""
    held = {name: arguments for name, arguments in KERNELS.items() if getattr(layer, name, None) is not None}
    found = {name: next((a for a in arguments if hasattr(layer, a)), None) for name, arguments in held.items()}
    return {name: argument for name, argument in found.items() if argument is not None}


def fades(decay: float) -> bool:
    """Say whether what is kept with such a decay gets less at each step."""
    return 0 <= decay < 1


def unbounded_recurrences(setup: Setup) -> list[Any]:
    """Return the recurrent cells whose activation is not bounded, so that they can feed themselves ever more."""
    cells = [layer for _, layer in setup.activations if type(layer).__name__ in RECURRENT_CELLS]
    return [cell for cell in cells if not is_bounded(cell.activation)]


def linear_throughout(setup: Setup) -> list[Any]:
    """Return the hidden layers of a model in which none of them has an activation; an empty list for any other."""
    hidden = [layer for _, layer in setup.activations[:-1]]
    return hidden if all(activation_name(layer) == "linear" for layer in hidden) else []


def loss_name(loss: Any) -> str:
    """Return the snake_case name of a stock Keras loss, or of whatever function or class the user passed."""
    if isinstance(loss, str):
        import keras

        loss = keras.losses.get(loss)
    function = getattr(loss, "fn", loss)
    return getattr(function, "__name__", type(function).__name__)


def takes_logits(loss: Any) -> bool:
    """Say whether a stock crossentropy was asked to work on logits."""
    return bool(getattr(loss, "from_logits", False))


def base_optimizer(model: Any) -> Any:
    """Return the optimizer that clips and updates, the first of several; None where the model has none."""
    return next(iter(trained_optimizers(model)), None)


def has_schedule(model: Any) -> bool:
    """Say whether a learning rate is a schedule or a function, and not a number."""
    import keras  # loads TensorFlow

    rates = (learning_rate_of(optimizer) for optimizer in trained_optimizers(model))
    return any(callable(rate) and not isinstance(rate, keras.Variable) for rate in rates)


def current_learning_rate(model: Any) -> float | None:
    """Return the rate the model's next step would use, of its first optimizer; None where that has no such number."""
    rate = getattr(base_optimizer(model), "learning_rate", None)
    return None if rate is None else float(np.asarray(rate))
