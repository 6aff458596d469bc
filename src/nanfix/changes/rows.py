"""Rows: which of them training, validation and judging leave out, and where the class labels begin."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nanfix.changes.change import Change
from nanfix.changes.scaling import Affine


@dataclass(frozen=True)
class RowFilter(Change):
    """Which rows training, validation and judging leave out, and where the class labels begin.

    A row is left out for a NaN or inf in an input (`finite_inputs`) or a target (`finite_targets`), for a value outside the
    band of its feature (`bands`, by the position of the array among inputs and then targets), and for a label outside
    0..classes - 1 after `first_label` was subtracted from every label; `labels` maps those of a binary crossentropy to 0..1.
    A row goes too for a weight that is not finite (`finite_weights`). Training also leaves out what does not fill a batch of
    `batch_rows`. As it stands, it keeps every row.
    """

    finite_inputs: bool = False
    finite_targets: bool = False
    classes: int | None = None
    first_label: int = 0
    labels: Affine | None = None
    finite_weights: bool = False
    bands: tuple[tuple[int, Affine], ...] = ()
    batch_rows: int | None = None
    kind: ClassVar[str] = "rows"
    order: ClassVar[int] = 80

    def graph_key(self, shop):
        return None

    def in_source(self, run, plan, call):
        yield from rows_in_source(run, plan, call)


def rows_in_source(run: Any, plan: Any, call: Any) -> Iterator[Any]:
    """Yield what is done to the data before `fit`: rows left out, labels counted anew, holes filled."""
    from nanfix.changes.scaling import Scaling
    from nanfix.records.source_changes import Band, NoPlace, RowsChange

    rows, fill = plan.of(RowFilter), next(iter(plan.of(Scaling).fills.values()), None)
    x, y = call.arguments.get("x"), call.arguments.get("y")
    if call.fit is None:
        yield NoPlace(reason="the call of fit is not in the script's own code")
        return
    if run.sample.whole is None or not _is_array(x) or not (y is None or _is_array(y)):
        yield NoPlace(reason="the data are not one array of inputs and one of targets")
        return
    held = call.arguments.get("validation_data")
    if held is not None and not (isinstance(held, tuple | list) and all(map(_is_array, held))):
        yield NoPlace(reason="the validation data are no tuple of arrays")
        return
    if rows.batch_rows and call.arguments.get("validation_split"):
        yield NoPlace(reason="Keras takes the rows for validation out of the incomplete batch")
        return
    finite: list[Any] = ["x"] if rows.finite_inputs and _is_floating(x) else []
    finite += ["y"] if rows.finite_targets and _is_floating(y) else []
    weight = call.arguments.get("sample_weight")
    finite += ["sample_weight"] if rows.finite_weights and weight is not None else []
    bands = [Band(part="y" if i else "x", center=list(b.center), scale=list(b.scale)) for i, b in rows.bands]
    weights = call.arguments.get("class_weight")
    yield RowsChange(
        fit=call.fit,
        finite=finite,
        classes=rows.classes if not rows.first_label else None,
        first_label=rows.first_label,
        labels=None if rows.labels is None else (rows.labels.center[0], rows.labels.scale[0]),
        bands=bands,
        batch_rows=rows.batch_rows,
        fill=None if fill is None else list(fill),
        held=0 if held is None else len(held),
        renumber=bool(rows.first_label and weights and all(label >= rows.first_label for label in weights)),
    )


def _is_array(part: Any) -> bool:
    return hasattr(part, "shape") and hasattr(part, "__getitem__")


def _is_floating(part: Any) -> bool:
    return np.asarray(part).dtype.kind == "f"
