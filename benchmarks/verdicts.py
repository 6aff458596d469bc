"""Are the verdicts true? Losses that are cut off from the weights, and healthy runs that look sick.

usage: python benchmarks/verdicts.py [vacuous] [controls] [games] [FIRST LAST]

vacuous: of a training whose loss tells the weights nothing, "repaired" may only be said where
predictions rank rows that are held back better than before training, by the truth.
controls: a healthy training has to come out as model.fit makes it, bit for bit.

games: of a training with several optimizers, "repaired" may only be said where it has learned
half as much as the training that an expert would write.

By default all, each loss twice and 60 controls; FIRST and LAST are the numbers of
the runs, as the table prints them. One process, no other work beside it.
"""

import collections
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

CONTROLS = 60


@dataclass(frozen=True)
class Verdict:
    """What nanfix said of a run, and whether that is true."""

    name: str
    outcome: str
    told: str
    true: bool


def judge_vacuous(number: int) -> Verdict:
    """Train a run whose loss is cut off, and say whether the outcome is right."""
    from _vacuous import LEARNED, build

    import nanfix

    run = build(number)
    before = run.skill()
    report = nanfix.fit(run.model, run.x, run.y, throw=False, **run.arguments)
    after = run.skill()
    learned = after > max(before, 0.0) + LEARNED
    fix = " + ".join(edit.strategy for edit in report.fix.edits) or "-"
    told = f"{fix}; rank correlation {before:.2f} to {after:.2f}"
    true = learned or report.outcome.name != "REPAIRED"
    return Verdict(run.name, report.outcome.name, told, true)


def judge_game(number: int) -> Verdict:
    """Train several players and their expert's twin, and say whether the outcome is right."""
    from _players import GAMES, build

    import nanfix

    name = sorted(GAMES)[number]
    twin = build(name, expert=True)
    twin.model.fit(twin.x, twin.y, **twin.arguments)
    best, run = twin.skill(), build(name)
    report = nanfix.fit(run.model, run.x, run.y, throw=False, **run.arguments)
    reached = run.skill()
    fix = " + ".join(edit.strategy for edit in report.fix.edits) or "-"
    told = f"{fix}; skill {reached:.2f}, the expert's {best:.2f}"
    true = reached >= best / 2 or report.outcome.name != "REPAIRED"
    return Verdict(name, report.outcome.name, told, true)


def judge_control(number: int) -> Verdict:
    """Train a healthy run with and without nanfix, and compare every number."""
    from _controls import build

    import nanfix

    name, model, x, y, arguments = build(number)
    history = model.fit(x, y, **arguments).history
    expected = _state(model)
    _, model, x, y, arguments = build(number)
    report = nanfix.fit(model, x, y, throw=False, **arguments)
    alike = _alike(expected, _state(model)) and _alike(
        sorted(history.items()), sorted(report.history.items())
    )
    told = "as model.fit" if alike else "another model or history"
    return Verdict(name, report.outcome.name, told, alike and report.outcome.name == "HEALTHY")


def _state(model: Any) -> list[tuple[str, Any]]:
    return [(v.path, v.numpy()) for v in (*model.variables, *model.optimizer.variables)]


def _alike(one: list[tuple[str, Any]], other: list[tuple[str, Any]]) -> bool:
    import numpy as np

    return len(one) == len(other) and all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for (_, a), (_, b) in zip(one, other, strict=True)
    )


JUDGES = {"vacuous": judge_vacuous, "controls": judge_control, "games": judge_game}


def show(kind: str, numbers: Iterable[int]) -> None:
    """Print each run and its verdict, then how many are true."""
    judge = JUDGES[kind]
    print(f"| {kind} | | outcome | | true |\n|---|---|---|---|---|")
    verdicts = []
    for number in numbers:
        verdict = judge(number)
        verdicts.append(verdict)
        true = "yes" if verdict.true else "NO"
        cells = (number, verdict.name, verdict.outcome, verdict.told, true)
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
    outcomes = collections.Counter(verdict.outcome for verdict in verdicts)
    told = ", ".join(f"{runs} {outcome}" for outcome, runs in outcomes.most_common())
    true = sum(verdict.true for verdict in verdicts)
    print(f"\n{kind}: {true} of {len(verdicts)} true ({told})\n", flush=True)


def main() -> None:
    from _players import GAMES
    from _vacuous import LOSSES

    words = sys.argv[1:]
    span = [int(word) for word in words if word.isdigit()]
    kinds = [word for word in words if not word.isdigit()] or list(JUDGES)
    if not set(kinds) <= set(JUDGES) or len(span) not in (0, 2):
        sys.exit(__doc__)
    for kind in kinds:
        usual = {"vacuous": 2 * len(LOSSES), "controls": CONTROLS, "games": len(GAMES)}
        show(kind, range(*span) if span else range(usual[kind]))


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    main()
