"""The best candidates over more steps: what is behind half way may be in front in the end."""

import math
import time
from collections.abc import Collection, Mapping

from nanfix.remedies.fix import Fix
from nanfix.search._proof import Longer
from nanfix.search.candidates import Candidate, Family, Tried
from nanfix.search.choice import choose
from nanfix.search.search import Found

RIVALS = 3  # candidates that are compared
SHARE = 0.5  # of what the best has gained over learning nothing, a rival has gained


def rivals(losses: Mapping[Candidate, float], first: Candidate, baseline: float) -> list[Candidate]:
    """Return the candidates that may end best: the `first`, and those that learn fastest, from the
    lowest loss; none where there is one alone. Where nothing tells what a candidate has gained, any
    may end best.
    """
    known = math.isfinite(baseline)
    highest = baseline - SHARE * (baseline - min(losses.values())) if known else math.inf
    near = sorted((c for c in losses if losses[c] <= highest), key=lambda c: losses[c])
    chosen = [first, *(c for c in near if c != first)][:RIVALS]
    return chosen if len(chosen) > 1 else []


class Contest:
    """Ranks what a search has found, the rivals by longer probes."""

    def __init__(self, longer: Longer, families: Collection[Family], baseline: float):
        self._longer, self._families, self._baseline = longer, families, baseline

    def ranked(self, found: Found, noise: float, deadline: float) -> dict[Candidate, Fix]:
        """Return the fixes, the one to prove first in front. What fails in its longer probe comes
        last; at the `deadline` the order is that of the trials.
        """
        if not found.fixes:
            return {}
        losses = {candidate: found.losses[candidate] for candidate in found.fixes}
        first, reached = next(iter(losses)), {}
        for candidate in rivals(losses, first, self._baseline):
            if time.monotonic() > deadline:
                return dict(found.fixes)
            self._longer(found.fixes[candidate])
            reached[candidate] = Tried(self._longer.reached(found.fixes[candidate]))
        front = choose(reached, self._families, self._baseline, noise, losses)
        if front and len(front[0]) > len(first) and first in front:
            # One seed is little to make a larger change for.
            pair = [found.fixes[candidate] for candidate in (first, front[0])]
            noise = max(noise, *map(self._longer.spread, pair))
            again = {c: Tried(self._longer.reached(found.fixes[c])) for c in reached}
            front = choose(again, self._families, self._baseline, noise, losses)
        failed = [candidate for candidate in reached if candidate not in front]
        between = [candidate for candidate in found.fixes if candidate not in reached]
        return {candidate: found.fixes[candidate] for candidate in [*front, *between, *failed]}
