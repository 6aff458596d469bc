"""When a training with a fix counts as repaired, and when as good as an expert's."""

import math

SHARES = ("r2", "acc", "auc", "iou", "hit", "f1", "precision", "recall")  # higher is better


def at_level(metric, figure, expert):
    """Say whether a figure is as good as the expert's: within 5 %, or 0.02 for shares."""
    if any(share in metric for share in SHARES):
        return figure >= expert - 0.02
    return figure <= expert + 0.05 * abs(expert)


def is_repaired(row):
    """Say whether a figure lies more than half of the way from the untrained model to the expert.

    `row` holds figure, metric, expert and untrained.
    """
    if not math.isfinite(row["figure"]):
        return False
    start, expert = row["untrained"], row["expert"]
    if not math.isfinite(start) or start == expert:
        return at_level(row["metric"], row["figure"], expert)
    return (row["figure"] - start) / (expert - start) > 0.5 or at_level(
        row["metric"], row["figure"], expert
    )
