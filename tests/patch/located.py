"""Scripts, and what a patch of a plan adds to them."""

import functools
from pathlib import Path

from nanfix.changes.plan import Plan
from nanfix.patch.locate import source_changes
from nanfix.patch.patch import digest, patch_of
from nanfix.report.fix_file import FixFile, RunRecord

SEQUENTIAL = """
import keras
import numpy as np
from keras import layers

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
y = X[:, :1]
model = keras.Sequential()
model.add(keras.Input((3,)))
model.add(layers.Dense(4, "relu"))
model.add(layers.Dense(1))
model.compile(keras.optimizers.SGD(0.1, clipnorm=1.0), "mse")
model.fit(X, y, epochs=2)
"""
CLASSIFIER = SEQUENTIAL.replace("layers.Dense(1)", 'layers.Dense(1, activation="sigmoid")').replace(
    '"mse"', "by_hand"
)
SUBCLASSED = """
import keras
import numpy as np

class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.out = keras.layers.Dense(1)

    def call(self, inputs):
        return self.out(inputs)

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
y = X[:, :1]
model = Net()
model.compile("sgd", "mse")
model.fit(X, y)
"""


def plan_of(*changes):
    """Return the plan of these changes."""
    return functools.reduce(Plan.with_change, changes, Plan())


def patched(run, stages, call):
    """Return the patch of the script."""
    if not isinstance(stages, list):
        stages = [stages]
    changes = source_changes(run, stages, call)
    edits = [{"strategy": "reset-moments"}] * len(stages)
    record = RunRecord.model_validate({"outcome": "REPAIRED", "edits": edits, "source": changes})
    record = RunRecord.model_validate_json(record.model_dump_json())
    patch = patch_of(
        FixFile(files={"train.py": digest(Path("train.py").read_bytes())}, runs=[record]), Path()
    )
    for content in patch.after.values():
        compile(content, "train.py", "exec")
    return patch


def changed(run, stages, call):
    """Return the lines of the script that the patch adds, and the reasons for what has no place."""
    patch = patched(run, stages, call)
    added = [
        line[1:].strip()
        for line in str(patch).splitlines()
        if line.startswith("+") and not line.startswith("+++")
    ]
    return [line for line in added if line], [each.reason for each in patch.left_over]
