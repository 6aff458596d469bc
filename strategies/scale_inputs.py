"""Scale the inputs to unit size, so that every feature pulls on the weights equally hard."""

import numpy as np
from sklearn.preprocessing import RobustScaler

from nanfix.diagnosis import Cause
from nanfix.setup import Affine
from nanfix.strategy import Strategy, Tier


class ScaleInputs(Strategy):
    """Replace each feature x by (x - median) / (interquartile range), as scikit-learn's RobustScaler does.

    Features are the last axis: columns of a table, channels of an image or a sequence. A feature whose range is zero
    although it varies (mostly one value) is divided by its standard deviation instead. A stronger level takes a wider
    quantile range. The scaling ends up in the model, which goes on taking raw inputs. Does not help when the inputs are
    of unit scale already, and is not applied to class indices.

    Reference: LeCun, Bottou, Orr & Mueller (1998), Efficient BackProp, section 4.3; sklearn.preprocessing.RobustScaler.
    """

    name = "scale-inputs"
    tier = Tier.SCALING
    treats = frozenset({Cause.UNSCALED_INPUT, Cause.REDUCED_PRECISION})
    keeps_weights = False
    reference = "LeCun et al. (1998), Efficient BackProp; sklearn.preprocessing.RobustScaler"

    def applies(self, diagnosis, setup):
        return bool(self.treats & diagnosis.causes) and any(setup.sample.scalable)

    def space(self, hp, diagnosis, setup):
        quantile_range = hp.Choice("quantile_range", ["25-75", "5-95"])
        low, high = (float(part) for part in quantile_range.split("-"))
        scaling = {}
        for index, (array, scalable) in enumerate(zip(setup.sample.inputs, setup.sample.scalable, strict=True)):
            if scalable:
                affine = robust_scaling(array, (low, high))
                scaling[str(index)] = {"center": list(affine.center), "scale": list(affine.scale)}
        return {"quantile_range": [low, high], "inputs": scaling}

    def apply(self, setup, *, quantile_range, inputs):
        return setup.with_inputs(
            {int(index): Affine(tuple(numbers["center"]), tuple(numbers["scale"])) for index, numbers in inputs.items()}
        )

    def explain(self, params):
        low, high = params["quantile_range"]
        widths = [len(numbers["center"]) for numbers in params["inputs"].values()]
        features = f"{sum(widths)} input feature{'s' if sum(widths) > 1 else ''}"
        return f"Scale {features} with scikit-learn's RobustScaler (median, {low:g} to {high:g} % quantiles), inside the model."

    def snippet(self, params):
        low, high = params["quantile_range"]
        return f"X = sklearn.preprocessing.RobustScaler(quantile_range=({low:g}, {high:g})).fit_transform(X)"


def robust_scaling(array: np.ndarray, quantile_range: tuple[float, float]) -> Affine:
    """Return the scaling of the last axis of `array`, shape (rows, ..., features); non-finite cells are left out."""
    table = array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1).astype("float64")
    table = np.where(np.isfinite(table), table, np.nan)
    table[:, np.isnan(table).all(axis=0)] = 0.0  # nothing is known of these; numpy warns of them
    scaler = RobustScaler(quantile_range=quantile_range).fit(table)
    center = np.nan_to_num(np.asarray(scaler.center_))
    spread = np.nan_to_num(np.nanstd(table, axis=0))
    iqr = np.subtract(*np.nanpercentile(table, quantile_range[::-1], axis=0)) if len(table) else spread
    scale = np.where(iqr > 1e-12 * np.abs(center), iqr, spread)
    scale = np.where(scale > 1e-12 * np.maximum(np.abs(center), 1e-30), scale, 1.0)
    return Affine(tuple(_short(center)), tuple(_short(scale)))


def _short(numbers: np.ndarray) -> list[float]:
    """Keep as many digits as a float32 holds: the numbers are read by people."""
    return [float(f"{number:.7g}") for number in numbers]
