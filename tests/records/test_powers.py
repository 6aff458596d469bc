"""Yeo-Johnson's exponents are those of scikit-learn, which finds them one by one."""

import numpy as np
from sklearn.preprocessing import PowerTransformer

from nanfix.records.powers import yeo_johnson_exponents

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=300)
COLUMNS = {
    "normal": NORMAL,
    "with holes": np.where(np.arange(300) % 7 == 0, np.nan, NORMAL),
    "long tail": np.exp(2.0 * NORMAL),
    "long tail below 0": -np.exp(NORMAL),
    "tails on both sides": NORMAL**3,
    "small": 1e-3 * NORMAL,
    "large": 1e6 * np.exp(2.0 * NORMAL),
    "large, below 0": -1e12 * RNG.uniform(0, 1, 300),
    "far from 0": 100.0 + NORMAL,
    "two values": (NORMAL > 0).astype(float),
    "all the same": np.full(300, 5.0),
    "nothing": np.zeros(300),
}


def test_exponents_are_those_of_scikit_learn():
    table = np.stack(list(COLUMNS.values()), axis=1)
    found = dict(zip(COLUMNS, yeo_johnson_exponents(table), strict=True))
    exponents = PowerTransformer().fit(table).lambdas_
    expected = dict(zip(COLUMNS, exponents, strict=True))
    for name, exponent in expected.items():
        np.testing.assert_allclose(found[name], exponent, rtol=1e-4, atol=1e-5, err_msg=name)


def test_one_of_many_rows_is_found_among_zeros():
    """What is 0 but for one row has no likeliest exponent; any number that is finite will do."""
    assert np.isfinite(yeo_johnson_exponents(np.eye(300)[:, :1])).all()
