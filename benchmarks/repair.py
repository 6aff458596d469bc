"""How good, how small and how dear nanfix's repairs are, beside what people do in the same time.

usage: python benchmarks/repair.py [--drawn N] [--long N] [--only NAMES] [--rows FILE] [CASE.py ...]
       python benchmarks/repair.py --summary FILE

A case is a Python file with build() and expert_fix(), each -> (model, x, y, fit_arguments), CAUSE,
and EXPERT_METRIC, whose first item names a figure in the history. Without case files, `--drawn`
trainings are drawn at random (see _drawn.py). Each method trains each case in a process of its own,
one after the other:

- expert: model.fit of expert_fix(), the yardstick of quality and time;
- nanfix: nanfix.fit of build(), from the run that fails to the end of the repaired training;
- random search, folk remedy, AutoTrainer's order (see _baselines.py), for as long as nanfix took.

Repaired: all weights finite, and more than half of the way from the untrained model to the expert.
Expert level: within 5 % of the expert's figure, or 0.02 for shares such as R2 and accuracies.
Right-sized: no edit can be left out without losing that much.
Fix alone: what was found, written as JSON, read again and applied to a fresh model without a
search, repairs as well. `--long` lengthens that many of the cases to about a minute of the expert's
training and gives the ratio of the two times.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from _cases import load
from _judging import at_level, is_repaired

METHODS = ("nanfix", "random search", "folk remedy", "AutoTrainer's order")
LONG_SECONDS, TIMEOUT = 60.0, 900


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", type=Path)
    parser.add_argument("--drawn", type=int, default=6)
    parser.add_argument("--long", type=int, default=0)
    parser.add_argument("--only", default=",".join(METHODS))
    parser.add_argument(
        "--rows", type=Path, help="append each measurement to this file, one JSON object a line"
    )
    parser.add_argument("--summary", type=Path, help="print the tables of such a file")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, method, seconds, lengthened = options.child
        print(json.dumps(measure(name, method, float(seconds), float(lengthened))))
        return
    if options.summary:
        rows = [json.loads(line) for line in options.summary.read_text().splitlines()]
        _tables(
            [row for row in rows if row["factor"] == 1.0],
            [row for row in rows if row["factor"] != 1.0],
        )
        return
    names = [str(file) for file in _files(options.cases)] or [
        f"drawn:{number}" for number in range(options.drawn)
    ]
    methods = [method for method in METHODS if method in options.only]
    rows = [row for name in names for row in _compared(name, methods, 1.0, options.rows)]
    _tables(
        rows,
        [
            row
            for chosen in _to_lengthen(rows, options.long)
            for row in _lengthened(chosen, options.rows)
        ],
    )


def measure(name, method, seconds, lengthened):
    """Train a case by one method; return its figure, seconds and size."""
    import keras  # noqa: F401  (its import is part of no figure)

    case = _case(name, lengthened)
    metric = case.EXPERT_METRIC[0]
    if method == "expert":
        return _expert(case, metric)
    if method == "nanfix":
        return _nanfix(case, metric, sized=lengthened == 1.0)
    import _baselines

    if method == "random search":
        space = _space(case)
        begun = time.perf_counter()
        model, history, attempts = _baselines.random_search(case, seconds, space)
    else:
        run = _baselines.folk_remedy if method == "folk remedy" else _baselines.autotrainer_order
        begun = time.perf_counter()
        model, history, attempts = run(case, seconds)
    spent = time.perf_counter() - begun
    return {"seconds": spent, "trials": attempts, "figure": _figure(model, history, metric)}


def _expert(case, metric):
    model, x, y, arguments = case.expert_fix()
    name = metric.removeprefix("val_")
    given = arguments.get("validation_data") or (x, y)
    untrained = (
        model.evaluate(*given[:2], verbose=0, return_dict=True).get(name, math.nan)
        if isinstance(given, tuple)
        else math.nan
    )
    model, x, y, arguments = case.expert_fix()
    begun = time.perf_counter()
    history = model.fit(x, y, **{**arguments, "verbose": 0}).history
    return {
        "seconds": time.perf_counter() - begun,
        "untrained": untrained,
        "figure": _figure(model, history, metric),
    }


def _nanfix(case, metric, sized):
    """Return what nanfix comes to; `sized`, also what its fix comes to alone and
    without each edit: a training each.
    """
    import nanfix

    model, x, y, arguments = case.build()
    begun = time.perf_counter()
    report = nanfix.fit(model, x, y, throw=False, seed=0, **{**arguments, "verbose": 0})
    spent = time.perf_counter() - begun
    figure = _figure(report.model, report.history, metric)
    edits = json.loads(json.dumps([edit.as_json() for edit in report.fix.edits]))
    row = {
        "seconds": spent,
        "trials": len(report.trials),
        "figure": figure,
        "outcome": report.outcome.name,
    }
    row["fix"] = [edit["strategy"] for edit in edits]
    if not sized:
        return row
    removable = [
        edit["strategy"]
        for edit in (edits if len(edits) > 1 else ())
        if at_level(
            metric, _applied(case, metric, [kept for kept in edits if kept is not edit]), figure
        )
    ]
    return {
        **row,
        "removable": removable,
        "alone": _applied(case, metric, edits) if edits else math.nan,
    }


def _applied(case, metric, edits):
    """Return the figure of a fresh model that is trained with these edits and no search."""
    import nanfix

    model, x, y, arguments = case.build()
    report = nanfix.apply(
        model, nanfix.Fix.from_json(edits), x, y, throw=False, **{**arguments, "verbose": 0}
    )
    return _figure(report.model, report.history, metric)


def _space(case):
    """Return the space that nanfix searches for this case, from its own diagnosis."""
    from nanfix.data.training_data import TrainingData
    from nanfix.explain.incident import Incident
    from nanfix.recorder.watch import Watching, watch
    from nanfix.remedies.registry import select
    from nanfix.search.space import build_space

    model, x, y, arguments = case.build()
    data = TrainingData.of(x, y, {**arguments, "verbose": 0})
    incident = Incident(model, data, watch(model, data), Watching(), 0)
    return build_space(select(None), incident.diagnose(), incident.run)


def _case(name, lengthened):
    if name.startswith("drawn:"):
        import _drawn

        case = _drawn.case(int(name.removeprefix("drawn:")))
    else:
        case = load(Path(name))
    if lengthened != 1.0:
        for kind in ("build", "expert_fix"):
            setattr(case, kind, _longer(getattr(case, kind), lengthened))
    return case


def _longer(made, factor):
    def build():
        model, x, y, arguments = made()
        return model, x, y, {**arguments, "epochs": math.ceil(arguments.get("epochs", 1) * factor)}

    return build


def _figure(model, history, metric):
    import _baselines

    values = history.get(metric) or [math.nan]
    return float(values[-1]) if _baselines.finite(model) else math.nan


def _files(paths):
    found = sorted(
        file for path in paths for file in (path.glob("*.py") if path.is_dir() else [path])
    )
    return [
        file
        for file in found
        if "\nEXPERT_METRIC = (" in file.read_text() and "def expert_fix" in file.read_text()
    ]


def _compared(name, methods, lengthened, keep):
    """Measure one case by the expert and by each method; print and return the rows."""
    expert = _measured(name, "expert", 0.0, lengthened)
    if expert is None:
        return []
    rows, seconds = [], 0.0
    metric = "val_r2" if name.startswith("drawn:") else load(Path(name)).EXPERT_METRIC[0]
    for method in methods:
        row = _measured(name, method, seconds, lengthened)
        if row is None:
            continue
        seconds = row["seconds"] if method == "nanfix" else seconds
        row |= {
            "case": Path(name).stem,
            "name": name,
            "method": method,
            "metric": metric,
            "factor": lengthened,
        }
        row |= {
            "expert": expert["figure"],
            "untrained": expert["untrained"],
            "expert_seconds": expert["seconds"],
        }
        rows.append(row)
        told = f"{row['case']:34} {method:20} {row['figure']:9.4g} of {row['expert']:9.4g}"
        size = (
            f"{'+'.join(row.get('fix', []))} "
            f"{'(removable: ' + ', '.join(row['removable']) + ')' if row.get('removable') else ''}"
        )
        print(
            f"{told} {row['seconds']:6.1f} s ({expert['seconds']:.1f}) {row['trials']:3} trials "
            f"{size}",
            flush=True,
        )
        if keep:
            with keep.open("a") as file:
                file.write(json.dumps(row) + "\n")
    return rows


def _measured(name, method, seconds, lengthened):
    command = [sys.executable, __file__, "--child", name, method, str(seconds), str(lengthened)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        print(f"{Path(name).stem} {method}: more than {TIMEOUT} s", flush=True)
        return None
    if done.returncode:
        print(
            f"{Path(name).stem} {method} failed: "
            f"{(done.stderr.strip().splitlines() or ['?'])[-1][:120]}",
            flush=True,
        )
        return None
    return json.loads(done.stdout.splitlines()[-1])


def _summarize(rows, title, cost):
    print(
        f"\n| method | repaired | expert level | right-sized | trials (median) | {title}: median | "
        "p90 |"
    )
    print("|---|---|---|---|---|---|---|")
    for method in METHODS:
        mine = [row for row in rows if row["method"] == method]
        if not mine:
            continue
        repaired = [row for row in mine if is_repaired(row)]
        level = sum(at_level(row["metric"], row["figure"], row["expert"]) for row in repaired)
        sized = (
            f"{sum(not row['removable'] for row in repaired)} of {len(repaired)}"
            if "removable" in mine[0]
            else "-"
        )
        costs = sorted(map(cost, mine))
        p90 = costs[min(len(costs) - 1, math.ceil(0.9 * len(costs)) - 1)]
        trials = statistics.median(row["trials"] for row in mine)
        print(
            f"| {method} | {len(repaired)} of {len(mine)} | {level} | {sized} | {trials:g} "
            f"| {statistics.median(costs):.1f} | {p90:.1f} |"
        )


def _to_lengthen(rows, count):
    """Return the rows of `count` cases that were repaired, spread over all of them."""
    repaired = [row for row in rows if row["method"] == "nanfix" and is_repaired(row)]
    return repaired[:: max(1, len(repaired) // count)][:count] if count else []


def _lengthened(row, keep):
    return _compared(row["name"], ["nanfix"], max(1.0, LONG_SECONDS / row["expert_seconds"]), keep)


def _tables(rows, long):
    print(
        "\nthe fix alone repairs: "
        f"{sum(is_repaired({**row, 'figure': row['alone']}) for row in rows if 'alone' in row)}"
    )
    _summarize(rows, "extra seconds", lambda row: row["seconds"] - row["expert_seconds"])
    _summarize(rows, "times the expert's run", lambda row: row["seconds"] / row["expert_seconds"])
    if long:
        print("\nlengthened to about a minute:")
        _summarize(
            long, "times the expert's run", lambda row: row["seconds"] / row["expert_seconds"]
        )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    main()
