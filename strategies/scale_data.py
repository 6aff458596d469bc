"""Scale the data before fit, where a step of the user's own leaves no room inside the model."""

import numpy as np

from nanfix.changes.maps import Affine
from nanfix.changes.rows import RowFilter
from nanfix.records.cause import Cause
from nanfix.records.features import feature_table, some_cells
from nanfix.remedies.strategy import Strategy, Tier
from nanfix.strategies import scale_inputs
from nanfix.strategies.scale_inputs import affine, features, holds_bytes, numbers_of


class ScaleData(Strategy):
    """Feed a training step of the user's own inputs of unit size, in training and in validation.

    Such a step may give a batch to parts of the model, as a variational autoencoder does to its
    encoder: then no layer in front of the model acts, and what the step compares with the inputs
    has to be scaled, too. So the data are: x / 255 for bytes, else (x - min) / (max - min) for each
    feature, as scikit-learn's MinMaxScaler does, so that sigmoid outputs can reach them and a
    crossentropy has a least value. Where the step gives the inputs to layers alone that can take up
    a scaling, it is that of median and interquartile range, then of mean and standard deviation,
    and is folded into these layers at the end: the model goes on taking raw rows. Where not, it
    takes scaled rows from then on. Does not help where the targets are the inputs once more.

    Reference: Kingma & Welling (2014), Auto-Encoding Variational Bayes, appendix C;
    sklearn.preprocessing.MinMaxScaler, RobustScaler and StandardScaler.
    """

    name = "scale-data"
    tier = Tier.DATA
    treats = frozenset({Cause.UNSCALED_INPUT})
    keeps_weights = False
    reference = (
        "Kingma & Welling (2014), Auto-Encoding Variational Bayes, appendix C; "
        "sklearn.preprocessing.MinMaxScaler"
    )

    def refusal(self, diagnosis, run, plan):
        if run.has_stock_step or any(run.sample.scalable):
            return "a scaling can stand inside the model"
        if run.sample.unfilterable:
            return run.sample.unfilterable
        if plan.of(RowFilter).scaled:
            return "the data are scaled already"
        return None if _measured(run) else "no input is a quantity that can be scaled"

    def space(self, hp, diagnosis, run, plan):
        arrays = _measured(run)
        folds = all(dict(zip(run.sample.names, run.sample.folds, strict=True))[n] for n in arrays)
        levels = ["robust", "standard"] if folds else ["range"]
        levels = [*(["bytes"] if all(map(holds_bytes, arrays.values())) else []), *levels]
        scaler = hp.Choice("scaler", levels)
        inputs = numbers_of(run, SCALERS[scaler], arrays)
        return {"scaler": scaler, "inputs": inputs, "folds": folds}

    def apply(self, run, plan, *, scaler, inputs, folds):
        at = {name: index for index, name in enumerate(run.sample.names)}
        scaled = tuple(
            (at[name], Affine(tuple(numbers["center"]), tuple(numbers["scale"])))
            for name, numbers in inputs.items()
        )
        return plan.with_change(RowFilter(scaled=scaled, folds=folds))

    def explain(self, params):
        after = (
            "the model takes raw rows again when it is trained"
            if params["folds"]
            else "the loss is that of scaled inputs, and what the model predicts from has to be "
            "scaled the same way"
        )
        told = TOLD[params["scaler"]]
        return f"Scale {features(params['inputs'])} {told}, before fit: {after}."

    def snippet(self, params):
        return SNIPPETS[params["scaler"]]


TOLD = {**scale_inputs.TOLD, "range": "with scikit-learn's MinMaxScaler (to 0..1)"}
SNIPPETS = {
    "bytes": "X = X / 255.0  # and what predict is given",
    "range": "X = (X - X.min(axis=0)) / np.ptp(X, axis=0)  # and what predict is given",
    "robust": "X = sklearn.preprocessing.RobustScaler().fit_transform(X)  # and for predict",
    "standard": "X = sklearn.preprocessing.StandardScaler().fit_transform(X)  # and for predict",
}


def _measured(run) -> dict[str, np.ndarray]:
    """Return by name the inputs whose numbers mean a quantity."""
    sample = run.sample
    return {name: array for name, array in sample.named(sample.quantities).items() if array.size}


def range_scaling(array: np.ndarray) -> Affine:
    """Return the map of each feature to 0..1; non-finite cells are left out."""
    table = feature_table(some_cells(array))
    low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
    return affine(low, high - low)


SCALERS = {
    **scale_inputs.SCALERS,
    "range": range_scaling,
}
