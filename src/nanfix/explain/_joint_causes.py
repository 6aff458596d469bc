"""Which causes are at fault together, where taking away a single one is not enough."""

from collections.abc import Callable
from dataclasses import replace

from nanfix.explain._interventions import Intervention, together
from nanfix.explain._rerunner import Course, Rerunner
from nanfix.explain.counterfactuals import Counterfactuals, Rerun
from nanfix.records.cause import Cause

JOINT_FACTORS = (0.1, 0.01, 1e-3)  # of the learning rate, where that is not all


def jointly(
    rerunner: Rerunner, course: Course, changes: dict[Cause, Intervention], found: Counterfactuals
) -> Counterfactuals:
    """Where no single change but a lower rate cures, find those that do together, and of which
    none can be left out. Where the run learns with a lower rate, it has to with these, too.
    """
    # What the step does not take alone, it does not take with others.
    changes = {cause: each for cause, each in changes.items() if cause in found.alone}
    enough = (*found.alone.values(), *(() if changes else (found.rate,)))
    if any(rerun is not None and rerun.cured for rerun in enough):
        return found

    def attempt(causes: list[Cause], rate: float) -> Rerun | None:
        change = together([changes[cause] for cause in causes])
        if rate != 1.0:
            slower = f"{rate:g} times the learning rate"
            change = replace(
                change, words=f"{change.words} and {slower}" if causes else f"with {slower}"
            )
        return rerunner.rerun_with(change, course, rate=rate)

    every, joint, rate = list(changes), None, 1.0
    for rate in (1.0, *JOINT_FACTORS) if len(every) > 1 else JOINT_FACTORS:
        joint = attempt(every, rate)
        if joint is None or joint.cured:
            break
    if joint is None:
        return found
    if not joint.finite:  # what fails then is another thing
        with rerunner.on_top_of(together(list(changes.values()))):
            return replace(found, then=rerunner.failure(course, joint.steps, rate))
    by_rate = found.rate is not None and found.rate.learned
    if not joint.cured or (by_rate and not joint.learned):
        return found
    kept, joint = _indispensable(every, joint, lambda causes: attempt(causes, rate))
    needed = (*kept, *((Cause.LEARNING_RATE,) if rate != 1.0 else ()))
    return replace(found, needed=needed, joint=joint) if len(needed) > 1 else found


def _indispensable(
    causes: list[Cause], joint: Rerun, attempt: Callable[[list[Cause]], Rerun | None]
) -> tuple[list[Cause], Rerun]:
    """Leave out one cause after the other as long as what is left cures; return that and its
    rerun.
    """
    kept = list(causes)
    for cause in causes:
        fewer = attempt([each for each in kept if each is not cause])
        if fewer is not None and fewer.cured:
            kept.remove(cause)
            joint = fewer
    return kept, joint
