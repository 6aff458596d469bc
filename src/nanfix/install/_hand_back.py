"""Makes a repair part of the user's object: raw inputs in, outputs in the user's units,
losses that stay finite.
"""

import contextlib
from collections.abc import Iterator, Sequence
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
from nanfix.changes.maps import Power
from nanfix.changes.normalization import Normalized
from nanfix.changes.optimizer_memory import forget_of
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.changes.scaling import Scaling
from nanfix.changes.scaling_call import fill_in_call
from nanfix.data.row_filter import kept_sample
from nanfix.install._checkpoint import saving_in
from nanfix.install._installing import Installer
from nanfix.install.folding import fold_inputs, fold_output, foldable_inputs
from nanfix.install.sites import UNSEEN, Site, Sites, some_rows
from nanfix.model.outputs import OUTPUT, end_names
from nanfix.model.undo import put
from nanfix.private.objects import compile_config
from nanfix.records.errors import CannotHandBack

ROWS = 256  # the repaired model has to predict for them what the trained one does
TOLERANCE = 1e-3  # of the spread of predictions
# Times the resolution of the predictions, what computing the same in another way may differ by.
ROUNDING = 16
NO_LAYERS = "nothing can be put into this model"
FILLED_IN_CALL = (
    "The imputation stands in front of this model's call; a saved model does not hold it, so put "
    "it into the source."
)
NOISE = 4.0  # times what two predictions of the same model differ by


@dataclass(frozen=True)
class Parts:
    """Which scalings are folded into weights; all others are put into the model as layers."""

    inputs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    why: str = ""


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
            return [Parts()]
        if not self._rebuildable:
            return [Parts(folded, targets, NO_LAYERS)] if len(folded) == len(wanted.inputs) else []
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
        in_call = self._fills_in_call(wanted)
        front = {} if in_call else wanted.layers_in_front(model, folded)
        places = {
            name: self._ends.index(name) for name in wanted.targets if name not in parts.targets
        }
        back = {at: target_scaling(model, at, wanted.targets[name]) for name, at in places.items()}
        if front or back:
            insert_at_ends(model, front, back, undo)
        if in_call:
            fill_in_call(model, wanted.fills, wanted.missing_values, undo)
        into = [layer.name for name in parts.targets for layer in self._site(name).layers]
        fed = _notes_of_fed(plan.of(RowFilter), [layer.name for layer in first])
        done = _notes_of(plan, parts, self._sites, into, imputed=bool(wanted.fills) and not in_call)
        return [*done, *notes, *fed, *([FILLED_IN_CALL] if in_call else [])]

    def _fills_in_call(self, wanted: Scaling) -> bool:
        """Say whether holes are filled in front of the model's own call: no layer can be put
        there.
        """
        return bool(wanted.fills) and not self._rebuildable

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


def _notes_of_fed(rows: RowFilter, into: Sequence[str]) -> list[str]:
    """Return what a model takes that was trained on rows scaled beforehand, folded `into` layers or
    not.
    """
    if not rows.scaled:
        return []
    if rows.folds:
        return [
            f"The scaling is folded into layer {', '.join(into)}: the model takes raw rows, and a "
            "further fit sees them."
        ]
    return ["The model takes rows that are scaled like those it was trained on."]


def _notes_of(
    plan: Plan, parts: Parts, sites: Sites, last: Sequence[str], *, imputed: bool
) -> list[str]:
    """Return, as the first of the notes and without its end, what was put where; `last` are the
    layers that targets were folded into, `imputed` says whether a layer fills holes.
    """
    wanted, normalized = plan.of(Scaling), plan.of(Normalized).layers
    apart = [scaling for name, scaling in wanted.inputs.items() if name not in parts.inputs]
    into = dict.fromkeys(layer.name for name in parts.inputs for layer in sites.inputs[name].layers)
    ways = [f"folded into layer {', '.join(into)}"] if into else []
    stock = (
        "layers of its own"
        if any(isinstance(scaling, Power) for scaling in apart)
        else "a Normalization layer"
    )
    ways += [f"put into the model as {stock}"] if apart else []
    ways += [f"targets folded into layer {', '.join(last)}"] if last else []
    behind = [name for name in wanted.targets if name not in parts.targets]
    where = "the last layer" if behind == [OUTPUT] else f"output {', '.join(behind)}"
    ways += [f"undone behind {where}, for targets"] if behind else []
    done = [f"LayerNormalization put in front of {', '.join(normalized)}"] if normalized else []
    done += ["Imputation put into the model, in front of its first layer"] if imputed else []
    done += [f"Scaling {' and '.join(ways)}"] if ways else []
    if not done:
        return []
    folds = [what for what, folded in (("inputs", into), ("targets", last)) if folded]
    again = (
        [f"Folded, since {parts.why}: a further fit sees raw {' and '.join(folds)}."]
        if folds
        else []
    )
    return [". ".join(done), *again]
