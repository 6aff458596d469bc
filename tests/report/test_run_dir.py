"""What makes a run another one: how it is compiled, how it is fed, and every number of its data."""

import copy

import explosions
import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf

from nanfix.data.training_data import TrainingData
from nanfix.records.errors import RunDirError
from nanfix.report.run_dir import digest, fingerprint, opened

X, Y = explosions.table(rows=20)
ARGUMENTS = {"batch_size": 16, "class_weight": {0: 1.0, 1: 2.0}}


def identity(optimizer=None, loss="mse", arguments=None, **compiled):
    model = explosions.mlp(optimizer or keras.optimizers.SGD(0.1), loss, **compiled)
    return fingerprint(model, TrainingData.of(X, Y, {**ARGUMENTS, **(arguments or {})}))


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule without get_config."""

    def __init__(self, first):
        self.first = first

    def __call__(self, step):
        return self.first


OTHERS = {
    "rate": lambda: identity(keras.optimizers.SGD(0.2)),
    "momentum": lambda: identity(keras.optimizers.SGD(0.1, momentum=0.9)),
    "schedule": lambda: identity(
        keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9))
    ),
    "schedule of one's own": lambda: identity(keras.optimizers.SGD(Rates(0.1))),
    "another of these": lambda: identity(keras.optimizers.SGD(Rates(0.2))),
    "loss": lambda: identity(loss="mae"),
    "loss object": lambda: identity(loss=keras.losses.Huber(2.0)),
    "metrics": lambda: identity(metrics=["mae"]),
    "batch size": lambda: identity(arguments={"batch_size": 8}),
    "class weight": lambda: identity(arguments={"class_weight": {0: 1.0, 1: 3.0}}),
    "sample weight": lambda: identity(arguments={"sample_weight": np.ones(20)}),
    "validation": lambda: identity(arguments={"validation_split": 0.5}),
    "epochs": lambda: identity(arguments={"epochs": 7}),
}


def test_every_setting_makes_another_run():
    known = [identity(), *(make() for make in OTHERS.values())]
    assert all(one != other for i, one in enumerate(known) for other in known[:i])
    assert identity() == known[0]


def test_a_folder_knows_its_run_again_and_refuses_another(tmp_path):
    data = TrainingData.of(X, Y, ARGUMENTS)
    for _ in range(2):
        with opened(tmp_path / "run", identity(), data):
            pass
    with (
        pytest.raises(RunDirError, match="another compiled"),
        opened(tmp_path / "run", OTHERS["rate"](), data),
    ):
        pass
    cleaned = X.copy()
    cleaned[7, 2] = 0.5
    data = TrainingData.of(cleaned, Y, ARGUMENTS)
    with (
        pytest.raises(RunDirError, match="another content"),
        opened(tmp_path / "run", identity(), data),
    ):
        pass


KINDS = {
    "array": np.asarray,
    "not contiguous": np.asfortranarray,
    "frame": pd.DataFrame,
    "words": lambda cells: np.array([str(cell) for cell in cells[:, 0]], object),
    "tensor": tf.constant,
    "sparse tensor": tf.sparse.from_dense,
    "ragged": tf.RaggedTensor.from_tensor,
    "scipy": scipy.sparse.csr_matrix,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_the_data_counts(kind):
    def of(cells):
        return digest(TrainingData(KINDS[kind](cells), Y))

    changed = copy.deepcopy(X)
    changed[3, 0] += 1
    assert of(X) == of(X.copy()) and of(X) != of(changed)


def test_streams_are_not_drawn_from():
    drawn = []
    data = TrainingData.of((drawn.append(i) or (X, Y) for i in range(3)), None, {})
    assert digest(data)[0] == "Rewindable" and not drawn
