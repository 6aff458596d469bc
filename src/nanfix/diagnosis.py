"""The words for what went wrong: causes, where, when, and how sure we are."""

from dataclasses import dataclass, field
from enum import Enum


class Cause(Enum):
    """Why a run went non-finite. The value is the sentence a user reads."""

    NONFINITE_INPUT = "the input data contain NaN or inf"
    NONFINITE_TARGET = "the targets contain NaN or inf"
    NONFINITE_WEIGHT = "the sample weights contain NaN or inf"
    INVALID_LABEL = "labels lie outside the classes of the output layer"
    UNSCALED_INPUT = "the inputs are far from unit scale"
    UNSCALED_TARGET = "the targets are far from unit scale"
    LEARNING_RATE = "the learning rate is too high for this model and data"
    EXPLODING_GRADIENT = "the gradient grows from layer to layer until it overflows"
    UNSTABLE_ACTIVATION = "an unbounded or unsuitable activation lets values grow without limit"
    UNSTABLE_RECURRENCE = "a recurrent layer with an unbounded activation feeds its growing output back into itself"
    BAD_INITIALIZATION = "the initial weights are too large for the width of the layers"
    LOSS_DOMAIN = "the loss computes an operation outside its domain"
    LAYER_DOMAIN = "a layer computes an operation outside its domain"
    GRADIENT_SINGULARITY = "an operation is finite but its gradient is not"
    LOGITS_BY_HAND = "the loss takes the logarithm of a probability that rounds to 0"
    OPTIMIZER_CONSTANT = "a constant of the optimizer makes its update divide by zero, turn the weights over or never fade"
    REDUCED_PRECISION = "a value exceeds the range of half precision"
    STALE_MOMENTS = "the optimizer still remembers the gradients of another training"
    OUTLIER = "a few rows have values far outside all others"
    BATCH_STATISTICS = "a normalization layer divides by a variance of zero"
    RUINED_STATISTICS = "a Normalization layer was adapted to data with NaN or inf"
    EMPTY_REDUCTION = "a mean or maximum is taken over nothing"
    POISON_BATCH = "single batches carry non-finite values"
    VALIDATION_ONLY = "only the validation data give a non-finite loss; training is fine"
    TRANSIENT = "replaying the failed steps stays finite"
    UNKNOWN = "the cause could not be determined"

    @property
    def remedy(self) -> str:
        """What an expert would do about it, in one sentence."""
        return REMEDIES[self]


REMEDIES = {
    Cause.NONFINITE_INPUT: "Fill the holes (median of the column) inside the model, or leave those rows out.",
    Cause.NONFINITE_TARGET: "Leave out the rows whose target is missing.",
    Cause.NONFINITE_WEIGHT: "Give every row a finite weight, 0 for those that do not count.",
    Cause.INVALID_LABEL: "Count the labels from 0 and leave out those without a class, or widen the output layer.",
    Cause.UNSCALED_INPUT: "Scale the inputs: RobustScaler or StandardScaler, or a Normalization layer in front.",
    Cause.UNSCALED_TARGET: "Train on scaled targets and scale the predictions back.",
    Cause.LEARNING_RATE: "Lower the learning rate by the factor named, or clip the gradients to their usual norm.",
    Cause.EXPLODING_GRADIENT: "Clip the gradients to the norm they had before, or normalize between the layers.",
    Cause.UNSTABLE_ACTIVATION: "Use an activation that suits: tanh or relu inside, softmax or sigmoid before a crossentropy.",
    Cause.UNSTABLE_RECURRENCE: "Give the recurrent layer its usual tanh.",
    Cause.BAD_INITIALIZATION: "Draw the weights to suit the width of the layers: he_normal before relu, else glorot_uniform.",
    Cause.LOSS_DOMAIN: "Keep the operation inside its domain, for instance by clipping what goes into it to [1e-7, 1 - 1e-7].",
    Cause.LAYER_DOMAIN: "Keep the operation inside its domain by clipping what goes into it, or use Keras' own stable layer.",
    Cause.GRADIENT_SINGULARITY: "Keep the operation away from the point where its slope is infinite: add an epsilon inside it.",
    Cause.LOGITS_BY_HAND: "Take Keras' crossentropy from logits instead of the logarithm of a probability.",
    Cause.OPTIMIZER_CONSTANT: "Set that constant of the optimizer (epsilon, beta, decay) back to its default.",
    Cause.REDUCED_PRECISION: "Scale what grows, or compute this layer in float32.",
    Cause.STALE_MOMENTS: "Make a new optimizer (or compile again) whenever the weights are set back.",
    Cause.OUTLIER: "Leave these rows out if they are wrong; else a robust loss or a power transform of the inputs.",
    Cause.BATCH_STATISTICS: "Set the layer's epsilon back to its default, and see that no batch is constant or of one row.",
    Cause.EMPTY_REDUCTION: "Divide by at least 1 (or use divide_no_nan) where everything may be masked.",
    Cause.POISON_BATCH: "Leave out the rows of these batches, or fill their holes.",
    Cause.VALIDATION_ONLY: "Clean the validation data as the training data were; the trained weights are fine.",
    Cause.RUINED_STATISTICS: "Fill the holes before the layer is adapted, and fill those of what is trained on, too.",
    Cause.TRANSIENT: "Train on; if it comes back, look at what is not repeatable: random data, hardware.",
    Cause.UNKNOWN: "Let nanfix.fit search: it tries what helps such runs most often.",
}


class Phase(Enum):
    """The part of a training step in which the first non-finite value appeared."""

    INPUT = "input"
    TARGET = "target"
    FORWARD = "forward pass"
    LOSS = "loss"
    GRADIENT = "gradient"
    UPDATE = "weight update"
    VALIDATION = "validation"
    UNKNOWN = "unknown"


@dataclass(frozen=True, order=True)
class Onset:
    """The first step that produced a non-finite value; epoch and step count from 1, as Keras prints them."""

    epoch: int
    step: int

    def __str__(self):
        return f"epoch {self.epoch} step {self.step}"


@dataclass(frozen=True)
class Place:
    """Where the first non-finite value appeared; what is not known is None."""

    phase: Phase = Phase.UNKNOWN
    layer: str | None = None
    operation: str | None = None
    source: str | None = None  # "file.py:LINE" of the user's own code
    values: str | None = None  # what went into the operation and what came out
    code: str | None = None  # the function that holds the line, and the text of the line

    def __str__(self):
        parts = [f"in the {self.phase.value}"] if self.phase is not Phase.UNKNOWN else []
        if self.layer:
            parts.append(f"layer {self.layer}")
        if self.operation:
            parts.append(f"operation {self.operation}")
        if self.source:
            parts.append(f"at {self.source}")
        return ", ".join(parts) or "not located"


@dataclass(frozen=True)
class Finding:
    """One possible cause, how strongly the evidence speaks for it (0 to 1), and that evidence in words.

    A cause that is `refuted` for this failure is not told; it may show when another has been treated.
    """

    cause: Cause
    weight: float
    evidence: str
    refuted: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """What happened, where, why, and how we know.

    `findings` are ranked, the most likely cause first. `learning_rate` and `gradient_norm` are those of the last finite step
    (None when there was none), `batch_rows` is the number of rows in the batch that failed. `trend` tells how the loss went
    before, `tried` what the failing step came to with something changed, `remarks` what else the data showed. `hopeless` is
    the reason why no fix can exist, or None. `missing` names evidence that could not be had.
    """

    onset: Onset
    findings: tuple[Finding, ...]
    place: Place = field(default_factory=Place)
    rows: tuple[int, ...] = ()
    rows_of: str = "the batch"
    learning_rate: float | None = None
    gradient_norm: float | None = None
    batch_rows: int | None = None
    weight_norm: float | None = None
    trend: str = ""
    tried: str = ""
    remarks: tuple[str, ...] = ()
    hopeless: str | None = None
    relative_exponents: bool = False
    missing: tuple[str, ...] = ()

    @property
    def cause(self) -> Cause:
        return self.findings[0].cause

    @property
    def step_norm(self) -> float | None:
        """The norm of the last finite gradient or of the weights, whichever is smaller; None where neither is known."""
        return min((norm for norm in (self.gradient_norm, self.weight_norm) if norm), default=None)

    @property
    def causes(self) -> frozenset[Cause]:
        return frozenset(finding.cause for finding in self.findings)

    def __str__(self):
        lines = [
            f"Training became non-finite at {self.onset}, {self.place}.",
            f"Cause: {self.cause.value} ({self.findings[0].evidence}).",
        ]
        if self.place.values and self.place.values not in self.findings[0].evidence:
            lines.append(f"Seen there: {self.place.values}.")
        if self.rows:
            shown = ", ".join(str(row) for row in self.rows[:8])
            lines.append(f"Rows of {self.rows_of}: {shown}{', ...' if len(self.rows) > 8 else ''} ({len(self.rows)} in all).")
        if self.trend:
            lines.append(f"Before: {self.trend}.")
        if self.tried:
            lines.append(f"Tried otherwise: {self.tried}.")
        possible = [finding for finding in self.findings[1:] if not finding.refuted]
        lines += [f"Also possible: {f.cause.value} ({f.evidence})." for f in possible[:3]]
        if self.remarks:
            lines.append(f"In the data: {'; '.join(self.remarks[:3])}.")
        if self.missing:
            lines.append(f"Evidence that is missing: {', '.join(self.missing)}.")
        lines.append(f"No fix can exist: {self.hopeless}." if self.hopeless else f"What helps: {self.cause.remedy}")
        return "\n".join(lines)
