"""Rows: which of them training, validation and judging leave out, where the class labels begin,
and how inputs are scaled before they are fed.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nanfix.changes.change import Change, Lasts
from nanfix.changes.maps import Affine

if TYPE_CHECKING:
    from nanfix.model.run import Run
    from nanfix.records.rows_change import RowsChange
    from nanfix.records.source_changes import ArgumentChange, NoPlace
    from nanfix.source.fit_call import FitCall


# What has a place in a tf.data pipeline, which is looked at batch by batch.
OF_BATCHES = ("finite", "classes", "first_label", "scaled")
UNKNOWN_FIT = "the call of fit is not in the script's own code"
NOT_OF_BATCHES = (
    "the data are a tf.data pipeline, in which rows that are not finite, labels and a scaling of "
    "the inputs have a place, and nothing else"
)
LABELS_LATER = (
    "{words}. Give a later evaluate or fit such labels, too, or go on with nanfix.fit(..., "
    "fix=report.fix)."
)


@dataclass(frozen=True)
class RowFilter(Change):
    """Which rows training, validation and judging leave out, and where the class labels begin.

    A row is left out for a NaN or inf in an input (`finite_inputs`) or a target (`finite_targets`),
    for a value outside the band of its feature (`bands`, by the position of the array among inputs
    and then targets), and for a label outside 0..classes - 1 after `first_label` was subtracted
    from every label; `labels` maps those of a binary crossentropy to 0..1. A row goes too for a
    share of a class below 0 (`shares`), and for a weight that is not finite (`finite_weights`).
    `class_weights` are weights of classes in the place of those that `fit` was given.
    Training also leaves out what does not fill a batch of `batch_rows`. `scaled` are maps of the
    inputs, by their position, of the rows that are kept; a model that is handed back takes raw rows
    where these maps `fold` into its first layers. As it stands, it keeps every row as it is.
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
    class_weights: tuple[tuple[int, float], ...] = ()
    scaled: tuple[tuple[int, Affine], ...] = ()
    folds: bool = False
    kind: ClassVar[str] = "rows"
    order: ClassVar[int] = 80

    @property
    def lasts(self):
        return Lasts.MODEL if self.folds else Lasts.TRAINING

    @property
    def may_change_predictions(self):
        return self.folds

    @property
    def spares_model(self):
        return not self.folds

    def graph_key(self, shop):
        return None

    def hand_back(self, shop, plan, undo):
        if self.labels is not None:
            low, high = self.labels.center[0], self.labels.center[0] + self.labels.scale[0]
            words = f"Your labels {low:g} and {high:g} are 0 and 1 for the model"
        elif self.first_label:
            words = f"The model counts classes from 0: its class 0 is your label {self.first_label}"
        else:
            return []
        return [LABELS_LATER.format(words=words)]

    def in_source(self, run, plan, call):
        from nanfix.records.rows_change import SCALED_ALONE, Band
        from nanfix.records.source_changes import NoPlace

        if self.class_weights:
            yield _weighed(call, dict(self.class_weights))
        if replace(self, class_weights=()) == RowFilter():
            return
        weights = call.arguments.get("class_weight")
        given = (call.arguments.get(name) for name in ("x", "y", "sample_weight"))
        x, y, weight = dataset_parts(call) or given
        finite = ["x"] if self.finite_inputs and _is_floating(x) else []
        finite += ["y"] if self.finite_targets and _is_floating(y) else []
        finite += ["sample_weight"] if self.finite_weights and weight is not None else []
        bands = [
            Band(part="y" if i else "x", center=list(b.center), scale=list(b.scale))
            for i, b in self.bands
        ]
        scaled = [
            Band(part="x", center=list(b.center), scale=list(b.scale)) for _, b in self.scaled
        ]
        yield fit_change(
            run,
            call,
            finite=finite,
            scaled=next(iter(scaled), None),
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
        if self.folds:
            yield NoPlace(reason=SCALED_ALONE)


def fit_change(run: "Run", call: "FitCall", **what: Any) -> "RowsChange | NoPlace":
    """Return the change by which the data are treated before `fit`; `what` are the
    fields of a RowsChange.
    """
    from nanfix.records.rows_change import RowsChange
    from nanfix.records.source_changes import NoPlace

    x, y, validation = (call.arguments.get(name) for name in ("x", "y", "validation_data"))
    if call.fit is None:
        return NoPlace(reason=UNKNOWN_FIT)
    if x is not None and dataset_parts(call) is not None:
        bare = not isinstance(x.element_spec, tuple)
        known = ("scaled",) if bare else OF_BATCHES
        asked = {name for name, value in what.items() if value and name not in known}
        if asked or (what.get("first_label") and call.arguments.get("class_weight")):
            return NoPlace(reason=NOT_OF_BATCHES)
        return RowsChange(fit=call.fit, dataset=True, bare=bare, **what)
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


def _weighed(call: "FitCall", classes: dict[int, float]) -> "ArgumentChange | NoPlace":
    """Return the change by which `fit` is given these weights of classes, beside the others."""
    from nanfix.records.source_changes import ArgumentChange, NoPlace

    if call.fit is None:
        return NoPlace(reason=UNKNOWN_FIT)
    given = {int(k): float(w) for k, w in call.arguments["class_weight"].items()}
    written = {k: float(f"{classes.get(k, w):.6g}") for k, w in given.items()}
    return ArgumentChange(target=call.fit, name="class_weight", value=repr(written))


def dataset_parts(call: "FitCall") -> tuple[Any, Any, Any] | None:
    """Return what the inputs, targets and weights (None for none) of a tf.data pipeline are, as its
    element_spec has them; None for other data, and for validation data of another form.
    """
    x, validation = (call.arguments.get(name) for name in ("x", "validation_data"))
    specs: list[Any] = [
        getattr(each, "element_spec", None) for each in (x, validation) if each is not None
    ]
    specs = [spec if isinstance(spec, tuple) else (spec,) for spec in specs]
    if not specs or not all(0 < len(spec) <= 3 for spec in specs):
        return None
    from keras import tree

    dense = all(type(leaf).__name__ == "TensorSpec" for leaf in tree.flatten(specs))
    if not dense:
        return None
    x, y, weights, *_ = (*specs[0], None, None)
    return x, y, weights


def _is_array(part: object) -> bool:
    return hasattr(part, "shape") and hasattr(part, "__getitem__")


def _is_floating(part: object) -> bool:
    """Say whether the numbers of an array, or some of what a pipeline gives, are floats."""
    if not _is_array(part):
        from keras import tree

        leaves = [leaf for leaf in tree.flatten(part) if type(leaf).__name__ == "TensorSpec"]
        return any(leaf.dtype.is_floating for leaf in leaves)
    return np.asarray(part).dtype.kind == "f"
