"""Numbers that stand for something else are recognized, and ordinary ones are left alone."""

import numpy as np
import pytest

from nanfix.explain._encodings import encodings

RNG = np.random.default_rng(0)
ROWS = 400
CODES = np.where(RNG.random(ROWS) < 0.05, -999.0, RNG.uniform(0, 40, ROWS))
DAYS = np.array(["2021-03-01", "2023-11-30", "2024-02-29"] * 20, "datetime64[D]")
WITH_NAT = DAYS.astype("datetime64[ns]").copy()
WITH_NAT[::7] = np.datetime64("NaT")
STANDING = {
    "a code": (CODES, "-999 in several rows"),
    "padding": (np.where(RNG.random(ROWS) < 0.3, 1e20, RNG.normal(size=ROWS)), "1e+20 in several"),
    "a code among holes": (np.where(np.arange(ROWS) % 9, CODES, np.nan), "-999 in several rows"),
    "nines": (np.where(RNG.random(ROWS) < 0.1, 99.0, RNG.integers(0, 21, ROWS)), "99 in several"),
    "a missing date": (WITH_NAT.astype("int64"), "a missing date becomes as int64"),
    "seconds": (DAYS.astype("datetime64[s]").astype("int64"), "dates, as seconds since 1970"),
    "nanoseconds": (DAYS.astype("datetime64[ns]").astype("float64"), "dates, as nanoseconds"),
    "days": (np.array([20210301, 20231130, 20240229]), "year, month and day"),
    "an overflow": (
        np.arange(ROWS, dtype="int32") * np.int32(2_000_003) * np.int32(31),
        "all over the range of int32",
    ),
}
ORDINARY = {
    "normal": RNG.normal(size=(ROWS, 3)),
    "two classes": (RNG.random(ROWS) < 0.5).astype("float32"),
    "counts": RNG.poisson(0.5, ROWS),
    "discounts": RNG.choice([0, 0, 5, 10, 50], ROWS),
    "country codes": RNG.choice([1, 44, 45, 49, 52], ROWS),
    "changes": np.where(RNG.random(ROWS) < 0.1, -1.0, RNG.normal(0, 0.02, ROWS).clip(-0.1, 0.1)),
    "prices": RNG.lognormal(12, 1, ROWS),
    "large integers": RNG.integers(0, 2**31, ROWS),
    "one typing error": np.r_[RNG.normal(size=ROWS), 2e8],
    "numbers of eight digits": RNG.integers(19_000_000, 21_000_000, ROWS),
    "tokens with padding": RNG.integers(1, 5000, (ROWS, 9)) * (RNG.random((ROWS, 9)) < 0.5),
    "images": RNG.integers(0, 256, (20, 4, 4, 3)).astype("uint8"),
    "nothing known": np.full((ROWS, 2), np.nan),
    "constant": np.ones((ROWS, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", STANDING)
def test_what_numbers_stand_for_is_told_with_their_column(name):
    values, said = STANDING[name]
    table = np.stack([np.zeros(len(values)), values], axis=1)
    told = dict(encodings(table))
    assert [columns for text, columns in told.items() if said in text] == [(1,)], told


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_numbers_stand_for_themselves(name):
    assert list(encodings(ORDINARY[name])) == []
