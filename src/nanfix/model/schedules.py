"""Any learning rate that is not a number, multiplied by a share of itself, or kept finite."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

# What stock schedules call a rate.
Schedule = keras.optimizers.schedules.LearningRateSchedule | Callable[[], float]
RATES = ("initial_learning_rate", "end_learning_rate", "warmup_target")
# At which a schedule is compared with the share of another.
STEPS = (0, 1, 7, 100, 1_000, 10_000, 1_000_000)
CLOSE = 1e-5
# At which a function of epoch and rate is asked for the next rate.
EPOCHS, LOW, HIGH = (0, 1, 2, 5, 10, 30, 100), 1e-3, 2e-3


@keras.saving.register_keras_serializable(package="nanfix")
class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """The rate share * schedule(step), for a schedule of any class or a function
    without arguments.
    """

    def __init__(self, schedule: Schedule, share: Any):
        super().__init__()
        self.schedule, self.share = schedule, share

    def __call__(self, step):
        return self.share * keras.ops.cast(_rate(self.schedule, step), "float32")

    def get_config(self):
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "share": float(np.asarray(self.share)),
        }

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["share"])


@keras.saving.register_keras_serializable(package="nanfix")
class FiniteSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """The rate schedule(step) or, where that is not finite, another."""

    def __init__(self, schedule: Schedule, otherwise: float):
        super().__init__()
        self.schedule, self.otherwise = schedule, otherwise

    def __call__(self, step):
        rate = keras.ops.cast(_rate(self.schedule, step), "float32")
        return keras.ops.where(keras.ops.isfinite(rate), rate, self.otherwise)

    def get_config(self):
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "otherwise": self.otherwise,
        }

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["otherwise"])


def scaled_schedule(schedule: Any, share: float) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a schedule whose every rate is `share` times that of the given one, which may be a
    function without arguments.

    A stock schedule gives one of the same class, which needs no nanfix when it is loaded.
    """
    if type(schedule).__module__.partition(".")[0] == "keras":
        config = schedule.get_config()
        for name in RATES:
            if isinstance(config.get(name), float | int):
                config[name] = config[name] * share
        if "values" in config:
            config["values"] = [value * share for value in config["values"]]
        stock = type(schedule).from_config(config)
        rates = [
            np.asarray([float(_rate(each, step)) for step in STEPS]) for each in (stock, schedule)
        ]
        if np.allclose(rates[0], share * rates[1], rtol=CLOSE, atol=CLOSE * float(rates[0].max())):
            return stock
    return ScaledSchedule(schedule, share)


def constant_schedule(rate: float) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a stock schedule of a single rate."""
    return keras.optimizers.schedules.PiecewiseConstantDecay([1], [rate, rate])


def _rate(schedule: Schedule, step: Any) -> Any:
    return (
        schedule(step)
        if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule)
        else schedule()
    )


def takes_a_share(schedule: Any) -> bool:
    """Say whether the function of a LearningRateScheduler gives a share of the rate that it is
    given, as `lambda epoch, rate: 0.9 * rate`: a run that begins with another rate follows it.
    """
    with contextlib.redirect_stdout(None):
        try:
            pairs = [[float(schedule(e, rate)) for rate in (LOW, HIGH)] for e in EPOCHS]
        except Exception:  # whatever the user's function does beside a training
            return False
    lower, higher = np.array(pairs).T
    return np.allclose(lower / LOW, higher / HIGH, rtol=1e-4)
