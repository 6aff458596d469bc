"""The order in which candidate fixes are tried: mild before strong, single before
combined, then pruned.

A ladder is a generator: it yields a candidate and is sent what came of it. It keeps no
state outside itself, so feeding it the results of finished trials brings it back to
where a killed search stood.
"""

import itertools
import math
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field

from nanfix.remedies.strategy import Tier
from nanfix.search.candidates import (
    FAILED,
    Candidate,
    Family,
    Tried,
    better_done,
    exact_alone,
    in_order,
    stable_losses,
)
from nanfix.search.choice import EQUAL_GAIN, limit

LEARNS_WELL = 0.3  # of the loss of a model that has learned nothing; higher tiers are spared then
SMALLER = 2  # knobs that are tried in the place of a larger change that holds; of several just one

Proposals = Generator[Candidate, Tried, None]


@dataclass
class _Results:
    """The candidates tried so far and what they reached; asks for each only once."""

    families: tuple[Family, ...]
    baseline: float
    tried: dict[Candidate, Tried] = field(default_factory=dict)

    def ask(self, candidate: Candidate) -> Generator[Candidate, Tried, Tried]:
        candidate = in_order(candidate, self.families)
        if candidate not in self.tried:
            self.tried[candidate] = yield candidate
        return self.tried[candidate]

    def known(self, candidate: Candidate) -> Tried:
        return self.tried.get(in_order(candidate, self.families), FAILED)

    def best(self) -> Candidate | None:
        stable = stable_losses(self.tried)
        return min(stable, key=lambda candidate: stable[candidate]) if stable else None

    def learns_well(self) -> bool:
        best = self.best()
        loss = None if best is None else self.tried[best].loss
        return loss is not None and (
            not math.isfinite(self.baseline) or loss <= LEARNS_WELL * self.baseline
        )

    def settled(self) -> bool:
        """Say whether nothing is left to gain that would count, as losses end at 0: every later
        candidate is a larger change.
        """
        best = self.best()
        loss = None if best is None else self.tried[best].loss
        return (
            loss is not None
            and math.isfinite(self.baseline)
            and 0.0 <= loss <= EQUAL_GAIN * self.baseline
        )


def ladder(families: Iterable[Family], baseline: float = math.inf) -> Proposals:
    """Propose each family alone, then what the evidence calls for together, then the best one
    refined and pruned; where it calls for several, or for one with which a rerun learned, these
    come first, and where they learn well none is climbed alone. Where the operation that failed is
    computed in another way and the run stays finite with that, nothing else was at fault, and
    nothing else is tried.

    Changes to the data that the evidence calls for are enough where they hold alone. Strategies for
    which the evidence is weak, and those that change numerics or architecture
    without being called for, are tried only when the others do not learn well, and the last resorts
    only when nothing else has worked.

    Args:
        baseline: the loss of a model that has learned nothing.
    """
    families = tuple(families)
    results = _Results(families, baseline)
    for number, base in enumerate(bases(families)):
        if base and number == 0:
            alone = yield from results.ask(base)
            if alone.loss is not None:  # then nothing else was at fault
                yield from _prune(results)
                return
        mended = yield from _walk(results, base)
        if results.best() is not None:
            if not mended:
                yield from _improve(results)
            yield from _prune(results)
            return


def bases(families: Iterable[Family]) -> list[Candidate]:
    """Return what other edits are made on top of: the changes to the data that are
    called for, then the others.

    Where the data themselves are at fault, nothing holds without a change to them. Where they are
    not, one empty base.
    """
    data = [family for family in families if family.tier == Tier.DATA]
    called = tuple((family.strategy, 0) for family in data if family.called_for)
    return (
        [called, *(((family.strategy, 0),) for family in data if not family.called_for)]
        if called
        else [()]
    )


def _walk(results: _Results, base: Candidate) -> Generator[Candidate, Tried, bool]:
    """Propose the families, each candidate on top of the changes to the data that are
    the `base`; return whether the operation that failed is mended by the first and that is all.
    """
    everything = [family for family in results.families if not (base and family.tier == Tier.DATA)]
    families = [family for family in everything if not family.last_resort]
    mild = [
        family
        for family in families
        if (family.indicated and family.tier <= Tier.SCALING) or family.called_for
    ]
    rest = [family for family in families if family not in mild]
    knobs = [family for family in mild if family.tier <= Tier.OPTIMIZER]
    wanted = [family for family in families if family.called_for]
    every = called = (*base, *((family.strategy, 0) for family in wanted))
    if base:
        yield from results.ask(base)
    if (yield from _mended(results, base, wanted)):
        return True
    several = len(wanted) > 1 and math.isfinite(results.baseline)
    if several or sum(family.cures for family in wanted) == 1:
        called = yield from _expert(results, base, wanted)
        yield from _together(results, called, knobs)
        if called != every and not results.learns_well():
            # At the rate of a run at another scale all together may only be slow.
            yield from _together(results, every, knobs)
        if results.learns_well():  # what of it is needed shows as edits are taken away
            most = SMALLER if len(called) == len(base) + 1 else 1
            yield from _smaller(results, base, knobs, most)
            return False
    yield from _one_by_one(results, base, mild)
    yield from _together(results, called, knobs)
    if not results.learns_well():
        for family in rest:
            yield from _climb(results, base, family)
            yield from _climb(results, called, family)
    if results.best() is None:
        yield from _last_resorts(results, base, everything)
    if results.best() is None:
        yield from _pairs(results, base, families)
    return False


def _one_by_one(results: _Results, base: Candidate, families: list[Family]) -> Proposals:
    """Propose one family after the other, until nothing is left to gain."""
    for family in families:
        if results.settled():
            return
        yield from _climb(results, base, family)


def _expert(
    results: _Results, base: Candidate, wanted: list[Family]
) -> Generator[Candidate, Tried, Candidate]:
    """Return all that the evidence calls for, or the only one with which a rerun learned, where
    that does as well.
    """
    called = (*base, *((family.strategy, 0) for family in wanted))
    cures = [(*base, (family.strategy, 0)) for family in wanted if family.cures]
    if len(cures) != 1:
        return called
    alone = yield from results.ask(cures[0])
    if len(wanted) == 1 or results.settled():
        return cures[0]
    every = yield from results.ask(called)
    highest = math.inf if every.loss is None else limit(every.loss, results.baseline)
    return cures[0] if alone.loss is not None and alone.loss <= highest else called


def _mended(
    results: _Results, base: Candidate, wanted: list[Family]
) -> Generator[Candidate, Tried, bool]:
    """Try the ways to compute the operation that failed otherwise, each alone and, where it holds,
    from mild to strong, the others in the place of which a way stands only where it does not hold;
    return whether one holds, and what else is called for adds nothing to it.
    """
    mends = left = [family for family in wanted if family.mends]
    best, lowest = base, math.inf
    while left and best == base:
        worse = frozenset().union(*(family.instead_of for family in left))
        for family in [family for family in left if family.strategy not in worse]:
            levels = [(*base, (family.strategy, level)) for level in range(family.levels)]
            tried = yield from results.ask(levels[0])
            if tried.loss is not None:
                yield from _climb(results, base, family)
            for candidate in levels:
                loss = results.known(candidate).loss
                if loss is not None and loss < lowest:
                    best, lowest = candidate, loss
        left = [family for family in left if family.strategy in worse]
    others = [(family.strategy, 0) for family in wanted if family not in mends]
    if best == base or not others:
        return best != base
    every = yield from results.ask((*best, *others))
    return every.loss is None or lowest <= limit(every.loss, results.baseline)


def _together(results: _Results, called: Candidate, knobs: list[Family]) -> Proposals:
    """Propose all that the evidence calls for, and each of the `knobs` on top of it."""
    if called and not results.settled():
        yield from results.ask(called)
        yield from _one_by_one(results, called, knobs)


def _smaller(results: _Results, base: Candidate, knobs: list[Family], most: int) -> Proposals:
    """Propose in the place of a larger change so many of the `knobs` with which a rerun learned."""
    for family in [family for family in knobs if family.cures][:most]:
        yield from results.ask((*base, (family.strategy, _levels(family)[0])))


def _climb(results: _Results, base: Candidate, family: Family) -> Proposals:
    """Try a family's levels from mild to strong on top of `base`, until one holds and a
    stronger one is no better.

    Where a stronger level fails no later than the milder one before it, only the strongest is tried
    still.
    """
    if family.strategy in {name for name, _ in base}:
        return
    best, survived = results.known(base).loss if base else None, None
    levels = _levels(family)
    while levels:
        tried = yield from results.ask((*base, (family.strategy, levels.pop(0))))
        if tried.loss is None and best is None:
            if survived is not None and tried.steps <= survived:
                levels = levels[-1:]
            survived = tried.steps
            continue
        if tried.loss is None or (best is not None and limit(tried.loss, results.baseline) >= best):
            return
        best = tried.loss


def _levels(family: Family) -> list[int]:
    """Return the levels that are climbed, a long ladder in four strides; those between are for
    `_improve`.
    """
    stride = max(1, family.levels // 4)
    return list(range(stride - 1, family.levels, stride))


def _last_resorts(results: _Results, base: Candidate, families: list[Family]) -> Proposals:
    for family in families:
        if family.last_resort:
            yield from _climb(results, base, family)


def _pairs(results: _Results, base: Candidate, families: list[Family]) -> Proposals:
    """When nothing held: two at a time, each at its strongest, until one pair holds.

    What has moved the onset latest by itself is combined first.
    """
    strongest = {family.strategy: (family.strategy, family.levels - 1) for family in families}
    survived = {name: results.known((*base, edit)).steps for name, edit in strongest.items()}
    for first, second in itertools.combinations(
        sorted(strongest, key=lambda name: -survived[name]), 2
    ):
        tried = yield from results.ask((*base, strongest[first], strongest[second]))
        if tried.loss is not None:
            return


def _improve(results: _Results) -> Proposals:
    """Move each edit of the best candidate to neighboring levels as long as that helps;
    the mildest may be left out.
    """
    levels = {family.strategy: family.levels for family in results.families}
    tiers = {family.strategy: family.tier for family in results.families}
    taken = {tiers[name] for name, _ in results.best() or ()}
    # A finely graded knob may have been strode over; but what another edit of its tier
    # has set is not set twice.
    others = (
        []
        if results.settled()
        else [family for family in results.families if family.tier not in taken]
    )
    strode_over = [family.strategy for family in others if family.levels > 3]
    for name in [*(name for name, _ in results.best() or ()), *strode_over]:
        for direction in (-1, 1):
            while True:
                best = dict(results.best() or ())
                level = best.get(name, -1) + direction
                if not 0 <= level < levels[name] or (name not in best and direction < 0):
                    break
                before = results.best()
                yield from results.ask(tuple({**best, name: level}.items()))
                if results.best() == before:
                    break


def _done_better(results: _Results, candidate: Candidate) -> Generator[Candidate, Tried, Candidate]:
    """Return a candidate with what treats its causes better in the place of what treats them less
    well, where that works.
    """
    for better in better_done(candidate, results.families):
        tried = yield from results.ask(better)
        if tried.loss is not None:
            return better
    return candidate


def _prune(results: _Results) -> Proposals:
    """Take edits of the best candidate away again, one at a time, as long as what is
    left is as good; then make milder what is left of them, likewise.

    Where the data themselves are at fault, the first change to them stays: a later one
    may do, but not keep as much. What computes the same numbers, and holds alone, stays, too, or is
    added in the end. A knob of the optimizer is not made milder: it is nearest to failing again
    there.
    """
    current = yield from _done_better(results, results.best() or ())
    highest = limit(results.known(current).loss or 0.0, results.baseline)
    exact = exact_alone(results.families, stable_losses(results.tried))
    first = 1 if any(bases(results.families)) else 0
    for edit in reversed([edit for edit in current[first:] if edit[0] not in exact]):
        smaller = tuple(kept for kept in current if kept != edit)
        if smaller:
            tried = yield from results.ask(smaller)
            if tried.loss is not None and tried.loss <= highest:
                current = smaller
    tiers = {family.strategy: family.tier for family in results.families}
    for name, strength in current:
        for level in range(strength if tiers[name] != Tier.OPTIMIZER else 0):
            milder = tuple({**dict(current), name: level}.items())
            tried = yield from results.ask(milder)
            if tried.loss is not None and tried.loss <= highest:
                current = milder
                break
    for name in exact - {*dict(current)}:
        yield from results.ask((*current, (name, 0)))
