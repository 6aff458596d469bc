"""Targets that count as unknown: loss and metrics see none of them, and all else of their rows."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nanfix.changes.change import Change, Lasts

UNKNOWN_LATER = (
    "In a later evaluate or fit the unknown targets count again: leave them out there, too, or go "
    "on with nanfix.fit(..., fix=report.fix)."
)


@dataclass(frozen=True)
class TargetMask(Change):
    """Which targets, cell by cell, are unknown: what is not finite (`nonfinite`), each of the
    `codes`, compared in float32, and a label outside 0..classes - 1. As it stands, every target is
    known.
    """

    nonfinite: bool = False
    codes: tuple[float, ...] = ()
    classes: int | None = None
    kind: ClassVar[str] = "target mask"
    order: ClassVar[int] = 60

    def known(self, targets: np.ndarray) -> np.ndarray:
        """Return which cells of an array of targets are known, of the same shape."""
        known = np.ones(targets.shape, bool)
        if self.nonfinite and targets.dtype.kind == "f":
            known &= np.isfinite(targets)
        for code in self.codes:
            known &= targets.astype("float32") != np.float32(code)
        if self.classes is not None:
            known &= (targets >= 0) & (targets < self.classes)
        return known

    def holes(self, targets: np.ndarray) -> np.ndarray:
        """Return targets with NaN where they are unknown; as they are where all are known."""
        targets = np.asarray(targets)
        known = self.known(targets)
        return targets if known.all() else np.where(known, targets.astype("float64"), np.nan)

    @property
    def lasts(self):
        return Lasts.TRAINING

    @property
    def may_change_predictions(self):
        return False

    def install_for_training(self, shop, plan):
        from nanfix.changes.target_mask_installer import install

        if self != TargetMask():
            install(shop.model, self, shop.training)

    def hand_back(self, shop, plan, undo):
        return [UNKNOWN_LATER]

    def in_source(self, run, plan, call):
        from nanfix.changes.rows import fit_change
        from nanfix.records.rows_change import UnknownTargets
        from nanfix.records.source_changes import NoPlace

        targets, shape = run.sample.targets, getattr(run.model, "output_shape", None)
        if len(targets) != 1 or not isinstance(shape, tuple):
            yield NoPlace(reason="a loss that leaves targets of one output out is written by hand")
            return
        known, in_cells = self.known(targets[0]), targets[0].ndim == len(shape)
        if in_cells and (known.any(axis=-1) != known.all(axis=-1)).any():
            yield NoPlace(reason="a loss that leaves single columns out is written by hand")
            return
        unknown = UnknownTargets(
            nonfinite=self.nonfinite,
            codes=list(self.codes),
            classes=self.classes,
            in_cells=in_cells,
        )
        yield fit_change(run, call, unknown=unknown)
