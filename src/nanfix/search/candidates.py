"""Candidate fixes of a search: what they are made of, and what came of them."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from nanfix.remedies.strategy import Tier

Candidate = tuple[tuple[str, int], ...]  # (strategy, level) in the order they are applied


@dataclass(frozen=True)
class Tried:
    """What came of a candidate: the loss that it reached, None when it did not hold,
    and the steps that it survived.
    """

    loss: float | None
    steps: int = 0


@dataclass(frozen=True)
class Hindsight:
    """What is known of candidates beside their trials.

    `losses`, which proofs have found out, count in the place of those of the trials, None for what
    has failed since; `noise` is by how much the loss of one fix has differed from seed to seed;
    `mean` is the loss of always predicting the mean, which says how much each has gained where no
    other baseline is known.
    """

    losses: Mapping[Candidate, float | None] = field(default_factory=dict)
    noise: float = 0.0
    mean: float = math.inf


FAILED, NO_HINDSIGHT = Tried(None), Hindsight()
Results = Mapping[Candidate, Tried]


@dataclass(frozen=True)
class Family:
    """The candidates that one strategy gives: its tier and how many levels it has.

    `indicated` says that strong evidence names a cause it treats, `called_for` that it
    belongs to what is tried together, `last_resort` that it does not remove any of the
    causes, but may ease one, `cures` that a rerun with a cause of its own taken away learned,
    `mends` that it computes the operation that failed in another way, with which a rerun stayed
    finite, `exact` that it is called for and computes the same numbers where they were finite.
    Candidates with a strategy that it is `instead_of` come last where they work with it in that
    place.
    """

    strategy: str
    tier: int
    levels: int
    called_for: bool = False
    indicated: bool = True
    last_resort: bool = False
    instead_of: frozenset[str] = frozenset()
    cures: bool = False
    mends: bool = False
    exact: bool = False


def in_order(candidate: Candidate, families: Collection[Family]) -> Candidate:
    """Put edits in the order they are applied: the data, then the higher tiers first, the optimizer
    tuned on top of them.
    """
    place = {
        family.strategy: (family.tier != Tier.DATA, -family.tier, index)
        for index, family in enumerate(families)
    }
    return tuple(sorted(candidate, key=lambda edit: place[edit[0]]))


def better_done(candidate: Candidate, families: Collection[Family]) -> list[Candidate]:
    """Return the candidates that differ in one thing: a strategy stands in the place of those that
    it is `instead_of`.
    """
    found: list[Candidate] = []
    for family in families:
        replaced = {*family.instead_of, family.strategy}
        if family.instead_of & {*dict(candidate)}:
            kept = tuple(edit for edit in candidate if edit[0] not in replaced)
            levels = range(family.levels)
            found += [in_order((*kept, (family.strategy, level)), families) for level in levels]
    return found


def stable_losses(results: Results) -> dict[Candidate, float]:
    """Return the loss of each candidate that stayed finite."""
    return {candidate: tried.loss for candidate, tried in results.items() if tried.loss is not None}


def exact_alone(families: Collection[Family], stable: Collection[Candidate]) -> set[str]:
    """Return the strategies that compute the same numbers and hold alone."""
    return {f.strategy for f in families if f.exact and ((f.strategy, 0),) in stable}
