"""Explosions drawn at random, of known cause: a fixed sample of those that the benchmark draws."""

import sys
from pathlib import Path

import explosions
import keras
import pytest
from parameters import shortened

from nanfix.api.diagnose import diagnose
from nanfix.records.cause import Cause

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import diagnosis as benchmark
from _generated import drawn

# Number and draw; that the label is the cause has been proved when they were chosen. In `make test`
# are pairs, and faults that are in none of them nor in another test of a cause so deep or rare.
OFTEN = (
    (0, 1),
    (30, 0),
    (36, 0),
    (63, 4),
    (71, 0),
    (79, 0),
    (159, 0),
    (2004, 0),
    (2023, 0),
    (2051, 0),
    (5015, 0),
    (5079, 0),
)
SELDOM = (
    (2, 1),
    (20, 1),
    (31, 0),
    (39, 0),
    (100, 2),
    (155, 0),
    (1, 0),
    (4, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (12, 0),
    (14, 0),
    (18, 0),
    (32, 0),
    (33, 0),
    (34, 1),
    (2047, 0),
    (5019, 1),
    (5351, 0),
    (5312, 0),
    (5247, 0),
    (5151, 0),
)


@pytest.mark.parametrize(("number", "attempt"), shortened((*OFTEN, *SELDOM), OFTEN))
def test_cause_of_a_generated_explosion(number, attempt):
    run = drawn(number, attempt)
    model, x, y, arguments = run.build()
    said = benchmark.named(diagnose(model, x, y, **arguments))
    assert benchmark.is_right(run, said), (run.label, said)


def test_one_typing_error_among_raw_targets_is_an_outlier():
    x, y = explosions.table(300)
    y = 375.0 + 150.0 * y
    y[77] = 2e8
    model = explosions.mlp(keras.optimizers.SGD(0.02), activation="elu")
    diagnosis = diagnose(model, x, y, epochs=20, batch_size=16, verbose=0)
    assert diagnosis.cause is Cause.OUTLIER, str(diagnosis)


def test_negative_learning_rate_is_named_as_negative():
    x, y = explosions.table()
    model = explosions.mlp(keras.optimizers.Adam(-1000.0))
    diagnosis = diagnose(model, x, y, epochs=10, batch_size=16, verbose=0)
    assert diagnosis.cause is Cause.OPTIMIZER_CONSTANT
    assert "the learning rate is negative, -1e+03" in str(diagnosis)


def test_deep_stack_whose_first_loss_is_astronomical_has_bad_initial_weights():
    x, y = explosions.table()
    keras.utils.set_random_seed(0)
    hidden = [
        keras.layers.Dense(
            32, "relu", kernel_initializer=keras.initializers.RandomNormal(stddev=0.5, seed=i)
        )
        for i in range(14)
    ]
    model = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.003), "mse")
    diagnosis = diagnose(model, x, 1e3 * y, epochs=3, batch_size=16, verbose=0)
    assert diagnosis.cause is Cause.BAD_INITIALIZATION, str(diagnosis)


def test_what_nearly_every_network_has_is_not_told():
    x, y = explosions.table()
    model = explosions.mlp(keras.optimizers.SGD(30.0))
    told = str(diagnose(model, x, y, epochs=3, batch_size=16, verbose=0))
    assert "hidden layers use relu" not in told and "layers of weights in a row" not in told
