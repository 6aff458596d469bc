"""Steps that are too large: learning rates, schedules, constants and memory of optimizers."""

import keras
import numpy as np
from keras import layers, ops

from explosions.parts import ARGUMENTS, mlp, table


def learning_rate():
    x, y = table()
    return mlp(keras.optimizers.SGD(30.0)), x, y, dict(ARGUMENTS)


def schedule():
    x, y = table()
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([10], [0.01, 10.0])
    return mlp(keras.optimizers.SGD(rates)), x, y, dict(ARGUMENTS)


class RootOfWhatIsLeft(keras.optimizers.schedules.LearningRateSchedule):
    """Of a run that goes on longer than was planned."""

    def __init__(self, planned):
        self.planned = planned

    def __call__(self, step):
        return 0.01 * ops.sqrt(1.0 - ops.cast(step, "float32") / self.planned)


def beyond_the_schedule():
    x, y = table()
    return mlp(keras.optimizers.Adam(RootOfWhatIsLeft(5.5))), x, y, dict(ARGUMENTS)


def adam_without_epsilon():
    x, y = table()
    x[:, 3] = 0.0
    return mlp(keras.optimizers.Adam(0.01, epsilon=0.0), activation="tanh"), x, y, dict(ARGUMENTS)


def epsilon_lost_in_half_precision():
    """The square of a small gradient is 0 in float16, and Keras' epsilon is next to nothing."""
    x, y = table(256)
    classes = np.digitize(y[:, 0], [-1.0, 0.0, 1.0])
    keras.utils.set_random_seed(0)
    half = {"dtype": "float16"}
    stack = [layers.Dense(64, "relu", **half), layers.Dense(64, "relu", **half)]
    model = keras.Sequential([*stack, layers.Dense(4, "softmax", **half)])
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    return model, x, classes, dict(ARGUMENTS)


def velocity_of_another_training():
    """Weights are set back between two trainings, as between the folds of a
    cross-validation, the optimizer is not.
    """
    x, y = table()
    model = mlp(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=False))
    initial = model.get_weights()
    model.fit(x[:16], y[:16] * 1e4, epochs=1, batch_size=16, verbose=0)
    model.set_weights(initial)
    return model, x, y, {**ARGUMENTS, "epochs": 20}


def half_weights():
    """In weights of float16 an epsilon of 1e-8 is 0, and so is the gradient of a
    feature that is always 0.
    """
    x, y = table()
    x[:, 3] = 0.0
    keras.utils.set_random_seed(0)
    half = {"dtype": "float16"}
    hidden = layers.Dense(8, activation="tanh", **half)
    model = keras.Sequential([keras.Input((4,), dtype="float16"), hidden, layers.Dense(1, **half)])
    model.compile(keras.optimizers.Adam(0.01, epsilon=1e-8), "mse")
    return model, x.astype("float16"), y.astype("float16"), {**ARGUMENTS, "epochs": 20}


def critic():
    """The loss of a Wasserstein critic falls for as long as its weights grow."""
    x, _ = table()
    y = np.where(x[:, :1] > 0, 1.0, -1.0).astype("float32")

    def wasserstein(y_true, y_pred):
        return -ops.mean(y_true * y_pred, axis=-1)

    return mlp(keras.optimizers.SGD(0.1), wasserstein), x, y, {**ARGUMENTS, "epochs": 15}


def advantages_as_labels():
    """A crossentropy has no least value where a label is below 0, as a move to be punished has."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(640, 6)).astype("float32")
    moves = np.eye(3)[rng.integers(0, 3, 640)]
    y = 60.0 * np.tanh(x[:, :3]) * moves
    hidden, last = layers.Dense(16, "relu"), layers.Dense(3, "softmax")
    model = keras.Sequential([keras.Input((6,)), hidden, last])
    model.compile(keras.optimizers.SGD(0.02), "categorical_crossentropy")
    return model, x, y.astype("float32"), {**ARGUMENTS, "epochs": 10}


def far_from_the_targets():
    """The first errors are 30 times what is left once the level of the targets is learned, and so
    are the first steps.
    """
    x, y = table()
    return (
        mlp(keras.optimizers.SGD(0.02), activation="elu"),
        x,
        y + 30.0,
        {**ARGUMENTS, "epochs": 20},
    )


def decay_beyond_one():
    """AdamW takes 0.1 * 40 times each weight from it at every step."""
    x, y = table()
    return mlp(keras.optimizers.AdamW(0.1, weight_decay=40.0)), x, y, {**ARGUMENTS, "epochs": 20}


def lasting_momentum():
    """SGD with a momentum of 1 goes on with every step it has ever taken."""
    x, y = table()
    return mlp(keras.optimizers.SGD(0.1, momentum=1.0)), x, y, {**ARGUMENTS, "epochs": 20}
