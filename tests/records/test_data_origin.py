"""The words for where NaN and inf in the data come from."""

import pytest

from nanfix.records.data_origin import DataOrigin, Holes, Line, Spread

AT = Line(file="train.py", line=5, text='frame = read(\n    "d.csv"\n)')
HOLES = Holes(cells=100, nan=3, inf=1, columns=("a", "b"), share=0.1)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"name": "X", "finite": ("raw", "s")},
            '`X` has 3 NaN and 1 inf in columns a, b since train.py:5, `frame = read( "d.csv" '
            ")`; before it `raw`, `s` were finite",
        ),
        (
            {"name": None},
            '3 NaN and 1 inf in columns a, b from train.py:5, `frame = read( "d.csv" )`',
        ),
    ],
)
def test_what_is_made_is_told_with_what_was_finite_before(fields, told):
    origin = DataOrigin(argument="inputs", at=AT, holes=HOLES, **fields)
    assert str(origin) == f"NaN or inf in the inputs: {told}"


def test_what_was_read_is_told_with_what_spread_it():
    mean = Line(file="train.py", line=9, text="m = X.mean(0)")
    spread = Spread(at=mean, name="m", before=0.02, share=0.5)
    origin = DataOrigin(
        argument="targets", at=AT, name="frame", holes=Holes(cells=9, nan=1), given=True
    ).model_copy(update={"spread": spread})
    assert str(origin) == (
        'NaN or inf in the targets came with the data: train.py:5, `frame = read( "d.csv" )` '
        "gives `frame` 1 NaN. train.py:9, `m = X.mean(0)`, spreads them, from 2 % of a column to "
        "50 % of `m`"
    )
    table = spread.model_copy(update={"name": "X", "columns": True, "share": 1.0})
    assert str(table).endswith("from 2 % of a column to all of a column of `X`")


def test_a_long_statement_is_cut():
    assert str(Line(file="a.py", line=1, text="x" * 500)) == f"a.py:1, `{'x' * 100}...`"
