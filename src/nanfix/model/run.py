"""A training run as facts: the user's model, a sample of its data, and what can be done to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from nanfix.model.activations import activation_name, is_bounded, with_activations
from nanfix.model.addresses import Member, walk
from nanfix.model.optimizers import trained_optimizers
from nanfix.private.objects import given_loss, learning_rate_of

if TYPE_CHECKING:
    import keras

    from nanfix.model.crossentropies import UserLoss

# Shares of the past that an optimizer keeps: at least 0, below 1.
DECAYS = ("momentum", "rho", "beta_1", "beta_2")
# A smaller epsilon vanishes beside what it is added to, and the division is by zero after all.
SMALLEST_EPSILON = 1e-12
RECURRENT_CELLS = {"LSTMCell", "GRUCell", "SimpleRNNCell"}
Statistics = tuple[list[float], list[float]]  # mean and variance


@dataclass(frozen=True)
class Sample:
    """A bounded sample of what training is fed, as numpy arrays in the order of the
    flattened structures.

    Shapes: every array (rows, ...), the same number of rows in all; `targets` is empty when there
    are none. Ragged and sparse inputs are seen by the largest magnitude of each row, what has no
    numbers has no columns. `quantities` says of each input whether its numbers mean one, so that
    their scale can matter; `scalable` whether the model can also take up a scaling of them;
    `imputable` whether it can have holes, and the model can take up what fills them. `unfilterable`
    says why no rows can be left out of these data, None where they can. `whole` are the user's own
    inputs, targets and sample weights, all rows of them; None for a stream, of which only a part is
    known. `batch_size` is the number of rows in a full batch, of a stream as far as seen,
    `training_rows` that of the rows trained on, None for a stream. `names` are those of the model's
    inputs, as `addresses.input_names` gives them; None for what the model is fed and ignores.
    `paths` are the keys and numbers by which each stands in what the model takes.
    `codes` are the numbers that stand for a missing value, by name of the input and by column.
    `target_names` are the keys of targets that are given in a dict. `rows_at_once` is the number of
    rows that the model takes, None where it takes any. `passed_by` says that a training step of the
    user's own does not call the model, so that nothing acts that stands in front of that; `folds`
    says of each input that such a step gives it to layers alone that can take up any scaling of it.
    `categories` are the columns, by name of the input, whose numbers are names of something, or go
    into formulas alone that no scaling may change, and `keep_zero` the names of the inputs in which
    0 has to stay 0.
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
    paths: tuple[tuple[str | int, ...], ...] = ()
    codes: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    target_names: frozenset[str] = frozenset()
    rows_at_once: int | None = None
    passed_by: bool = False
    folds: tuple[bool, ...] = ()
    categories: Mapping[str, frozenset[int]] = field(default_factory=dict)
    keep_zero: frozenset[str] = frozenset()

    @property
    def measured(self) -> tuple[np.ndarray, ...]:
        """The inputs whose numbers mean a quantity."""
        return tuple(
            array
            for array, quantity in zip(self.inputs, self.quantities or self.scalable, strict=True)
            if quantity
        )

    def outline(self) -> "Sample":
        """Return the same facts without a row of the data."""
        whole = (
            None
            if self.whole is None
            else tuple(tuple(array[:0] for array in part) for part in self.whole)
        )
        inputs, targets = (
            tuple(array[:0] for array in part) for part in (self.inputs, self.targets)
        )
        return replace(self, inputs=inputs, targets=targets, x=None, whole=whole)

    def named(self, marks: Sequence[bool]) -> dict[str, np.ndarray]:
        """Return by name the inputs that are marked, as `scalable` and `imputable` mark them."""
        count = len(self.inputs)
        names, marks = self.names or (None,) * count, marks or (False,) * count
        given = zip(names, self.inputs, marks, strict=True)
        return {name: array for name, array, marked in given if marked and name is not None}


@dataclass(frozen=True)
class Run:
    """What a training is made of: facts, read once. What is to be changed about it
    stands in a `Plan`.

    Layers are known by their address, inputs by their name (`addresses`).

    Attributes:
        model: the user's model; strategies look at it and change nothing.
        sample: a bounded sample of the data.
        members: the layers by address, as they were when the run was described.
        user_loss: what the user gave `compile` as loss: a name, a function, a Loss, or a structure
            of several; a single one in a structure is that alone.
        learning_rate: the rate of the first optimizer; None where it has no such number.
        scalable_outputs: the names of the outputs that can take up a scaling of their targets.
        normalizable: the addresses of the layers in front of which a normalization can be put.
        rebuildable: whether layers can be put behind the inputs.
        ruined: the layers with whose mean and variance nothing finite can be computed, each with
            those that suit the data, if they are known.
        nonfinite: the weights that held NaN or inf when the run began, by address of their layer
            and name, each with the mean and the deviation of numbers that suit these entries.
        zeroed: the addresses of the layers whose kernel holds nothing but zeros, as it began.
        learned: the addresses of the layers that hold what was learned before this training.
        planned_steps: the length of the run in steps, where it is known.
        rate_varies: whether a LearningRateScheduler sets the learning rate in its course.
        rate_is_set: whether any callback sets it, whatever it was before.
        outputs: for each output the address of the layer that gives it, None for one that another
            operation gives; None where that was not seen.
        output_keys: the keys of the dict that the outputs are given in, in the order of the
            outputs; none without one.
        output_shapes: what each output has for every row.
        columns: for each output which layers give its columns, by address, and how many each, None
            for those that another operation gives; none where that is not known.
        class_weight: what `fit` was given to weigh classes by, by their labels.
        ends: the names of the outputs, behind which something can be computed; none where nothing
            can.
    """

    model: "keras.Model"
    sample: Sample
    members: Mapping[str, Member] = field(default_factory=dict)
    user_loss: "UserLoss" = None
    learning_rate: float | None = None
    scalable_outputs: tuple[str, ...] = ()
    normalizable: tuple[str, ...] = ()
    rebuildable: bool = False
    ruined: Mapping[str, Statistics | None] = field(default_factory=dict)
    nonfinite: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    zeroed: frozenset[str] = frozenset()
    learned: frozenset[str] = frozenset()
    planned_steps: int | None = None
    rate_varies: bool = False
    rate_is_set: bool = False
    outputs: tuple[str | None, ...] | None = None
    output_keys: tuple[str, ...] = ()
    output_shapes: tuple[tuple[int, ...], ...] = ()
    columns: tuple[tuple[tuple[str | None, int], ...], ...] = ()
    ends: tuple[str, ...] = ()
    class_weight: Mapping[int, float] | None = None

    @classmethod
    def of(cls, model: "keras.Model", sample: Sample, **facts: Any) -> "Run":
        """Return the run of a compiled model; what can be read off the model is read
        now, `facts` are the other ones.
        """
        from keras import tree  # loads TensorFlow

        from nanfix.model.nonfinite_weights import nonfinite_weights

        loss, rate = given_loss(model), current_learning_rate(model)
        alone = tree.flatten(loss)

        return cls(
            model,
            sample,
            members=dict(walk(model)),
            user_loss=alone[0] if len(alone) == 1 else loss,
            learning_rate=rate,
            nonfinite=nonfinite_weights(model),
            **facts,
        )

    def outline(self) -> "Run":
        """Return the same facts with a sample that holds no row of the data."""
        return replace(self, sample=self.sample.outline())

    @property
    def activations(self) -> "list[tuple[str, keras.Layer]]":
        """Address and layer of every layer that has an activation, first to last; see
        `with_activations`.
        """
        return with_activations(list(self.members.items()), self.outputs or ())

    @property
    def output_activations(self) -> "list[tuple[str, keras.Layer]]":
        """Those of `activations` that give an output; the last one, where that was not seen."""
        found = self.activations
        return found[-1:] if self.outputs is None else [e for e in found if e[0] in self.outputs]

    @property
    def hidden_activations(self) -> "list[tuple[str, keras.Layer]]":
        """Those of `activations` that give no output, nor columns of one."""
        outer = {address for address, _ in self.output_activations}
        outer |= {address for output in self.columns for address, _ in output if address}
        return [each for each in self.activations if each[0] not in outer]

    @property
    def output_activation(self) -> "tuple[str, keras.Layer] | None":
        """That of `activations` which gives the only output; None where there is no such."""
        several = self.outputs is not None and len(self.outputs) > 1
        return None if several else next(iter(self.output_activations), None)

    @property
    def output_name(self) -> str:
        """The name of the activation that gives the only output, "linear" where none does."""
        found = self.output_activation
        return "linear" if found is None else activation_name(found[1])

    @property
    def optimizers(self) -> "list[keras.optimizers.Optimizer]":
        """The optimizers that the training step calls."""
        return trained_optimizers(self.model)

    @property
    def has_one_rate(self) -> bool:
        """Whether a single number is the learning rate of the whole training: no
        schedule, and not several optimizers.
        """
        return not has_schedule(self.model) and len(self.optimizers) == 1

    @property
    def has_stock_step(self) -> bool:
        """Whether the model trains with Keras' own training step."""
        return has_stock_step(self.model)

    def address_of(self, name: str | None) -> str | None:
        """Return the address of the layer called `name`, if the model has one."""
        return next((at for at, layer in self.members.items() if layer.name == name), None)

    @property
    def has_stock_objective(self) -> bool:
        """Whether the loss that is trained on is computed by Keras' own method, in
        Keras' own training step.
        """
        import keras

        return self.has_stock_step and type(self.model).compute_loss is keras.Model.compute_loss

    @property
    def decays_out_of_range(self) -> dict[str, float]:
        """The decays of the optimizer by which what it remembers does not fade."""
        given = [(name, getattr(each, name, None)) for each in self.optimizers for name in DECAYS]
        return {
            name: value
            for name, value in given
            if isinstance(value, float | int) and not fades(value)
        }

    @property
    def replicas(self) -> int:
        """The number of devices that train together."""
        return self.model.distribute_strategy.num_replicas_in_sync


def fades(decay: float) -> bool:
    """Say whether what is kept with such a decay gets less at each step."""
    return 0 <= decay < 1


def smallest_epsilon(run: Run) -> float:
    """Return the least epsilon of an optimizer that counts beside the root of a squared gradient:
    in half precision the square of a smaller gradient is 0.
    """
    kinds = {
        getattr(weight.dtype, "name", weight.dtype) for weight in run.model.trainable_variables
    }
    least = [float(ml_dtypes.finfo(kind).smallest_subnormal) ** 0.5 for kind in kinds]
    return max([SMALLEST_EPSILON, *least])


def lost_epsilons(run: Run) -> list[float]:
    """Return the epsilons of the optimizers that are too small to count."""
    given = [getattr(each, "epsilon", None) for each in trained_optimizers(run.model)]
    least = smallest_epsilon(run)
    return [each for each in given if isinstance(each, float | int) and each < least]


def unbounded_recurrences(run: Run) -> "list[keras.Layer]":
    """Return the recurrent cells whose activation is not bounded, so that they can feed
    themselves ever more.
    """
    cells = [layer for _, layer in run.activations if type(layer).__name__ in RECURRENT_CELLS]
    return [cell for cell in cells if not is_bounded(cell.activation)]


def linear_throughout(run: Run) -> "list[keras.Layer]":
    """Return the hidden layers of a model in which none of them has an activation; an
    empty list for any other.
    """
    hidden = [layer for _, layer in run.hidden_activations]
    return hidden if all(activation_name(layer) == "linear" for layer in hidden) else []


def base_optimizer(model: "keras.Model") -> Any:
    """Return the optimizer that clips and updates, the first of several; None where the
    model has none.
    """
    return next(iter(trained_optimizers(model)), None)


def has_stock_step(model: "keras.Model") -> bool:
    """Say whether a model trains with Keras' own training step."""
    import keras  # loads TensorFlow

    return type(model).train_step is keras.Model.train_step


def has_schedule(model: "keras.Model") -> bool:
    """Say whether a learning rate is a schedule or a function, and not a number."""
    import keras  # loads TensorFlow

    rates = (learning_rate_of(optimizer) for optimizer in trained_optimizers(model))
    return any(callable(rate) and not isinstance(rate, keras.Variable) for rate in rates)


def current_learning_rate(model: "keras.Model") -> float | None:
    """Return the rate the model's next step would use, of its first optimizer; None
    where that has no such number.
    """
    rate = getattr(base_optimizer(model), "learning_rate", None)
    return None if rate is None else float(np.asarray(rate))
