"""Is a run that fails for want of a remedy repaired, and as well as an expert does it by hand?

usage: python benchmarks/catalogue.py [--draws N] [--first N] [--rows FILE] [STRATEGY ...]
       python benchmarks/catalogue.py --summary FILE

For each strategy small runs are drawn by number (_catalogue_*.py): network, optimizer, rate, data.
Each goes non-finite with plain Keras, and learns with the change that an expert makes by hand. What
does not is drawn anew, at most 8 times, and told. Then nanfix.fit repairs it, with its default
settings.

Both are judged by rows that neither has seen: R2, accuracy, or the user's own loss.

Repaired: the outcome is REPAIRED, all weights are finite, and the figure lies more than half of the
way from the untrained model to the expert's. Expert level: repaired, and within 5 % of the expert's
figure, or 0.02 for R2 and accuracy. By this remedy: it is among the edits of the fix; another that
does as well is no fault. Times plain: median of the seconds of nanfix.fit over those of the run
that fails, both with all that Keras compiles.
"""

import argparse
import collections
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _judging import at_level, is_repaired

TRIES = 8


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("strategies", nargs="*", metavar="STRATEGY")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first draw")
    parser.add_argument(
        "--rows", type=Path, help="append each measurement to this file, one JSON object a line"
    )
    parser.add_argument("--summary", type=Path, help="print the table of such a file")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.summary:
        table([json.loads(line) for line in options.summary.read_text().splitlines()])
        return
    numbers = range(options.first, options.first + options.draws)
    if options.child:
        for number in numbers:
            print(json.dumps(measure(options.strategies[0], number)), flush=True)
        return
    names = options.strategies or every_strategy()
    table([row for name in names for row in measured(name, numbers, options.rows)])


def every_strategy():
    folder = Path(__file__).parents[1] / "strategies"
    return sorted(
        file.stem.replace("_", "-") for file in folder.glob("*.py") if file.stem != "__init__"
    )


def measured(name, numbers, keep):
    """Measure the draws of one strategy in a process of its own; print and yield each row."""
    command = [sys.executable, __file__, "--child", name]
    command += ["--first", str(numbers.start), "--draws", str(len(numbers))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        for line in child.stdout:
            if not line.startswith("{"):
                continue
            row = json.loads(line)
            print(told(row), flush=True)
            if keep:
                with keep.open("a") as file:
                    file.write(line)
            yield row
        errors = child.stderr.read()
    if child.returncode:
        print(f"{name} failed: {(errors.strip().splitlines() or ['?'])[-1][:200]}", flush=True)


def measure(name, number):
    """Draw a run and train it by plain Keras, by the expert's version and by nanfix."""
    import keras

    import nanfix

    row = {"strategy": name, "number": number, "redrawn": []}
    run = _counting(row)
    if run is None:
        return row
    keras.backend.clear_session()
    model, x, y, arguments = run.plain.build()
    begun = time.perf_counter()
    report = nanfix.fit(model, x, y, throw=False, seed=0, **arguments)
    return {
        **row,
        "seconds": time.perf_counter() - begun,
        "figure": _figure(run.figure, report.model),
        "outcome": report.outcome.name,
        "cause": report.diagnosis.cause.name if report.diagnosis else None,
        "fix": [edit.strategy for edit in report.fix.edits],
        "trials": len(report.trials),
    }


def _counting(row):
    """Return the first draw that fails as it is and learns by the expert's hand; note in `row`
    what it comes to, and why others did not count.
    """
    import _catalogue_data  # noqa: F401  (these three register the runs)
    import _catalogue_formulas  # noqa: F401
    import _catalogue_training  # noqa: F401
    import keras
    from _catalogue import drawn
    from _recipes import fails

    for attempt in range(TRIES):
        keras.backend.clear_session()
        run = drawn(row["strategy"], row["number"], attempt)
        model, x, y, arguments = run.plain.build()
        begun = time.perf_counter()
        losses = model.fit(x, y, **arguments).history["loss"]
        seconds = time.perf_counter() - begun
        if not fails(model, losses):
            row["redrawn"].append("stays finite")
            continue
        model, x, y, arguments = run.expert.build()
        untrained = _figure(run.expert_figure, model)
        model.fit(x, y, **arguments)
        expert = _figure(run.expert_figure, model)
        nothing = run.nothing()
        if not learned(run.judge.metric, expert, nothing):
            row["redrawn"].append(f"the expert's comes to {expert:.3g}, nothing to {nothing:.3g}")
            continue
        written, fed, kind = run.plain.written, run.plain.fed, run.plain.kind
        row |= {"kind": kind, "written": written, "fed": fed}
        row |= {"metric": run.judge.metric, "plain_seconds": seconds}
        row |= {"untrained": untrained, "expert": expert}
        return run
    return None


def learned(metric, figure, nothing):
    """Say whether a figure is better than that of a constant prediction, shares by a tenth."""
    return figure < nothing if metric == "loss" else figure > nothing + 0.1


def _figure(judged, model):
    import _baselines

    return judged(model) if _baselines.finite(model) else math.nan


def counts_as_repaired(row):
    return row["outcome"] == "REPAIRED" and is_repaired(row)


def told(row):
    label = f"{row['strategy']:28} {row['number']:3}"
    again = f" (drawn again: {', '.join(row['redrawn'])})" if row["redrawn"] else ""
    if "figure" not in row:
        return f"{label} NOT DRAWN{again}"
    level = counts_as_repaired(row) and at_level(row["metric"], row["figure"], row["expert"])
    word = "expert" if level else "below" if counts_as_repaired(row) else row["outcome"]
    return (
        f"{label} {word:10} {row['metric']:8} {row['figure']:8.4g} of {row['expert']:8.4g} "
        f"{row['kind']}, {row['written']}, {row['fed']} "
        f"{row['cause']} {'+'.join(row['fix'])} {row['trials']} trials "
        f"{row['seconds']:.1f} s ({row['plain_seconds']:.1f}){again}"
    )


def table(rows):
    columns = "draws | repaired | expert level | by this remedy | fix used most | times plain"
    print(f"\n| strategy | {columns} |")
    print("|---|---|---|---|---|---|---|")
    by_name = collections.defaultdict(list)
    for row in rows:
        by_name[row["strategy"]].append(row)
    for name, mine in by_name.items():
        print(_line(name, [row for row in mine if "figure" in row], len(mine)))
    print(_line("**all**", [row for row in rows if "figure" in row], len(rows)))


def _line(name, rows, drawn):
    repaired = [row for row in rows if counts_as_repaired(row)]
    level = sum(at_level(row["metric"], row["figure"], row["expert"]) for row in repaired)
    own = sum(row["strategy"] in row["fix"] for row in repaired)
    used = collections.Counter("+".join(sorted(row["fix"])) for row in repaired).most_common(1)
    most = f"{used[0][0]} ({used[0][1]})" if used and name != "**all**" else ""
    times = [row["seconds"] / row["plain_seconds"] for row in rows]
    draws = f"{len(rows)}" if len(rows) == drawn else f"{len(rows)} of {drawn}"
    cost = f"{statistics.median(times):.1f}" if times else "-"
    return f"| {name} | {draws} | {len(repaired)} | {level} | {own} | {most} | {cost} |"


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    main()
