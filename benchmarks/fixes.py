"""Does the fix alone repair, applied to a fresh model without any search? One process per case.

usage: python benchmarks/fixes.py FOLDER_OR_CASE.py ...

A case is a Python file with build() -> (model, x, y, fit_arguments), CAUSE, and EXPERT_METRIC, the name of a figure in the
history and what a person's fix reaches. The fix that nanfix.fit finds is written as JSON, read again, and applied to a second
build by nanfix.apply. "expert" is within 5 % of the person's figure, or 0.02 for shares such as R2 and accuracies.
"""

import json
import os
import time

from _cases import files_named, load, measured

SHARES = ("r2", "acc", "auc", "iou")


def measure(path):
    import keras
    import numpy as np

    import nanfix

    case = load(path)
    model, x, y, arguments = case.build()
    found = nanfix.fit(model, x, y, throw=False, **{**arguments, "verbose": 0})
    edits = json.loads(json.dumps([edit.as_json() for edit in found.fix.edits]))
    model, x, y, arguments = case.build()
    begun = time.perf_counter()
    report = nanfix.apply(model, nanfix.Fix.from_json(edits), x, y, throw=False, **{**arguments, "verbose": 0})
    name, expert = case.EXPERT_METRIC
    figure = (report.history.get(name) or [float("nan")])[-1]
    finite = all(np.isfinite(keras.ops.convert_to_numpy(weight)).all() for weight in model.weights)
    return {
        "case": path.stem,
        "edits": [edit["strategy"] for edit in edits],
        "outcome": report.outcome.name,
        "finite": bool(finite and np.isfinite(figure)),
        "metric": name,
        "figure": figure,
        "expert": expert,
        "level": bool(finite and _level(name, figure, expert)),
        "seconds": time.perf_counter() - begun,
    }


def _level(name, figure, expert):
    if any(share in name for share in SHARES):
        return figure >= expert - 0.02
    return figure <= expert + 0.05 * abs(expert)


def main():
    files = files_named(__doc__, measure)
    print("| case | fix | finite | metric | figure | expert | seconds |\n|---|---|---|---|---|---|---|")
    rows = []
    for file in files:
        if "\nEXPERT_METRIC = (" not in file.read_text():
            continue  # healthy, or beyond repair
        row = measured(__file__, file)
        if isinstance(row, str):
            print(row, flush=True)
            continue
        rows.append(row)
        fix, finite = ", ".join(row["edits"]) or "-", "yes" if row["finite"] else "no"
        cells = (row["case"], fix, finite, row["metric"], f"{row['figure']:.3g}", f"{row['expert']:.3g}", f"{row['seconds']:.1f}")
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\nrepaired by the fix alone: {sum(row['finite'] for row in rows)} of {len(rows)}")
    print(f"at the expert's level: {sum(row['level'] for row in rows)} of {len(rows)}")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    main()
