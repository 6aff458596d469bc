"""The words for what went wrong: where, when, why, and how sure we are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from nanfix.records.cause import Cause
from nanfix.records.domains import Given
from nanfix.records.fallen_weight import FallenWeight
from nanfix.records.plurals import counted
from nanfix.records.unsafe_operations import STABLE, UNSAFE_OPERATIONS

if TYPE_CHECKING:  # it loads pydantic, and strategies are imported without
    from nanfix.records.data_origin import DataOrigin
    from nanfix.records.nonfinite_constant import NonfiniteConstant

OF_DATA = frozenset(
    {
        Cause.NONFINITE_INPUT,
        Cause.NONFINITE_TARGET,
        Cause.NONFINITE_WEIGHT,
        Cause.POISON_BATCH,
        Cause.RUINED_STATISTICS,
    }
)  # causes that lie in data which are not finite
# Causes that lie in one operation.
OF_A_DOMAIN = frozenset({Cause.LOSS_DOMAIN, Cause.LAYER_DOMAIN, Cause.STEP_DOMAIN})


class Phase(Enum):
    """The part of a training step in which the first non-finite value appeared."""

    INITIAL_WEIGHTS = "initial weights"
    INPUT = "input"
    TARGET = "target"
    FORWARD = "forward pass"
    LOSS = "loss"
    STEP = "training step"  # of the user's own, outside of model, loss, gradient and update
    GRADIENT = "gradient"
    UPDATE = "weight update"
    VALIDATION = "validation"
    INFERENCE = "prediction"
    DIVERGENCE = "divergence"  # no number is non-finite: the loss has risen by orders of magnitude
    UNKNOWN = "unknown"


IN_DATA = frozenset({Phase.INPUT, Phase.TARGET})  # phases in which the data are not finite


@dataclass(frozen=True, order=True)
class Onset:
    """The first step that produced a non-finite value; epoch and step count from 1, as
    Keras prints them.
    """

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
    # Operands of that operation, as the line has them, each with what it was: "infinite".
    given: tuple[tuple[str, str], ...] = ()
    made_of: str | None = (
        None  # "targets" or the like, where its operand is computed of these alone
    )
    # Half-way from the edge of its domain to the nearest that it was given, in the forward pass or
    # of targets.
    edge: float | None = None
    constant: NonfiniteConstant | None = None  # the one that is taken there and is not finite
    # The lines of the same function that compute the same of other variables.
    alike: tuple[str, ...] = ()
    # What the operation is part of, where that has a stable form: SHARES_OF_EXPONENTIALS or
    # DIFFERENCES.
    formula: str | None = None

    def __str__(self):
        parts = [f"in the {self.phase.value}"] if self.phase is not Phase.UNKNOWN else []
        if self.layer:
            parts.append(f"layer {self.layer}")
        if self.operation:
            parts.append(f"operation {self.operation}")
        if self.source:
            parts.append(f"at {self.source}")
        return ", ".join(parts) or "not located"

    @property
    def spot(self) -> tuple[Phase, str | None, str | None, str | None]:
        """What tells it from other places, whatever the numbers were."""
        return self.phase, self.layer, self.operation, self.source

    @property
    def kept_inside(self) -> str:
        """What a person would do about the operation that failed there, which has a domain."""
        operation = UNSAFE_OPERATIONS[self.operation or ""]
        infinite = [text for text, what in self.given if what == Given.INFINITE]
        if infinite:
            return f"Keep {' and '.join(infinite)} {operation.domain.name}."
        operation = operation.as_in(self.code)
        kept, whole = operation.letter, operation.words.format(operation.letter)
        what = f", which comes of the {self.made_of} alone," if self.made_of is not None else ""
        stable = STABLE.get(self.formula or "", "a stable form of it")
        return f"Keep {kept} in {whole}{what} {operation.domain.name}, or compute {stable}."


@dataclass(frozen=True)
class Finding:
    """One possible cause, how strongly the evidence speaks for it (0 to 1), and that
    evidence in words.

    A cause that is `refuted` for this failure is not shown; it may show when another has
    been treated. `learned` says that steps were run again with this cause taken away, stayed
    finite, and that their loss fell; what the run had failed of first may have been taken away as
    well. `mended` says that they stayed finite with the operation that failed computed in another
    way, and that their loss did not rise.
    """

    cause: Cause
    weight: float
    evidence: str
    refuted: bool = False
    learned: bool = False
    mended: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """What happened, where, why, and how we know.

    `findings` are ranked, the most likely cause first; the first `together` of them are at fault
    together: taking away one alone does not cure. `learning_rate` and `gradient_norm` are
    those of the last finite step (None when there was none), the rate about that of the failing one
    where callbacks set it, `earlier_rate` that of the step before the failing one, `first_step` how
    large the first step was as a share of the weights, `batch_rows` the number of rows in the batch
    that failed. `trend` says how the loss went before, `tried` what the failing step came to with
    something changed, `remarks` what else the data showed, of which so many rows were `looked_at`,
    None for all of them. `hopeless` is the reason why no fix can exist, or None. `missing` names
    evidence that could not be had. `origins` are the statements of the user's that made data
    non-finite, as far as they are known. `behind` is where it fails with the first fault mended, of
    the same cause, and nothing else that was tried keeps it from that. `outgrown` are the names of
    the parts of the model, its direct layers, whose weights had become many times as large before
    the failing step. `fallen_weights` began above 0 and had come to 0 or below by then.
    `weights_shares` is how large the initial kernels of some layers may be that let nothing grow,
    by address, as a share of what their initializer draws.
    """

    onset: Onset
    findings: tuple[Finding, ...]
    place: Place = field(default_factory=Place)
    rows: tuple[int, ...] = ()
    rows_of: str = "the batch"
    learning_rate: float | None = None
    earlier_rate: float | None = None
    gradient_norm: float | None = None
    batch_rows: int | None = None
    weight_norm: float | None = None
    trend: str = ""
    tried: str = ""
    remarks: tuple[str, ...] = ()
    looked_at: int | None = None
    hopeless: str | None = None
    relative_exponents: bool = False
    first_step: float | None = None
    missing: tuple[str, ...] = ()
    together: int = 1
    origins: tuple[DataOrigin, ...] = ()
    behind: Place | None = None
    outgrown: tuple[str, ...] = ()
    fallen_weights: tuple[FallenWeight, ...] = ()
    weights_shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def cause(self) -> Cause:
        return self.findings[0].cause

    @property
    def at_fault(self) -> frozenset[Cause]:
        """The cause named first, and those that are at fault together with it."""
        return frozenset(finding.cause for finding in self.findings[: self.together])

    @property
    def is_of_data(self) -> bool:
        """Whether data that are not finite are at fault, or may be."""
        return bool(self.causes & OF_DATA) or self.place.phase in IN_DATA

    @property
    def step_norm(self) -> float | None:
        """The norm of the last finite gradient or of the weights, whichever is smaller;
        None where neither is known.
        """
        return min((norm for norm in (self.gradient_norm, self.weight_norm) if norm), default=None)

    @property
    def causes(self) -> frozenset[Cause]:
        return frozenset(finding.cause for finding in self.findings)

    @property
    def happened(self) -> str:
        """What happened, when and where, in a sentence."""
        if self.place.phase is Phase.DIVERGENCE:
            return f"Training stayed finite, but diverged from {self.onset} on."
        apart = self.place.phase in (Phase.VALIDATION, Phase.INFERENCE)
        became = "Training stayed finite, its result" if apart else "Training"
        return f"{became} became non-finite at {self.onset}, {self.place}."

    @property
    def _where_it_is_odd(self) -> str:
        looked_at = self.looked_at
        return (
            "In the data"
            if looked_at is None
            else f"Seen in {counted(looked_at, 'row')} of the data"
        )

    def __str__(self):
        lines = [
            self.happened,
            f"Cause: {self.cause.sentence} ({self.findings[0].evidence}).",
        ]
        both = self.findings[: self.together]
        lines += [f"And also: {f.cause.sentence} ({f.evidence})." for f in both[1:]]
        if self.place.values and self.place.values not in self.findings[0].evidence:
            lines.append(f"Seen there: {self.place.values}.")
        if self.behind is not None:
            lines.append(f"With that mended it fails {self.behind}: {self.behind.values}.")
        if self.batch_rows == 1 and self.cause in OF_A_DOMAIN:
            lines.append("The batch that failed has a single row.")
        if self.rows:
            shown = ", ".join(str(row) for row in self.rows[:8])
            lines.append(
                f"Rows of {self.rows_of}: {shown}{', ...' if len(self.rows) > 8 else ''} "
                f"({len(self.rows)} in all)."
            )
        if self.trend:
            lines.append(f"Before: {self.trend}.")
        if self.tried:
            lines.append(f"Tried otherwise: {self.tried}.")
        # The same evidence in other words is not repeated.
        possible = [
            finding
            for number, finding in enumerate(self.findings)
            if number >= self.together
            and not finding.refuted
            and not any(finding.evidence in earlier.evidence for earlier in self.findings[:number])
        ]
        lines += [f"Also possible: {f.cause.sentence} ({f.evidence})." for f in possible[:3]]
        if self.remarks:
            lines.append(f"{self._where_it_is_odd}: {'; '.join(self.remarks[:3])}.")
        lines += [f"{origin}." for origin in self.origins]
        if self.missing:
            lines.append(f"Evidence that is missing: {', '.join(self.missing)}.")
        return "\n".join([*lines, self.advice])

    @property
    def advice(self) -> str:
        """What helps, or that nothing can, in a sentence."""
        if self.hopeless:
            return f"No change to model or training can help: {self.hopeless}."
        return f"What helps: {' '.join(map(self._remedy, self.findings[: self.together]))}"

    def _remedy(self, finding: Finding) -> str:
        """Return what helps; where the operation that failed first is at fault, in terms of it."""
        if finding.cause not in OF_A_DOMAIN or finding is not self.findings[0]:
            return finding.cause.remedy
        places = (self.place,) if self.behind is None else (self.place, self.behind)
        kept = [place.kept_inside for place in places if place.operation in UNSAFE_OPERATIONS]
        kept = [each.kept_above for each in self.fallen_weights] + kept
        return " ".join(dict.fromkeys(kept)) or finding.cause.remedy
