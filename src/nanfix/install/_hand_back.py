"""Makes a repair part of the user's object: raw inputs in, outputs in the user's units,
losses that stay finite.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import keras
import numpy as np
from ml_dtypes import finfo

from nanfix.changes.insertion import (
    can_rebuild,
    has_own_names,
    insert_at_ends,
    remade,
    sharers,
    target_scaling,
)
from nanfix.changes.optimizer_memory import forget_of
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.changes.scaling import Scaling
from nanfix.changes.scaling_call import stand_around_call
from nanfix.data.row_filter import kept_sample
from nanfix.install._checkpoint import saving_in
from nanfix.install._installing import Installer
from nanfix.install._notes import Parts, notes_of, notes_of_fed
from nanfix.install.folding import fold_inputs, fold_output, foldable_inputs
from nanfix.install.sites import UNSEEN, Site, Sites, some_rows
from nanfix.model.outputs import end_names
from nanfix.model.undo import put
from nanfix.private.objects import compile_config
from nanfix.records.errors import CannotHandBack

ROWS = 256  # the repaired model has to predict for them what the trained one does
TOLERANCE = 1e-3  # of the spread of predictions
# Times the resolution of the predictions, what computing the same in another way may differ by.
ROUNDING = 16
NO_LAYERS = "nothing can be put into this model"
NOISE = 4.0  # times what two predictions of the same model differ by


class HandBack:
    """Makes the installed plan part of the model: for good, or as long as somebody
    saves the model.
    """

    def __init__(self, installer: Installer, sites: Sites):
        self._installer = installer
        self._model = installer.model
        self._sites = sites
        self._rebuildable = can_rebuild(installer.model)  # as it is before anything is installed
        self._ends = end_names(installer.run)
        self._layers = installer.layers
        self._remade = remade(installer.model, installer.layers)

    def for_good(self, plan: Plan) -> list[str]:
        """Leave the repair with the model, and return what was done.

        Raises:
            CannotHandBack: the model would predict something else than it was trained
                to; it is as it was before.
        """
        notes = [*self._first_exact(plan).notes, *self._installer.settle(plan)]
        gone = [
            address
            for change in plan
            for address in self._layers
            if address in change.rebuilds & set(self._remade)
        ]
        if gone:
            names = ", ".join(gone)
            notes.append(
                f"A saved model is made anew by its own code when it is loaded: change {names} "
                "there, too."
            )
        return notes

    def saving(self, plan: Plan) -> contextlib.AbstractContextManager[None]:
        """Let whoever saves the model in the training with `plan`, as callbacks do,
        save it as it is handed back.
        """
        return saving_in(self._model, lambda: self._moment(plan))

    @contextlib.contextmanager
    def _moment(self, plan: Plan) -> Iterator[None]:
        done = self._first_exact(plan)
        try:
            yield
        finally:
            done.undo.close()

    def _first_exact(self, plan: Plan) -> "_Done":
        """Take the first way with which the model predicts what it was trained to."""
        rows = self._rows(plan)
        fed = self._rows(plan, scaled=True)
        before = [] if fed is None else self._predictions(fed)
        again = [] if fed is None else self._predictions(fed)
        received = "inputs whose scaling neither folds into a layer nor can be put in front of one"
        for parts in self._ways(plan):
            undo = contextlib.ExitStack()
            with contextlib.ExitStack() as failed:
                failed.callback(undo.close)
                notes = self._install(plan, parts, undo)
                error = (
                    0.0
                    if rows is None
                    else max(map(_excess, before, again, self._predictions(rows)), default=0.0)
                )
                if error <= 1.0:
                    failed.pop_all()
                    return _Done(
                        undo,
                        self._with_difference(
                            notes, before, [] if rows is None else self._predictions(rows)
                        ),
                    )
                received = f"others, by {error:.1g} times what rounding explains"
        raise CannotHandBack(
            "The fix cannot become part of the model. Expected: the predictions of the trained "
            f"model. Received: {received}. Write the change into the source of the model instead."
        )

    def _ways(self, plan: Plan) -> list[Parts]:
        """Return the ways to make scalings part of the model, the one to try first in front.

        Layers keep what goes into the others at unit scale, so that a further training goes on as
        it went. Folded, the scaling holds for every model that shares the layers, too.
        """
        wanted = plan.of(Scaling)
        folded = tuple(foldable_inputs(self._sites, wanted.affine))
        targets = tuple(name for name in wanted.targets if self._site(name).foldable)
        if not (wanted.inputs or wanted.targets):
            return [Parts(around=bool(wanted.fills) and not self._rebuildable)]
        if not self._rebuildable:
            return self._ways_without_layers(wanted, folded, targets)
        others = ", ".join(model.name for model in self._sharing)
        shared = bool(wanted.targets) and not has_own_names(self._model)
        why = (
            f"other models share its layers: {others}"
            if others
            else "its outputs share a name"
            if shared
            else ""
        )
        whole = Parts(folded, targets, why or "layers of its own would not be exact")
        apart = Parts((), targets if shared else (), why)
        return [whole, apart] if others else [apart, whole]

    def _ways_without_layers(
        self, wanted: Scaling, folded: tuple[str, ...], targets: tuple[str, ...]
    ) -> list[Parts]:
        """Return the ways for a model that takes up no layers. Where not every scaling folds, all
        stand around its call, so that a further training goes on as it went.
        """
        folds = len(folded) == len(wanted.inputs) and len(targets) == len(wanted.targets)
        whole = [Parts(folded, targets, NO_LAYERS, around=bool(wanted.fills))] if folds else []
        return whole if self._sites.unseen is not None else [*whole, Parts(around=True)]

    def _install(self, plan: Plan, parts: Parts, undo: contextlib.ExitStack) -> list[str]:
        model, wanted = self._model, plan.of(Scaling)
        self._installer.lay_down(plan, undo)
        compiled = compile_config(model)
        if compiled is not None:  # Keras saves the optimizer that `compile` was given
            put(undo, compiled, "config", {**compiled.config, "optimizer": model.optimizer})
        notes = [note for change in plan for note in change.hand_back(self._installer, plan, undo)]
        folded = {name: scaling for name, scaling in wanted.affine.items() if name in parts.inputs}
        changed = fold_inputs(self._sites.inputs, folded, undo)
        first = self._fold_fed(plan.of(RowFilter), undo)
        changed = [*changed, *first]
        for name in parts.targets:
            fold_output(self._site(name), wanted.targets[name], undo)
            changed = [*changed, *self._site(name).layers]
        forget_of(
            model, [variable for layer in changed for variable in layer.trainable_variables], undo
        )
        self._put_at_ends(wanted, parts, folded, undo)
        into = [layer.name for name in parts.targets for layer in self._site(name).layers]
        fed = notes_of_fed(plan.of(RowFilter), [layer.name for layer in first])
        return [*notes_of(plan, parts, self._sites, into), *notes, *fed]

    def _put_at_ends(
        self, wanted: Scaling, parts: Parts, folded: Mapping[str, Any], undo: contextlib.ExitStack
    ) -> None:
        """Put what is not folded in front of the model and behind it."""
        model = self._model
        back = {
            self._ends.index(name): change
            for name, change in wanted.targets.items()
            if name not in parts.targets
        }
        if parts.around:
            stand_around_call(model, wanted.computed_in_front(folded), back, undo)
            return
        front = wanted.layers_in_front(model, folded)
        behind = {at: target_scaling(model, at, change) for at, change in back.items()}
        if front or behind:
            insert_at_ends(model, front, behind, undo)

    def _fold_fed(self, rows: RowFilter, undo: contextlib.ExitStack) -> list[Any]:
        """Fold what the inputs were scaled by before they were fed, where that is exact, and return
        the layers that take it.
        """
        names = self._installer.run.sample.names
        by_name = {name: scaling for at, scaling in rows.scaled if (name := names[at])}
        return fold_inputs(self._sites.in_step, by_name, undo) if rows.folds else []

    def _site(self, name: str) -> Site:
        return self._sites.outputs[self._ends.index(name)]

    def _with_difference(
        self, notes: list[str], before: Sequence[np.ndarray], after: Sequence[np.ndarray]
    ) -> list[str]:
        if not before or not notes or notes[0].endswith("."):
            return notes
        largest = max((_share(*pair) for pair in zip(before, after, strict=True)), default=0.0)
        words = (
            "are the same"
            if largest == 0
            else f"differ by at most {largest:.1e} of their largest value"
        )
        return [f"{notes[0]}; predictions {words}.", *notes[1:]]

    def _rows(self, plan: Plan, *, scaled: bool = False) -> Any:
        """Return rows to predict for, as they are or `scaled` as training is fed them where that is
        to become part of the model; None where no change could make a difference, or nothing
        predicts.
        """
        changes = any(change.may_change_predictions for change in plan)
        rows = plan.of(RowFilter)
        if rows.folds and not scaled:
            rows = replace(rows, scaled=())
        sample = kept_sample(self._installer.run.sample, rows)
        seen = self._sites.unseen not in UNSEEN
        return some_rows(sample.x, sample.rows_at_once or ROWS) if changes and seen else None

    def _predictions(self, rows: Any) -> list[np.ndarray]:
        """Return what the model gives for the rows, with the random state that it has now."""
        seeds = [
            (variable, np.array(variable))
            for variable in self._model.non_trainable_variables
            if "seed" in variable.name
        ]
        outputs = [
            np.asarray(keras.ops.convert_to_numpy(o))
            for o in keras.tree.flatten(self._model(rows, training=False))
        ]
        for variable, value in seeds:
            variable.assign(value)
        return outputs

    @cached_property
    def _sharing(self) -> list[Any]:
        """The models that are to take what this one takes. One that shares nothing but what was
        learned before goes on taking what it was learned from.
        """
        run = self._installer.run
        return sharers(self._model, [run.members[address] for address in run.learned])


@dataclass(frozen=True)
class _Done:
    undo: contextlib.ExitStack
    notes: list[str]


def _excess(before: np.ndarray, again: np.ndarray, after: np.ndarray) -> float:
    """Return how far the predictions after a change are from those before it; 1 is what
    is still taken for the same.
    """
    if before.dtype.kind not in "fV" or not before.size:
        return 0.0 if np.array_equal(before, after) else np.inf
    resolution = float(finfo(before.dtype).eps)
    old, same, new = (array.astype("float64") for array in (before, again, after))
    finite = np.isfinite(old)
    if not np.isfinite(new[finite]).all() or not finite.any():
        return 0.0 if np.array_equal(finite, np.isfinite(new)) else np.inf
    old, same, new = old[finite], same[finite], new[finite]
    allowed = (
        TOLERANCE * np.ptp(old)
        + ROUNDING * resolution * np.abs(old).max()
        + NOISE * np.abs(same - old).max()
    )
    return float(np.abs(new - old).max() / max(allowed, np.finfo("float64").tiny))


def _share(before: np.ndarray, after: np.ndarray) -> float:
    old, new = before.astype("float64"), after.astype("float64")
    finite = np.isfinite(old)
    return (
        float(np.abs(new - old)[finite].max() / max(np.abs(old)[finite].max(), 1e-12))
        if finite.any()
        else 0.0
    )
