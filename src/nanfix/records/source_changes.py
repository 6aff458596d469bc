"""What a fix changes in the user's own source, as records: which call, which argument, which line.
Plain JSON, as in a fix.json.

Expressions in them are Python in which `keras`, `np` and `tf` stand for these packages, under
whatever name the source has them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from nanfix.records.cast_change import CastChange
from nanfix.records.loss_change import LossChange
from nanfix.records.plurals import counted
from nanfix.records.rows_change import RowsChange
from nanfix.records.source_places import FROZEN, Made, PlacedChange
from nanfix.records.unsafe_operations import (
    CONSTANT,
    DIFFERENCES,
    LOG_OF_EXPONENTIALS,
    SHARES_OF_EXPONENTIALS,
)


class ArgumentChange(PlacedChange):
    """Call `target` with the argument `name`, the `position`-th where it may be given without its
    name, set to `value`; `definitions` are what has to be defined for that.
    """

    kind: Literal["argument"] = "argument"
    target: Made
    name: str
    value: str
    position: int | None = None
    definitions: list[str] = Field(default_factory=list)

    @property
    def subject(self):
        return self.kind, self.target.place, self.target.callee, self.name

    @property
    def where(self):
        return str(self.target.place)

    def __str__(self):
        return f"{self.name}={self.value} in {self.target.callee}"


class OptimizerChange(PlacedChange):
    """Train with other arguments of the optimizer, or with another class of
    keras.optimizers that has these alone.

    `target` is the call that makes the optimizer, that of `compile` for one given by a description;
    both, and the call of `fit` in front of which its attributes can be set, are None where the
    user's own code does not hold them. None as a value takes an argument away. `loss_scale` is the
    initial scale of a LossScaleOptimizer round it.
    """

    kind: Literal["optimizer"] = "optimizer"
    target: Made | None
    compiled: Made | None
    fit: Made | None
    name: str
    inner: bool = False
    new_class: str | None = None
    arguments: dict[str, str | None] = Field(default_factory=dict)
    positions: dict[str, int] = Field(default_factory=dict)
    loss_scale: float | None = None

    @property
    def subject(self):
        return (self.kind, "" if self.target is None else str(self.target.place))

    @property
    def where(self):
        made = self.target or self.compiled or self.fit
        return None if made is None else str(made.place)

    def __str__(self):
        given = ", ".join(
            f"{name}={value}" for name, value in self.arguments.items() if value is not None
        )
        scaled = (
            "" if self.loss_scale is None else f", in a LossScaleOptimizer from {self.loss_scale:g}"
        )
        return f"{self.new_class or self.name}({given}){scaled}"


class LayerChange(PlacedChange):
    """Put new layers before or after the one that `target` makes, first in the list that it is
    given, or round the outputs of the graph that it is given, all or the one at `position`; where
    that has no place, before what `otherwise` makes.

    `layers` are expressions, `numbers` the vectors that they name, `definitions` what has to be
    defined for them. `model` is the call that makes the model of the tensors. `fills` says that
    they fill holes.
    """

    kind: Literal["layer"] = "layer"
    target: Made | None
    side: Literal["before", "after", "first", "outputs"]
    layers: list[str]
    role: str
    numbers: dict[str, list[float]] = Field(default_factory=dict)
    definitions: list[str] = Field(default_factory=list)
    otherwise: Made | None = None
    model: Made | None = None
    fills: bool = False
    position: int | None = None

    @property
    def subject(self):
        return self.kind, self.target, self.side, self.role, self.position

    @property
    def where(self):
        made = self.target or self.otherwise
        return None if made is None else str(made.place)

    def __str__(self):
        layers = [layer.removeprefix("keras.layers.").partition("(")[0] for layer in self.layers]
        beside = self.target or self.otherwise
        side = {"first": "first in", "outputs": "round the outputs of"}.get(self.side, self.side)
        return (
            f"{', '.join(layers)} {side} "
            f"{beside.callee.removesuffix('Layer') if beside else 'the layer'}"
        )


class CallInput(BaseModel):
    """The layers that an input goes through first, with their numbers and definitions: the one of
    this `key` or number among what the call takes, all of it for None.
    """

    model_config = FROZEN

    key: str | int | None = None
    layers: list[str]
    numbers: dict[str, list[float]] = Field(default_factory=dict)
    definitions: list[str] = Field(default_factory=list)


class CallChange(PlacedChange):
    """Let the `call` at `line` of `file`, of the class of model that `target` makes, scale what
    goes in and what comes out, or give that an activation.

    `inputs` are those that are changed, of so many (`count`). `activation` is the function, with
    its `definitions`, that the outputs go through, `outputs` the scale and center, as source, that
    they are multiplied by and moved to after it.
    """

    kind: Literal["call"] = "call"
    file: str
    line: int
    target: Made
    inputs: list[CallInput] = Field(default_factory=list)
    count: int = 1
    definitions: list[str] = Field(default_factory=list)
    outputs: tuple[str, str] | None = None
    activation: str | None = None

    @property
    def subject(self):
        return (self.kind,)

    def joined(self, later):
        return self.model_copy(
            update={
                "inputs": later.inputs or self.inputs,
                "count": max(later.count, self.count),
                "definitions": [*self.definitions, *later.definitions],
                "outputs": later.outputs or self.outputs,
                "activation": later.activation or self.activation,
            }
        )

    @property
    def where(self):
        return f"{self.file}:{self.line}"

    def __str__(self):
        ends = [
            name for name, given in (("inputs", self.inputs), ("outputs", self.outputs)) if given
        ]
        scaled = [f"{' and '.join(ends)} of {self.target.callee} treated"] if ends else []
        given = f"{self.activation} of what {self.target.callee} gives"
        return f"{' and '.join([*scaled, *([given] if self.activation else [])])} in its call"


# What is written where an operation is not just kept inside its domain.
OTHERWISE_WRITTEN = {
    CONSTANT: "finite numbers in a constant",
    LOG_OF_EXPONENTIALS: "a logarithm of exponentials in its stable form",
    SHARES_OF_EXPONENTIALS: "quotients of exponentials as a softmax, sigmoid, tanh or product",
    DIFFERENCES: "differences without cancellation",
}


class GuardChange(PlacedChange):
    """Keep an operation, by TensorFlow's name, on one line `epsilon` inside its domain. `given` are
    operands as written there, each with what it was in the failing step: a factor "infinite".
    `half` says that it is computed in float16.
    """

    kind: Literal["guard"] = "guard"
    file: str
    line: int
    operation: str
    epsilon: float
    given: tuple[tuple[str, str], ...] = ()
    half: bool = False

    @property
    def subject(self):
        return self.kind, self.file, self.line, self.operation

    @property
    def where(self):
        return f"{self.file}:{self.line}"

    def __str__(self):
        inside = f"{self.operation} kept inside its domain"
        return OTHERWISE_WRITTEN.get(self.operation, inside)


class AdaptChange(PlacedChange):
    """Fill the holes of what the layer that `target` makes is adapted to: `fill` is a
    number for each feature.
    """

    kind: Literal["adapt"] = "adapt"
    target: Made
    fill: list[float]

    @property
    def subject(self):
        return self.kind, self.target

    @property
    def where(self):
        return str(self.target.place)

    def __str__(self):
        return f"holes filled in what {self.target.callee} is adapted to"


class WeightsChange(PlacedChange):
    """Give the non-finite entries of weights other numbers in front of `fit`: by the position among
    `model.weights`, the mean and the deviation that they are drawn with.
    """

    kind: Literal["weights"] = "weights"
    fit: Made
    starts: dict[int, tuple[float, float]]

    @property
    def subject(self):
        return self.kind, self.fit

    @property
    def where(self):
        return str(self.fit.place)

    def __str__(self):
        return f"non-finite entries of {counted(len(self.starts), 'weight')} replaced before fit"


class ConstraintChange(PlacedChange):
    """Hold weights at their least value or above, from in front of `fit` on: by the position among
    `model.weights`.
    """

    kind: Literal["constraint"] = "constraint"
    fit: Made
    least: dict[int, float]

    @property
    def subject(self):
        return self.kind, self.fit

    @property
    def where(self):
        return str(self.fit.place)

    def __str__(self):
        return f"{counted(len(self.least), 'weight')} kept above 0 by a constraint"


UNKNOWN_CALL = "the call that makes {what} is not in the script's own code"


class NoPlace(PlacedChange):
    """A part of the fix that has no place in the source, and why."""

    kind: Literal["none"] = "none"
    reason: str

    @property
    def subject(self):
        return self.kind, self.reason

    @property
    def where(self):
        return None

    def __str__(self):
        return self.reason


SourceChange = Annotated[
    ArgumentChange
    | OptimizerChange
    | LossChange
    | LayerChange
    | CallChange
    | CastChange
    | GuardChange
    | AdaptChange
    | WeightsChange
    | ConstraintChange
    | RowsChange
    | NoPlace,
    Field(discriminator="kind"),
]
