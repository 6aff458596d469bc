"""Data of the user's that turn non-finite on their way to `fit`: which line has made them so."""

import sys
import textwrap
import time

import numpy as np
import pytest

from nanfix.records.data_origin import Argument
from nanfix.source import _followed_frame
from nanfix.source.data_tracer import DataTracer

INPUTS, TARGETS = Argument("inputs", "x", 0), Argument("targets", "y", 1)
HEAD = """
import numpy as np
import pandas as pd
rng = np.random.default_rng(0)
table = rng.normal(size=(200, 4))
frame = pd.DataFrame(table.copy(), columns=list("abcd"))
y = table.sum(1)
"""


class Model:
    """Asks the tracer where what `fit` gets comes from."""

    def __init__(self, tracer):
        self._tracer, self.origins = tracer, []

    def fit(self, x, y=None):
        self._tracer.stop()
        for argument, value in ((INPUTS, x), (TARGETS, y)):
            origin = self._tracer.of_argument(sys._getframe(1), "fit", argument, value)
            if origin is not None:
                self.origins.append(origin)


@pytest.fixture
def traced(tmp_path):
    """Return what runs a script and returns where its data come from."""

    def run(text, head=HEAD):
        path = tmp_path / "script.py"
        path.write_text(head + textwrap.dedent(text))
        tracer = DataTracer()
        model = Model(tracer)
        code = compile(path.read_text(), str(path), "exec")
        tracer.start()
        try:
            with np.errstate(all="ignore"):
                exec(code, {"__name__": "__main__", "model": model})
        finally:
            tracer.stop()
        return model.origins

    return run


# A script, the text of the line that is at fault, the variable that it makes non-finite, and which
# were finite before.
MADE = {
    "0/0 in a column": ("""
        table[:, 2] = 1.0
        X = (table - table.mean(0)) / table.std(0)
        model.fit(X, y)
    """, "X = (table - table.mean(0)) / table.std(0)", "X", ("table",)),
    "in another column than a NaN that is dropped": ("""
        frame["move"] = frame["a"].diff()
        frame["size"] = np.log(np.maximum(frame["b"], 0.0))
        frame = frame.dropna()
        def part(of):
            return of[["move", "size"]].to_numpy("float32")
        model.fit(part(frame[:80]), y[:80])
    """, 'frame["size"] = np.log(np.maximum(frame["b"], 0.0))', "frame['size']", ("frame['b']",)),
    "of another kind than a NaN that is filled": ("""
        frame["move"] = frame["a"].diff()
        frame["size"] = np.log(np.maximum(frame["b"], 0.0))
        X = np.nan_to_num(frame.to_numpy(), nan=0.0, neginf=-np.inf)
        model.fit(X, y)
    """, 'frame["size"] = np.log(np.maximum(frame["b"], 0.0))', "frame['size']", ("frame['b']",)),
    "in place": ("""
        table[:, 2] = 0.0
        table[:, 2] /= table[:, 2].sum()
        model.fit(table[:100], y[:100])
    """, "table[:, 2] /= table[:, 2].sum()", "table[:, 2]", ("table[:, 2]",)),
    "log of 0": ("""
        frame["size"] = np.arange(200.0)
        frame["size"] = np.log(frame["size"])
        X = frame.to_numpy()
        model.fit(X, y)
    """, 'frame["size"] = np.log(frame["size"])', "frame['size']", ("frame['size']",)),
    "pct_change": ("""
        frame["change"] = frame.a.pct_change()
        X = frame[["b", "change"]].values
        model.fit(X, y)
    """, 'frame["change"] = frame.a.pct_change()', "frame['change']", ("frame.a",)),
    "merge": ("""
        names = pd.DataFrame({"key": [0, 1], "height": [1.0, 2.0]})
        frame["key"] = np.arange(200) % 3
        whole = frame.merge(names, how="left", on="key")
        X = whole[["a", "height"]].to_numpy()
        model.fit(X, y)
    """, 'whole = frame.merge(names, how="left", on="key")', "whole", ("frame", "names")),
    "in a function": ("""
        def windows(data, count):
            xs = []
            for i in range(len(data) - count):
                window = data[i : i + count]
                window = change(window)
                xs.append(window)
            return np.array(xs)

        def change(window):
            return window / window[0] - 1.0

        table[50, 1] = 0
        X = windows(table, 5)
        model.fit(X, y[5:])
    """, "return window / window[0] - 1.0", None, ("window",)),
    "in a method, for targets": ("""
        class Loader:
            def __init__(self, table):
                self.table = table

            def targets(self):
                return np.sqrt(self.table[:, 0])

        def main():
            loader = Loader(table)
            y = loader.targets()
            model.fit(loader.table, y)

        main()
    """, "return np.sqrt(self.table[:, 0])", None, ("self.table[:, 0]",)),
    "in a lambda": ("""
        frame["e"] = frame.a.apply(lambda v: v / np.float64(0.0))
        model.fit(frame, y)
    """, "v / np.float64(0.0)", None, ("v",)),
    "by hand": ("""
        table[3, 1] = np.nan
        model.fit(table, y)
    """, "table[3, 1] = np.nan", "table[3, 1]", ()),
    "in the call itself": ("""
        table[:, 0] = 0
        model.fit(table / table.sum(0), y)
    """, "model.fit(table / table.sum(0), y)", None, ("table",)),
    "behind holes that were filled": ("""
        frame.loc[3, "a"] = np.nan
        frame = frame.fillna(0.0)
        scaled = frame / frame.d.where(frame.d > 9, 0.0)
        model.fit(scaled.values, y)
    """, "scaled = frame / frame.d.where(frame.d > 9, 0.0)", "scaled", ("frame",)),
    "beside points in time": ("""
        rows = []
        for i in range(200):
            rows.append((pd.Timestamp("2024-01-01") + pd.Timedelta(days=i), table[i, 0]))
        dated = pd.DataFrame(rows, columns=["date", "a"])
        month = dated["date"].dt.month
        dated["e"] = dated["a"] / 0.0
        model.fit(dated[["e"]].to_numpy(), y)
    """, 'dated["e"] = dated["a"] / 0.0', "dated['e']", ("dated['a']",)),
    "of whole numbers": ("""
        counts = np.arange(-2, 48)
        logs = np.log(counts)
        model.fit(logs[:, None], y[:50])
    """, "logs = np.log(counts)", "logs", ("counts",)),
    "beside holes in another column": ("""
        frame.loc[3, "a"] = np.nan
        frame["e"] = frame["b"] / 0.0
        X = frame[["c", "e"]].to_numpy()
        model.fit(X, y)
    """, 'frame["e"] = frame["b"] / 0.0', "frame['e']", ("frame['b']",)),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_the_statement_that_made_it_is_named(traced, name):
    script, text, variable, finite = MADE[name]
    (origin,) = traced(script)
    assert (origin.at.text, origin.name, origin.finite) == (text, variable, finite)
    assert not origin.given


def test_holes_of_a_file_are_told_as_such_and_what_spread_them(traced, tmp_path):
    holes = tmp_path / "holes.csv"
    holes.write_text("a,b\n" + "\n".join(f"{i},{'' if i == 7 else i}" for i in range(50)))
    (origin,) = traced(f"""
        frame = pd.read_csv({str(holes)!r})
        X = frame.to_numpy()
        mean = np.mean(X, axis=0)
        X = X - mean
        model.fit(X, y[:50])
    """)
    assert origin.given and origin.name == "frame" and origin.at.text.startswith("frame = pd.read")
    assert origin.holes.columns == ("b",) and origin.holes.nan == 1
    assert origin.spread is not None
    assert origin.spread.at.text == "mean = np.mean(X, axis=0)"
    assert (origin.spread.before, origin.spread.share) == (1 / 50, 1 / 2)


def test_finite_data_have_no_origin(traced):
    assert (
        traced("""
        frame.loc[3, "a"] = np.nan
        frame = frame.interpolate()
        model.fit(frame.to_numpy(), y)
    """)
        == []
    )


def test_an_index_that_pandas_refuses_is_the_scripts_own_affair(traced):
    (origin,) = traced("""
        try:
            first = frame[:, 0]
        except Exception:
            first = frame["a"]
        X = first / 0.0
        model.fit(X, y)
    """)
    assert origin.at.text == "X = first / 0.0"


def test_a_fault_in_following_is_kept_and_the_script_goes_on(traced, monkeypatch):
    def fails(value):
        raise ValueError("on purpose")

    seen = []
    monkeypatch.setattr(DataTracer, "stop", lambda self: seen.append(self.fault))
    monkeypatch.setattr(_followed_frame, "holes", fails)
    assert traced("X = table / 0.0\nmodel.fit(X, y)") == []
    assert str(seen[0]) == "on purpose" and sys.gettrace() is None


def test_both_arguments_are_followed_each_to_its_own(traced):
    x, y = traced("""
        X = table / 0.0
        y = np.log(-np.abs(y))
        model.fit(X, y)
    """)
    assert (x.argument, x.name) == ("inputs", "X") and (y.argument, y.name) == ("targets", "y")


@pytest.mark.parametrize("split", ["map(np.copy, (x, y))", "halved(x, y)"])
@pytest.mark.parametrize("x", ["frame", "table"])
def test_what_goes_through_a_call_together_is_told_apart_behind_it(traced, x, split):
    found = traced(
        f"""
        def halved(x, y):
            half = len(x) // 2
            return x[:half], y[:half]
        x = {x} / (table > -2)
        y = np.log(y > 0)
        x_train, y_train = {split}
        model.fit(x_train, y_train)
        """
    )
    assert [(origin.argument, origin.at.text) for origin in found] == [
        ("inputs", f"x = {x} / (table > -2)"),
        ("targets", "y = np.log(y > 0)"),
    ]


def test_a_column_that_is_taken_out_of_a_table_is_not_blamed_for_the_others(traced):
    (x, y) = traced("""
        frame["ratio"] = frame.a / (frame.b > 0)
        frame["price"] = np.maximum(frame.c, 0)
        target = np.log(frame.pop("price"))
        model.fit(frame, target)
    """)
    assert (x.argument, x.name) == ("inputs", "frame['ratio']")
    assert (y.argument, y.name, y.finite) == ("targets", "target", ("frame['price']",))


def test_a_long_loop_costs_little_and_its_line_is_found_all_the_same(traced, monkeypatch):
    monkeypatch.setattr("nanfix.source._origin_memory.SECONDS", 0.01)
    (origin,) = traced("""
        big = np.ones((50_000, 4))
        for i in range(2_000):
            big[i] = big[i] / (1_777 - i)
        big[:] += 1
        model.fit(big, np.ones(50_000))
    """)
    assert origin.at.text == "big[i] = big[i] / (1_777 - i)"


def test_what_is_in_a_list_or_a_dict_is_followed(traced):
    (origin,) = traced("""
        rows = []
        for row in table:
            total = row.sum() * 0
            rows.append(row / total)
        data = {"x": rows}
        X = np.array(data["x"])
        model.fit(X, y)
    """)
    assert origin.at.text == "rows.append(row / total)"


def test_a_hot_loop_is_looked_at_for_a_while_and_then_passed_over(traced, monkeypatch):
    monkeypatch.setattr("nanfix.source._origin_memory.SECONDS", 0.05)
    began = time.process_time()
    (origin,) = traced("""
        big, rows = rng.normal(size=(100_000, 10)), []

        def step(row, i):
            return row * 2 / (i - 9_000)

        for i in range(10_000):
            row = big[i]
            if i % 3 == 0:
                rows.append(step(row, i))
        X = np.array(rows)
        model.fit(X, np.ones(len(X)))
    """)
    assert origin.at.text in ("rows.append(step(row, i))", "return row * 2 / (i - 9_000)")
    assert time.process_time() - began < 5.0
