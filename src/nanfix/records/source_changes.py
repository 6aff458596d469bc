"""What a fix changes in the user's own source, as records: which call, which argument, which line.
Plain JSON, as in a fix.json.

Expressions in them are Python in which `keras`, `np` and `tf` stand for these packages, under
whatever name the source has them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from nanfix.records.source_places import FROZEN, Made, PlacedChange


class ArgumentChange(PlacedChange):
    """Call `target` with the argument `name`, the `position`-th where it may be given without its
    name, set to `value`.
    """

    kind: Literal["argument"] = "argument"
    target: Made
    name: str
    value: str
    position: int | None = None

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

    `target` is the call that makes the optimizer, None for one given by its name in `compile`;
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


class LossChange(PlacedChange):
    """Compile with another loss, or with the loss weighed by a number."""

    kind: Literal["loss"] = "loss"
    compiled: Made
    loss: str | None = None
    weight: str | None = None

    @property
    def subject(self):
        return (self.kind,)

    @property
    def where(self):
        return str(self.compiled.place)

    def joined(self, later):
        """The loss of either, and the product of the weights: the later one is a
        quotient "1 / ...".
        """
        weight = (
            f"{self.weight} {later.weight.removeprefix('1 ')}"
            if self.weight and later.weight
            else self.weight or later.weight
        )
        return self.model_copy(update={"loss": self.loss or later.loss, "weight": weight})

    def __str__(self):
        words = [f"loss={self.loss}"] if self.loss else []
        return ", ".join([*words, *([f"loss_weights={self.weight}"] if self.weight else [])])


class LayerChange(PlacedChange):
    """Put new layers before or after the one that `target` makes; where that has no place, before
    what `otherwise` makes.

    `layers` are expressions, `numbers` the vectors that they name, `definition` what has to be
    defined for them. `model` is the call that makes the model of the tensors.
    """

    kind: Literal["layer"] = "layer"
    target: Made | None
    side: Literal["before", "after"]
    layers: list[str]
    role: str
    numbers: dict[str, list[float]] = Field(default_factory=dict)
    definition: str | None = None
    otherwise: Made | None = None
    model: Made | None = None

    @property
    def subject(self):
        return self.kind, self.target, self.side, self.role

    @property
    def where(self):
        made = self.target or self.otherwise
        return None if made is None else str(made.place)

    def __str__(self):
        layers = [layer.removeprefix("keras.layers.").partition("(")[0] for layer in self.layers]
        beside = self.target or self.otherwise
        return (
            f"{', '.join(layers)} {self.side} "
            f"{beside.callee.removesuffix('Layer') if beside else 'the layer'}"
        )


class CallChange(PlacedChange):
    """Let the `call` at `line` of `file`, of the class of model that `target` makes, scale what
    goes in and what comes out.

    `inputs` are the layers that the inputs go through first, with their `numbers` and `definition`;
    `outputs` is the (scale, center) that the outputs are multiplied by and moved to.
    """

    kind: Literal["call"] = "call"
    file: str
    line: int
    target: Made
    inputs: list[str] = Field(default_factory=list)
    numbers: dict[str, list[float]] = Field(default_factory=dict)
    definition: str | None = None
    outputs: tuple[float, float] | None = None

    @property
    def subject(self):
        return (self.kind,)

    @property
    def where(self):
        return f"{self.file}:{self.line}"

    def __str__(self):
        ends = [
            name for name, given in (("inputs", self.inputs), ("outputs", self.outputs)) if given
        ]
        return f"{' and '.join(ends)} of {self.target.callee} scaled in its call"


class GuardChange(PlacedChange):
    """Keep an operation, by TensorFlow's name, on one line of the source `epsilon`
    inside its domain.
    """

    kind: Literal["guard"] = "guard"
    file: str
    line: int
    operation: str
    epsilon: float

    @property
    def subject(self):
        return self.kind, self.file, self.line, self.operation

    @property
    def where(self):
        return f"{self.file}:{self.line}"

    def __str__(self):
        return f"{self.operation} kept inside its domain"


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
        return f"non-finite entries of {len(self.starts)} weights replaced before fit"


class Band(BaseModel):
    """Where the values of one part of the data lie: at most `scale` from `center`, a
    number for each feature.
    """

    model_config = FROZEN

    part: Literal["x", "y"]
    center: list[float]
    scale: list[float]


class UnknownTargets(BaseModel):
    """Which targets are unknown; the fields are those of TargetMask.

    `in_cells` says that the last axis of the targets is that of the outputs, not of the steps.
    """

    model_config = FROZEN

    nonfinite: bool = False
    codes: list[float] = Field(default_factory=list)
    classes: int | None = None
    in_cells: bool = True


class RowsChange(PlacedChange):
    """Leave rows out of what `fit` is given, shift its labels, fill its holes, weigh its
    unknown targets with 0; the fields are those of RowFilter.

    `finite` are the parts in which every number has to be finite, `fill` what takes the place of
    one that is not; `validation_arrays` is the number of arrays in the validation data, `renumber`
    says that the keys of class_weight are labels as given.
    """

    kind: Literal["rows"] = "rows"
    fit: Made
    finite: list[Literal["x", "y", "sample_weight"]] = Field(default_factory=list)
    classes: int | None = None
    first_label: int = 0
    labels: tuple[float, float] | None = None
    bands: list[Band] = Field(default_factory=list)
    batch_rows: int | None = None
    shares: bool = False
    fill: list[float] | None = None
    unknown: UnknownTargets | None = None
    validation_arrays: int = 0
    renumber: bool = False

    @property
    def subject(self):
        return (self.kind,)

    @property
    def where(self):
        return str(self.fit.place)

    def joined(self, later):
        """The holes are filled of what is kept."""
        return later.model_copy(update={"fill": self.fill, "unknown": self.unknown})

    def __str__(self):
        words = (
            ["rows left out"]
            if self.finite or self.bands or self.batch_rows or self.classes or self.shares
            else []
        )
        words += ["holes filled"] if self.fill else []
        words += ["unknown targets weighed with 0"] if self.unknown else []
        words += ["labels moved"] if self.first_label or self.labels else []
        return f"{', '.join(words)} before fit"


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
    | GuardChange
    | AdaptChange
    | WeightsChange
    | RowsChange
    | NoPlace,
    Field(discriminator="kind"),
]
