"""From the plan of a fix to the changes of the user's source that make the same training: which
call, line or argument.
"""

from collections.abc import Sequence

from nanfix.changes.plan import Plan
from nanfix.model.run import Run
from nanfix.records.source_changes import NoPlace, SourceChange
from nanfix.source.fit_call import FitCall


def source_changes(run: Run | None, stages: Sequence[Plan], call: FitCall) -> list[SourceChange]:
    """Return the changes of the source that make the last of the `stages`, each with
    the edits that want it.

    `stages` is the plan after each edit. What has no place in the source is a NoPlace
    with the reason.
    """
    if run is None or not stages:
        return []
    by_stage = [_changes(run, plan, call) for plan in stages]
    final = by_stage[-1]
    wanted: dict[tuple[object, ...], list[int]] = {subject: [] for subject in final}
    for index, (before, after) in enumerate(zip([{}, *by_stage[:-1]], by_stage, strict=True)):
        new = [
            subject
            for subject, change in after.items()
            if before.get(subject) != change and subject in final
        ]
        for subject in new:
            wanted[subject].append(index)
    found: list[SourceChange] = [
        change.model_copy(update={"edits": wanted[subject]}) for subject, change in final.items()
    ]
    idle = sorted(set(range(len(stages))) - {index for edits in wanted.values() for index in edits})
    return [
        *found,
        *(
            NoPlace(edits=[index], reason="nothing in the source holds what it changes")
            for index in idle
        ),
    ]


def _changes(run: Run, plan: Plan, call: FitCall) -> dict[tuple[object, ...], SourceChange]:
    """Return by subject the changes of the source that a plan wants; those of one
    subject come to one.
    """
    found: dict[tuple[object, ...], SourceChange] = {}
    for place in (place for change in plan for place in change.in_source(run, plan, call)):
        before = found.get(place.subject)
        found[place.subject] = place if before is None else before.joined(place)
    return found
