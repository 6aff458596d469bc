"""Scripts that a patch changes, and the places in them as nanfix notes them when they run."""

import ast
import textwrap
from pathlib import Path

from nanfix.patch.patch import digest, patch_of
from nanfix.records.source_changes import (
    OptimizerChange,
)
from nanfix.records.source_places import Made, Span
from nanfix.report.fix_file import FixFile, RunRecord

PATH = "train.py"


class Script:
    """A file of the user's, and the places in it as nanfix notes them when it runs."""

    def __init__(self, text, path=PATH):
        self.text = textwrap.dedent(text).lstrip("\n")
        self.path = path
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(self.text.encode())

    def made(self, call, nth=0, **counts):
        """Return the nth call of that name, as ast has it."""
        calls = [
            n
            for n in ast.walk(ast.parse(self.text))
            if isinstance(n, ast.Call) and self._name(n.func) == call
        ]
        calls.sort(key=lambda n: (n.lineno, n.col_offset))
        n = calls[nth]
        place = Span(
            file=self.path,
            line=n.lineno,
            column=n.col_offset,
            end_line=n.end_lineno or 0,
            end_column=n.end_col_offset or 0,
        )
        return Made(place=place, callee=call, **counts)

    def line(self, part):
        return 1 + next(i for i, line in enumerate(self.text.splitlines()) if part in line)

    @staticmethod
    def _name(node):
        return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")

    def patch(self, *changes, runs=None):
        edits = [{"strategy": "lower-learning-rate", "learning_rate": 0.1}]
        wanted = runs or [changes]
        records = [
            RunRecord.model_validate(
                {
                    "call": n,
                    "outcome": "REPAIRED",
                    "edits": edits,
                    "source": [c.model_copy(update={"edits": [0]}) for c in each],
                }
            )
            for n, each in enumerate(wanted)
        ]
        return patch_of(
            FixFile(files={self.path: digest(Path(self.path).read_bytes())}, runs=records), Path()
        )

    def after(self, *changes, runs=None):
        """Return the changed text, everything having found its place."""
        patch = self.patch(*changes, runs=runs)
        assert patch.left_over == ()
        text = patch.after[self.path].decode()
        compile(text, self.path, "exec")
        return text

    def reasons(self, *changes, runs=None):
        patch = self.patch(*changes, runs=runs)
        return [each.reason for each in patch.left_over]


def optimizer(target=None, compiled=None, fit=None, **more):
    told = {"name": "SGD", "positions": {"learning_rate": 0}, **more}
    return OptimizerChange(target=target, compiled=compiled, fit=fit, **told)


SEQUENTIAL = """
    import keras

    model = keras.Sequential(
        [
            keras.Input((2,)),  # two columns
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(1),  # the price
        ]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    model.fit(X, y, epochs=3)
    """
