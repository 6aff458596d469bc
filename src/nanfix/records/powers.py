"""Yeo-Johnson's exponents, of many features at once."""

import numpy as np

LARGEST = 150.0  # logarithm of the largest power: its square is still far within float64
WIDEST = 1000.0  # exponent of features all of whose values are near 0
PRECISION = 1e-6  # of an exponent
TINY = 1e-5  # nearer to its limit, the power is taken for a logarithm


def yeo_johnson_exponents(table: np.ndarray) -> np.ndarray:
    """Return for each feature the exponent under which its values are likeliest to be normally
    distributed. It is that of scikit-learn's PowerTransformer, which takes the features one by one,
    and tens of times as long where there are many.

    NaN counts as unknown; a feature that does not vary gets 1. The negative logarithm of the
    likelihood is convex in the exponent, so where its slope is 0 is found by halving.

    Shapes: table (rows, features) -> (features,).

    Reference: Yeo & Johnson (2000), doi:10.1093/biomet/87.4.954; Marchand, Muzellec, Beguier,
    Ogier du Terrail & Andreux (2022), SecureFedYJ, arXiv:2210.01639.
    """
    sign, log = np.where(table < 0, -1.0, 1.0), np.log1p(np.abs(table))
    lowest, highest = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
    # Where all values have one sign, the 1 of the map changes no variance. Left in, it would swamp
    # the small powers of large values.
    one = np.where((lowest < 0) & (highest >= 0), 1.0, 0.0)
    known, jacobian = np.isfinite(table).sum(axis=0), np.nansum(sign * log, axis=0)
    high = np.clip(LARGEST / np.maximum(np.nanmax(log, axis=0), TINY), 2.0, WIDEST)
    low = 2.0 - high
    with np.errstate(invalid="ignore"):  # of features that do not vary
        while (high - low).max() > PRECISION:
            exponent = (low + high) / 2
            rises = known * _steepness(sign, log, one, exponent) >= jacobian
            low, high = np.where(rises, low, exponent), np.where(rises, exponent, high)
    return np.where(lowest < highest, (low + high) / 2, 1.0)


def _steepness(
    sign: np.ndarray, log: np.ndarray, one: np.ndarray, exponent: np.ndarray
) -> np.ndarray:
    """Return the slope of the logarithm of the deviation that the features have to a power."""
    own = np.where(sign > 0, exponent, 2.0 - exponent)
    own = np.where(np.abs(own) < TINY, TINY, own)
    power = np.exp(own * log)
    value = (power - one) / own
    slope = (log * power - value) / own
    value *= sign
    value -= np.nanmean(value, axis=0)
    return np.nansum(value * slope, axis=0) / np.nansum(value * value, axis=0)
