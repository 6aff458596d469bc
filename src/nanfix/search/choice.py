"""Which of the candidates that held is adopted: the smallest change among the equally good."""

import math
from collections.abc import Collection

from nanfix.remedies.strategy import Tier
from nanfix.search.candidates import (
    Candidate,
    Family,
    Results,
    better_done,
    exact_alone,
    stable_losses,
)

# a loss worse than the best by this share of it counts as equal, and the smaller change wins,
EQUAL = 0.05
# but for what takes more than this share of what the best has gained over learning nothing: much of
# a loss may be there whatever is learned,
MOST_GAIN = 0.25
# and so does one worse by this share of what the best has gained over learning nothing.
EQUAL_GAIN = 0.02
# Losses that differ by no more than other seeds make them differ are equal, too; but what takes
# more than this share of the gain is no noise.
MOST_NOISE = 0.1


def choose(
    results: Results,
    families: Collection[Family],
    baseline: float = math.inf,
    noise: float = 0.0,
    held: Collection[Candidate] = (),
) -> list[Candidate]:
    """Return the candidates that held, the one to adopt first: the smallest change among the
    equally good, then by loss.

    Fewer edits are smaller than more, lower tiers than higher ones, and milder levels than stronger
    ones: what standardizes is easier to write and to read than a power. A knob of the optimizer is
    the exception. At its mildest it is nearest to failing again, so there the loss decides. What
    computes the same numbers, and holds alone, counts for nothing: with it, a fix is rather taken
    than without.

    Args:
        noise: by how much the loss of one fix has differed from seed to seed.
        held: what has held beside these candidates.
    """
    stable = stable_losses(results)
    if not stable:
        return []
    done_better = {c for c in stable if any(b in stable for b in better_done(c, families))}
    best = {c: loss for c, loss in stable.items() if c not in done_better}
    highest = limit(min(best.values()), baseline, noise)
    tiers = {family.strategy: family.tier for family in families}
    exact = exact_alone(families, {*stable, *held})

    def size(candidate: Candidate) -> tuple[int, int, int, int, float]:
        changes = [(name, level) for name, level in candidate if name not in exact]
        strength = sum(level for name, level in changes if tiers[name] != Tier.OPTIMIZER)
        tier = sum(tiers[name] for name, _ in changes)
        same = len(candidate) - len(changes)
        return len(changes), -same, tier, strength, stable[candidate]

    good = sorted((c for c in best if stable[c] <= highest), key=size)
    others = sorted(stable, key=lambda c: (c not in best, stable[c]))
    return good + [candidate for candidate in others if candidate not in good]


def limit(best: float, baseline: float, noise: float = 0.0) -> float:
    """Return the highest loss that counts as equal to the best."""
    gained = baseline - best if math.isfinite(baseline) else 0.0
    equal = min(EQUAL * abs(best), MOST_GAIN * gained if gained > 0 else math.inf)
    return best + max(equal, EQUAL_GAIN * gained, min(noise, MOST_NOISE * gained))
