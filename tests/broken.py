"""Pieces of nanfix, and of the user's code, that fail on purpose in a training that explodes."""

import explosions
import numpy as np

import nanfix

QUICK = {"strategies": ["lower-learning-rate"], "budget": nanfix.Budget(trials=4)}


class Broken(Exception):
    """What is raised in the place of a piece of nanfix."""


class Own(Exception):
    """What the user's own code raises."""


def fails(*args, **kwargs):
    raise Broken("on purpose")


def exploding(**more):
    model, x, y, arguments = explosions.learning_rate()
    return model, x, y, {**arguments, **more}


def assert_usable(model, x):
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert np.isfinite(model.predict(x, verbose=0)).all()
