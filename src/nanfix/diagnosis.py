"""The words for what went wrong: causes, where, when, and how sure we are."""

from dataclasses import dataclass, field
from enum import Enum


class Cause(Enum):
    """Why a run went non-finite. The value is the sentence a user reads."""

    NONFINITE_INPUT = "the input data contain NaN or inf"
    NONFINITE_TARGET = "the targets contain NaN or inf"
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
    OPTIMIZER_CONSTANT = "a constant of the optimizer makes its update divide by zero"
    REDUCED_PRECISION = "a value exceeds the range of half precision"
    BATCH_STATISTICS = "a normalization layer divides by a variance of zero"
    EMPTY_REDUCTION = "a mean or maximum is taken over nothing"
    POISON_BATCH = "single batches carry non-finite values"
    VALIDATION_ONLY = "only the validation data give a non-finite loss; training is fine"
    TRANSIENT = "replaying the failed steps stays finite"
    UNKNOWN = "the cause could not be determined"


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
    """One possible cause, how strongly the evidence speaks for it (0 to 1), and that evidence in words."""

    cause: Cause
    weight: float
    evidence: str


@dataclass(frozen=True)
class Diagnosis:
    """What happened, where, why, and how we know.

    `findings` are ranked, the most likely cause first. `learning_rate` and `gradient_norm` are those of the
    last finite step (None when there was none). `hopeless` is the reason why no fix can exist, or None.
    """

    onset: Onset
    findings: tuple[Finding, ...]
    place: Place = field(default_factory=Place)
    rows: tuple[int, ...] = ()
    rows_of: str = "the batch"
    learning_rate: float | None = None
    gradient_norm: float | None = None
    weight_norm: float | None = None
    hopeless: str | None = None

    @property
    def cause(self) -> Cause:
        return self.findings[0].cause

    @property
    def causes(self) -> frozenset[Cause]:
        return frozenset(finding.cause for finding in self.findings)

    def __str__(self):
        lines = [
            f"Training became non-finite at {self.onset}, {self.place}.",
            f"Cause: {self.cause.value} ({self.findings[0].evidence}).",
        ]
        if self.place.values:
            lines.append(f"Seen there: {self.place.values}.")
        if self.rows:
            shown = ", ".join(str(row) for row in self.rows[:8])
            lines.append(f"Rows of {self.rows_of}: {shown}{', ...' if len(self.rows) > 8 else ''} ({len(self.rows)} in all).")
        lines += [f"Also possible: {f.cause.value} ({f.evidence})." for f in self.findings[1:4]]
        if self.hopeless:
            lines.append(f"No fix can exist: {self.hopeless}.")
        return "\n".join(lines)
