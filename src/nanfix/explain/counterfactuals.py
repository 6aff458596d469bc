"""What would have happened otherwise, as records: steps that were run again with one
thing changed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from nanfix.explain.microscope import Observation
from nanfix.records.cause import Cause

# Share of the loss: by so much dropout and the like may raise it from step to step.
LOSS_NOISE = 0.05
STILL = 0.01  # share of the loss: less is no movement


@dataclass(frozen=True)
class Rerun:
    """Steps that were run again with one change: how many of those planned stayed finite.

    `before` and `after` are the mean loss on the last few batches, with the weights at the start
    and in these last steps, `rate` the share of the learning rates that it was run with.
    """

    change: str
    steps: int
    planned: int
    before: float = math.nan
    after: float = math.nan
    rate: float = 1.0

    @property
    def finite(self) -> bool:
        return self.steps == self.planned

    @property
    def cured(self) -> bool:
        """Whether every step stayed finite and the loss did not rise."""
        return self.finite and self.after <= self.before + LOSS_NOISE * abs(self.before)

    @property
    def learned(self) -> bool:
        """Whether every step stayed finite and the loss fell."""
        return self.finite and self.after < self.before - LOSS_NOISE * abs(self.before)

    @property
    def moved(self) -> bool:
        """Whether every step stayed finite and the loss moved: else nothing reaches the weights."""
        return self.finite and not abs(self.after - self.before) < STILL * abs(self.before)

    def __str__(self):
        if not self.finite:
            return f"{self.change}, it fails at step {self.steps + 1}"
        course = f"the loss goes from {self.before:.3g} to {self.after:.3g}"
        return f"{self.change}, the same {self.planned} steps stay finite and {course}"


@dataclass(frozen=True)
class Counterfactuals:
    """What the failing steps came to with one thing changed; None where it was not tried.

    From the beginning of the run, or, for `rate` alone, from the newest snapshot: `alone` has for
    each cause the run with that one taken away; `scaled` has both inputs and targets of unit scale;
    `rate` is the mildest learning rate with which the run learns, or at least stays finite, else
    the lowest tried; `no_update` says whether weights left alone stay finite.
    At the failing step: the same batch on the `initial` weights; how many of the `others` tried
    fail on the failing weights; the batch without its suspicious rows (`clean`); in
    `full_precision`; compiled `without_xla`. `relative` says whether only the differences of the
    exponents that overflowed matter.

    `without` is the run with what failed first taken away, and `then` the step at which it failed
    all the same; every other rerun stands on top of that change where there is a `then`. `needed`
    are the causes of which none may stay, where taking one away is not enough, and `joint` the run
    without them. `weights_shares` is how large the kernels of some layers were that took the
    place of the run's own, by address, as a share of what their initializer draws. `cut_short`
    says that time ran out before everything was tried.
    """

    unchanged: Rerun | None = None
    rate: Rerun | None = None
    alone: Mapping[Cause, Rerun] = field(default_factory=dict)
    weights_shares: Mapping[str, float] = field(default_factory=dict)
    scaled: Rerun | None = None
    no_update: bool | None = None
    initial: bool | None = None
    others: tuple[int, int] | None = None
    clean: bool | None = None
    full_precision: bool | None = None
    without_xla: bool | None = None
    relative: bool = False
    without: Rerun | None = None
    then: Observation | None = None
    needed: tuple[Cause, ...] = ()
    joint: Rerun | None = None
    cut_short: bool = False

    @property
    def reruns(self) -> tuple[Rerun, ...]:
        """The runs with causes taken away, one or several."""
        tried = (self.rate, self.scaled, self.joint, *self.alone.values())
        return tuple(rerun for rerun in tried if rerun is not None)

    def __str__(self):
        same_batch = "on the initial weights the same batch"
        failing, others = self.others or (0, 0)
        parts = [
            _outcome(same_batch, self.initial, "stays finite", "fails too"),
            _outcome(
                "with a learning rate of 0 the steps",
                self.no_update,
                "stay finite",
                "fail all the same",
            ),
            f"{failing} of {others} other batches fail at this state" if others else "",
            _outcome("without the rows named it", self.clean, "stays finite", "fails all the same"),
            _outcome("in float32 it", self.full_precision, "stays finite", "fails too"),
            _outcome("without XLA it", self.without_xla, "stays finite", "fails too"),
            "with the largest exponent taken off first the result is the same"
            if self.relative
            else "",
            "time ran out before all was tried" if self.cut_short else "",
        ]
        return "; ".join(filter(None, parts))


def _outcome(what: str, finite: bool | None, then: str, otherwise: str) -> str:
    """Return what came of a change; nothing where it was not tried."""
    return "" if finite is None else f"{what} {then if finite else otherwise}"
