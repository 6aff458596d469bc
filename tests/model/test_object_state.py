"""What callbacks and models remember as plain Python: nested state comes back, large arrays are not
copied again and again.
"""

from collections import defaultdict, deque

import explosions
import keras
import numpy as np
import pytest
import tensorflow as tf

from nanfix.model.object_state import plain_state, remember
from nanfix.model.snapshot import held_bytes, nonfinite_variables, restore, state_variables, take


class Notes(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.log = {"loss": [1.0], "deep": [{"a": (1, [2])}]}
        self.recent, self.by_name, self.seen = (
            deque([1, 2], maxlen=2),
            defaultdict(list, a=[1]),
            {1},
        )
        self.epochs = [[0.5]]
        self.current = self.epochs[-1]


def test_nested_containers_come_back_as_they_were():
    notes = Notes()
    state = plain_state(notes)
    notes.log["loss"].append(2.0)
    notes.log["deep"][0]["a"][1].append(3)
    notes.recent.append(3)
    notes.by_name["b"].append(2)
    notes.current.append(0.25)
    for _ in range(2):  # the state itself stays what it was
        remember([(notes, state)])
        assert notes.log == {"loss": [1.0], "deep": [{"a": (1, [2])}]}
        assert notes.recent == deque([1, 2]) and notes.recent.maxlen == 2
        assert notes.by_name == {"a": [1]} and notes.by_name["new"] == []
        assert notes.epochs == [[0.5]] and notes.epochs[-1] is notes.current
        notes.log["loss"].append(3.0)
        notes.current.append(0.125)


def test_structure_that_holds_itself_is_no_trap():
    notes = Notes()
    notes.log["self"] = notes.log
    remember([(notes, plain_state(notes))])
    assert notes.log["self"] is notes.log


def test_large_array_is_copied_once_and_counted_once():
    model, *_ = explosions.healthy()
    notes = Notes()
    notes.data = {"x": np.ones((1000, 100), "float32")}
    data, snapshots = notes.data["x"], [take(model, callbacks=[notes]) for _ in range(5)]
    bare = take(model).nbytes
    assert snapshots[0].nbytes >= bare + 400_000
    assert held_bytes(snapshots) < 5 * bare + 2 * 400_000
    restore(snapshots[0])
    assert notes.data["x"] is data  # it was never changed
    data[0] = np.nan
    changed = take(model, callbacks=[notes])
    restore(snapshots[-1])
    assert (notes.data["x"] == 1.0).all()
    restore(changed)
    assert np.isnan(notes.data["x"][0]).all()


class Counting(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.lowest = tf.Variable(np.inf, trainable=False)
        self.calls = 0

    def call(self, x):
        return x


class Annealed(keras.Model):
    """Keeps its own weight of a term, gradients that are added up, and counters in Python."""

    def __init__(self):
        super().__init__()
        self.first, self.last = Counting(), keras.layers.Dense(1)
        self.share = tf.Variable(0.5, trainable=False)
        self.sums = [tf.Variable([1.0, 2.0], trainable=False)]
        self.dice = tf.random.Generator.from_seed(1)
        self.taken, self.norms, self.units = 3, [0.5], {"a": 1}
        self.table = np.zeros(3)

    def call(self, x):
        return self.last(self.first(x))


@pytest.fixture
def annealed():
    model = Annealed()
    model.compile("sgd", "mse")
    model(np.ones((1, 2)))
    return model


def test_plain_variables_and_counters_of_a_model_are_part_of_its_state(annealed):
    before = take(annealed)
    drawn = annealed.dice.normal((2,)).numpy()
    annealed.share.assign(0.1)
    annealed.sums[0].assign([np.nan, np.nan])
    annealed.first.lowest.assign(0.25)
    annealed.taken, annealed.first.calls = 7, 9
    norms = annealed.norms
    annealed.norms.append(np.nan)
    annealed.units["b"] = 2
    annealed.table[1] = 5.0
    restore(before)
    assert (
        float(annealed.share) == 0.5
        and np.isinf(annealed.first.lowest)
        and annealed.sums[0].numpy().tolist() == [1.0, 2.0]
    )
    assert (annealed.taken, annealed.first.calls) == (3, 0)
    assert annealed.norms == [0.5] and annealed.norms is norms and annealed.units == {"a": 1}
    assert annealed.table.tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_array_equal(annealed.dice.normal((2,)).numpy(), drawn)


def test_plain_variables_are_no_reason_to_stop(annealed):
    """The smallest loss so far begins at inf, and a sum that is NaN shows in the
    weights if it matters.
    """
    assert nonfinite_variables(annealed) == [] and take(annealed) is not None


def test_variables_that_keras_tracks_are_not_held_twice(annealed):
    annealed.copies = [variable.value for variable in annealed.last.variables]
    variables = state_variables(annealed)
    handles = [
        id(variable if isinstance(variable, tf.Variable) else variable.value)
        for variable in variables
    ]
    assert len(handles) == len(set(handles))
