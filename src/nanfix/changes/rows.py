"""Rows: which of them training, validation and judging leave out, and where the class
labels begin.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nanfix.changes.change import Change
from nanfix.changes.maps import Affine

if TYPE_CHECKING:
    from nanfix.model.run import Run
    from nanfix.records.rows_change import RowsChange
    from nanfix.records.source_changes import NoPlace
    from nanfix.source.fit_call import FitCall


@dataclass(frozen=True)
class RowFilter(Change):
    """Which rows training, validation and judging leave out, and where the class labels begin.

    A row is left out for a NaN or inf in an input (`finite_inputs`) or a target (`finite_targets`),
    for a value outside the band of its feature (`bands`, by the position of the array among inputs
    and then targets), and for a label outside 0..classes - 1 after `first_label` was subtracted
    from every label; `labels` maps those of a binary crossentropy to 0..1. A row goes too for a
    share of a class below 0 (`shares`), and for a weight that is not finite (`finite_weights`).
    Training also leaves out what does not fill a batch of `batch_rows`. As it stands, it keeps
    every row.
    """

    finite_inputs: bool = False
    finite_targets: bool = False
    classes: int | None = None
    first_label: int = 0
    labels: Affine | None = None
    finite_weights: bool = False
    bands: tuple[tuple[int, Affine], ...] = ()
    batch_rows: int | None = None
    shares: bool = False
    kind: ClassVar[str] = "rows"
    order: ClassVar[int] = 80

    def graph_key(self, shop):
        return None

    def in_source(self, run, plan, call):
        from nanfix.records.rows_change import Band

        weight, weights = call.arguments.get("sample_weight"), call.arguments.get("class_weight")
        finite = ["x"] if self.finite_inputs and _is_floating(call.arguments.get("x")) else []
        finite += ["y"] if self.finite_targets and _is_floating(call.arguments.get("y")) else []
        finite += ["sample_weight"] if self.finite_weights and weight is not None else []
        bands = [
            Band(part="y" if i else "x", center=list(b.center), scale=list(b.scale))
            for i, b in self.bands
        ]
        yield fit_change(
            run,
            call,
            finite=finite,
            classes=self.classes if not self.first_label else None,
            first_label=self.first_label,
            labels=None if self.labels is None else (self.labels.center[0], self.labels.scale[0]),
            bands=bands,
            batch_rows=self.batch_rows,
            shares=self.shares,
            renumber=bool(
                self.first_label and weights and all(label >= self.first_label for label in weights)
            ),
        )


def fit_change(run: "Run", call: "FitCall", **what: Any) -> "RowsChange | NoPlace":
    """Return the change by which the data are treated before `fit`; `what` are the
    fields of a RowsChange.
    """
    from nanfix.records.rows_change import RowsChange
    from nanfix.records.source_changes import NoPlace

    x, y, validation = (call.arguments.get(name) for name in ("x", "y", "validation_data"))
    if call.fit is None:
        return NoPlace(reason="the call of fit is not in the script's own code")
    if run.sample.whole is None or not _is_array(x) or not (y is None or _is_array(y)):
        return NoPlace(reason="the data are not one array of inputs and one of targets")
    if validation is not None and not (
        isinstance(validation, tuple | list) and all(map(_is_array, validation))
    ):
        return NoPlace(reason="the validation data are no tuple of arrays")
    if what.get("batch_rows") and call.arguments.get("validation_split"):
        return NoPlace(reason="Keras takes the rows for validation out of the incomplete batch")
    return RowsChange(
        fit=call.fit, validation_arrays=0 if validation is None else len(validation), **what
    )


def _is_array(part: object) -> bool:
    return hasattr(part, "shape") and hasattr(part, "__getitem__")


def _is_floating(part: object) -> bool:
    """Say whether the numbers of an array are floats; a stream has none of its own."""
    return _is_array(part) and np.asarray(part).dtype.kind == "f"
