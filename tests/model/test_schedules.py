"""Schedules multiplied by a share of themselves, whatever they are."""

import keras
import numpy as np
import pytest

from nanfix.model.schedules import ScaledSchedule, scaled_schedule, takes_a_share
from nanfix.private.objects import learning_rate_of

stock = keras.optimizers.schedules
STEPS = np.arange(0, 400, 7)


class Bare(stock.LearningRateSchedule):
    """TensorFlow's tutorial on Transformers has one without get_config."""

    def __call__(self, step):
        step = keras.ops.cast(step, "float32") + 1.0
        return 0.1 * keras.ops.minimum(keras.ops.rsqrt(step), step * 100**-1.5)


@keras.saving.register_keras_serializable()
class WithFieldsOfItsOwn(Bare):
    def __init__(self, d_model):
        self.d_model = d_model

    def __call__(self, step):
        return self.d_model**-0.5 * super().__call__(step)

    def get_config(self):
        return {"d_model": self.d_model}


KINDS = [
    stock.PiecewiseConstantDecay([50, 100], [0.1, 10.0, 0.3]),
    stock.ExponentialDecay(0.5, 100, 0.9),
    stock.CosineDecay(0.0, 300, alpha=0.1, warmup_target=0.1, warmup_steps=50),  # from a rate of 0
    stock.CosineDecayRestarts(0.1, 100),
    stock.PolynomialDecay(1e-5, 100, end_learning_rate=0.1),  # rises
    stock.InverseTimeDecay(0.1, 100, 0.5),
    Bare(),
    WithFieldsOfItsOwn(64),
    lambda: 0.3,
]


def rates(schedule):
    scheduled = isinstance(schedule, stock.LearningRateSchedule)
    return np.asarray([float(schedule(step) if scheduled else schedule()) for step in STEPS])


@pytest.mark.parametrize("schedule", KINDS, ids=lambda schedule: type(schedule).__name__)
def test_every_rate_is_the_share_of_what_it_was(schedule):
    scaled = scaled_schedule(schedule, 0.03)
    np.testing.assert_allclose(rates(scaled), 0.03 * rates(schedule), rtol=1e-5, atol=1e-8)
    assert isinstance(scaled, ScaledSchedule) is (
        type(schedule).__module__.partition(".")[0] != "keras"
    )


@pytest.mark.parametrize(
    "schedule", KINDS[:6] + KINDS[7:8], ids=lambda schedule: type(schedule).__name__
)
def test_model_with_a_scaled_schedule_is_saved_and_loaded(schedule, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(scaled_schedule(schedule, 0.03)), "mse")
    model.save(tmp_path / "model.keras")
    loaded = learning_rate_of(keras.models.load_model(tmp_path / "model.keras").optimizer)
    np.testing.assert_allclose(rates(loaded), 0.03 * rates(schedule), rtol=1e-5, atol=1e-8)


def test_share_can_be_a_variable():
    share = keras.Variable(0.5)
    scaled = ScaledSchedule(KINDS[0], share)
    assert float(scaled(0)) == pytest.approx(0.05)
    share.assign(0.1)
    assert float(scaled(0)) == pytest.approx(0.01)
    assert scaled.get_config()["share"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        (lambda epoch, rate: rate if epoch < 8 else 0.7 * rate, True),
        (lambda epoch, rate: rate * keras.ops.exp(-0.1), True),
        (lambda epoch, rate: 0.01 * 0.9**epoch, False),
        (lambda epoch, rate: 0.01 if epoch < 5 else 0.9 * rate, False),
        (lambda epoch: 0.01, False),
        (lambda epoch, rate: 1 / 0, False),
    ],
)
def test_a_function_that_takes_a_share_of_the_rate_is_told(schedule, share):
    assert takes_a_share(schedule) is share


def test_what_such_a_function_prints_is_not_shown(capsys):
    assert takes_a_share(lambda epoch, rate: print(epoch) or rate)
    assert capsys.readouterr().out == ""
