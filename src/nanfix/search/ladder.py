"""The order in which candidate fixes are tried: mild before strong, single before combined, then pruned.

A ladder is a generator: it yields a candidate and is sent what came of it. It keeps no state outside itself, so feeding it
the results of finished trials brings it back to where a killed search stood.
"""

import itertools
import math
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field

from nanfix.remedies.strategy import Tier

Candidate = tuple[tuple[str, int], ...]  # (strategy, level) in the order they are applied

EQUAL = 0.05  # a loss worse than the best by this share of it counts as equal, and the smaller change wins,
EQUAL_GAIN = 0.02  # and so does one worse by this share of what the best has gained over learning nothing
LEARNS_WELL = 0.3  # of the loss of a model that has learned nothing; higher tiers are spared then


@dataclass(frozen=True)
class Tried:
    """What came of a candidate: the loss that it reached, None when it did not hold, and the steps that it survived."""

    loss: float | None
    steps: int = 0


FAILED = Tried(None)
Walk = Generator[Candidate, Tried, None]
Results = Mapping[Candidate, Tried]


@dataclass(frozen=True)
class Rung:
    """One strategy on the ladder: its tier and how many levels it has.

    `indicated` says that strong evidence names a cause it treats, `called_for` that it belongs to what is tried together,
    `last_resort` that it does not remove any of the causes, but may ease one.
    """

    strategy: str
    tier: int
    levels: int
    called_for: bool = False
    indicated: bool = True
    last_resort: bool = False


@dataclass
class _Results:
    """The candidates tried so far and what they reached; asks for each only once."""

    rungs: tuple[Rung, ...]
    bar: float
    tried: dict[Candidate, Tried] = field(default_factory=dict)

    def ask(self, candidate: Candidate) -> Generator[Candidate, Tried, Tried]:
        candidate = in_order(candidate, self.rungs)
        if candidate not in self.tried:
            self.tried[candidate] = yield candidate
        return self.tried[candidate]

    def known(self, candidate: Candidate) -> Tried:
        return self.tried.get(in_order(candidate, self.rungs), FAILED)

    def best(self) -> Candidate | None:
        held = held_losses(self.tried)
        return min(held, key=lambda candidate: held[candidate]) if held else None

    def learns_well(self) -> bool:
        best = self.best()
        loss = None if best is None else self.tried[best].loss
        return loss is not None and (not math.isfinite(self.bar) or loss <= LEARNS_WELL * self.bar)

    def settled(self) -> bool:
        """Say whether nothing is left to gain that would count, as losses end at 0: every later candidate is a larger change."""
        best = self.best()
        loss = None if best is None else self.tried[best].loss
        return loss is not None and math.isfinite(self.bar) and 0.0 <= loss <= EQUAL_GAIN * self.bar


def ladder(rungs: Iterable[Rung], bar: float = math.inf) -> Walk:
    """Walk the rungs: each alone, then what the evidence calls for together, then the best one refined and pruned.

    Strategies for which the evidence is weak, and those that change numerics or architecture without being called for, are
    tried only when the others do not learn well, and the last resorts only when nothing else has held.

    Args:
        bar: the loss of a model that has learned nothing.
    """
    rungs = tuple(rungs)
    results = _Results(rungs, bar)
    for ground in grounds(rungs):
        yield from _walk(results, ground)
        if results.best() is not None:
            yield from _improve(results)
            yield from _prune(results)
            return


def grounds(rungs: Iterable[Rung]) -> list[Candidate]:
    """Return what the other edits can stand on: the changes to the data that the evidence calls for, then the other ones.

    Where the data themselves are at fault, nothing holds without a change to them. A single empty ground where they are not.
    """
    data = [rung for rung in rungs if rung.tier == Tier.DATA]
    called = tuple((rung.strategy, 0) for rung in data if rung.called_for)
    return [called, *(((rung.strategy, 0),) for rung in data if not rung.called_for)] if called else [()]


def _walk(results: _Results, ground: Candidate) -> Walk:
    """Walk the rungs, each candidate with the changes to the data that are the `ground`."""
    everything = [rung for rung in results.rungs if not (ground and rung.tier == Tier.DATA)]
    rungs = [rung for rung in everything if not rung.last_resort]
    mild = [rung for rung in rungs if (rung.indicated and rung.tier <= Tier.SCALING) or rung.called_for]
    rest = [rung for rung in rungs if rung not in mild]
    knobs = [rung for rung in mild if rung.tier <= Tier.OPTIMIZER]
    called = (*ground, *((rung.strategy, 0) for rung in rungs if rung.called_for))
    if ground:
        yield from results.ask(ground)
    for rung in mild:
        if results.settled():
            return
        yield from _climb(results, ground, rung)
    if called and not results.settled():
        yield from results.ask(called)
        for rung in knobs:
            yield from _climb(results, called, rung)
    if not results.learns_well():
        for rung in rest:
            yield from _climb(results, ground, rung)
            yield from _climb(results, called, rung)
    if results.best() is None:
        for rung in (rung for rung in everything if rung.last_resort):
            yield from _climb(results, ground, rung)
    if results.best() is None:
        yield from _pairs(results, ground, rungs)


def held_losses(results: Results) -> dict[Candidate, float]:
    """Return the loss of each candidate that held."""
    return {candidate: tried.loss for candidate, tried in results.items() if tried.loss is not None}


def choose(results: Results, rungs: Iterable[Rung], bar: float = math.inf) -> list[Candidate]:
    """Return the candidates that held, the one to adopt first: the smallest change among the equally good, then by loss."""
    held = held_losses(results)
    if not held:
        return []
    highest = limit(min(held.values()), bar)
    tiers = {rung.strategy: rung.tier for rung in rungs}

    def size(candidate: Candidate) -> tuple[int, int, float]:
        return len(candidate), sum(tiers[name] for name, _ in candidate), held[candidate]

    good = sorted((c for c in held if held[c] <= highest), key=size)
    return good + sorted((c for c in held if held[c] > highest), key=lambda c: held[c])


def in_order(candidate: Candidate, rungs: tuple[Rung, ...]) -> Candidate:
    """Put edits in the order they are applied: the data, then the higher tiers first, the optimizer tuned on top of them."""
    place = {rung.strategy: (rung.tier != Tier.DATA, -rung.tier, index) for index, rung in enumerate(rungs)}
    return tuple(sorted(candidate, key=lambda edit: place[edit[0]]))


def limit(best: float, bar: float) -> float:
    """Return the highest loss that counts as equal to the best."""
    gained = bar - best if math.isfinite(bar) else 0.0
    return best + max(EQUAL * abs(best), EQUAL_GAIN * gained)


def _climb(results: _Results, base: Candidate, rung: Rung) -> Walk:
    """Try a rung's levels from mild to strong on top of `base`, until one holds and a stronger one is no better.

    Long ladders are climbed in four strides; the levels between are for `_improve`. Where a stronger level fails no later
    than the milder one before it, only the strongest is tried still.
    """
    if rung.strategy in {name for name, _ in base}:
        return
    best, survived = results.known(base).loss if base else None, None
    stride = max(1, rung.levels // 4)
    levels = list(range(stride - 1, rung.levels, stride))
    while levels:
        tried = yield from results.ask((*base, (rung.strategy, levels.pop(0))))
        if tried.loss is None and best is None:
            if survived is not None and tried.steps <= survived:
                levels = levels[-1:]
            survived = tried.steps
            continue
        if tried.loss is None or (best is not None and limit(tried.loss, results.bar) >= best):
            return
        best = tried.loss


def _pairs(results: _Results, ground: Candidate, rungs: list[Rung]) -> Walk:
    """When nothing held: two at a time, each at its strongest, until one pair holds.

    What has moved the onset latest by itself is combined first.
    """
    strongest = {rung.strategy: (rung.strategy, rung.levels - 1) for rung in rungs}
    survived = {name: results.known((*ground, edit)).steps for name, edit in strongest.items()}
    for first, second in itertools.combinations(sorted(strongest, key=lambda name: -survived[name]), 2):
        tried = yield from results.ask((*ground, strongest[first], strongest[second]))
        if tried.loss is not None:
            return


def _improve(results: _Results) -> Walk:
    """Move each edit of the best candidate to neighboring levels as long as that helps; the mildest may be left out."""
    levels = {rung.strategy: rung.levels for rung in results.rungs}
    tiers = {rung.strategy: rung.tier for rung in results.rungs}
    taken = {tiers[name] for name, _ in results.best() or ()}
    # A finely graded knob may have been strode over; but what another edit of its tier has set is not set twice.
    others = [] if results.settled() else [rung for rung in results.rungs if rung.tier not in taken]
    strode_over = [rung.strategy for rung in others if rung.levels > 3]
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


def _prune(results: _Results) -> Walk:
    """Take edits of the best candidate away again, one at a time, as long as what is left is as good.

    Where the data themselves are at fault, the first change to them stays: a later one may do, but not keep as much.
    """
    current = results.best() or ()
    highest = limit(results.known(current).loss or 0.0, results.bar)
    for edit in reversed(current[1:] if any(grounds(results.rungs)) else current):
        smaller = tuple(kept for kept in current if kept != edit)
        if smaller:
            tried = yield from results.ask(smaller)
            if tried.loss is not None and tried.loss <= highest:
                current = smaller
