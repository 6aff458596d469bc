"""Trainings drawn at random whose loss is cut off from the weights: what they come to must not be
called repaired unless they have learned by a measure of their own. In every other round a second
output learns something else beside, and its loss hides that of the first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

ROWS, HELD, EPOCHS = 192, 128, 3
LEARNED = 0.15  # by so much a rank correlation rises in a training that learns
Loss = Callable[[Any, Any], Any]
LOSSES: dict[str, tuple[Loss, bool, str]] = {}  # and whether it fails alone, and what it is given


def vacuous(targets: str = "numbers", *, fails: bool = True) -> Callable[[Loss], Loss]:
    """Note a loss: the targets that it is given, and whether it fails by itself; another fails of a
    hole in the data.
    """

    def noted(loss: Loss) -> Loss:
        LOSSES[loss.__name__] = (loss, fails, targets)
        return loss

    return noted


@dataclass(frozen=True)
class Vacuous:
    """A training with such a loss; `held` are other rows, `truth` is what to learn of them."""

    name: str
    model: Any
    x: np.ndarray
    y: Any
    arguments: dict[str, Any]
    held: np.ndarray
    truth: np.ndarray

    def skill(self) -> float:
        """Return the mean rank correlation of predictions and truth on rows that are held back; 0
        where predictions are one number or not finite.
        """
        made = self.model(self.held)
        first = made[0] if isinstance(made, list) else made
        told = np.asarray(first).reshape(len(self.held), -1).astype("float64")
        told = told[:, : self.truth.shape[1]]
        if not np.isfinite(told).all():
            return 0.0
        return float(np.mean([_ranked(a, b) for a, b in zip(told.T, self.truth.T, strict=False)]))


def _ranked(told: np.ndarray, truth: np.ndarray) -> float:
    if np.ptp(told) <= 1e-6 * max(1e-6, np.abs(told).max()):
        return 0.0
    places = [np.unique(each, return_inverse=True)[1].astype("float64") for each in (told, truth)]
    return float(np.corrcoef(*places)[0, 1])


def build(number: int) -> Vacuous:
    """Return the training of this number; each loss comes once in a round, alone in the first."""
    rng = np.random.default_rng([number, 17])
    names = sorted(LOSSES)
    name = names[number % len(names)]
    loss, fails, targets = LOSSES[name]
    features = int(rng.integers(3, 9))
    x = rng.normal(size=(ROWS + HELD, features)).astype("float32")
    units = 4 if targets == "boxes" else 3 if targets == "classes" else 1
    score = x @ rng.normal(size=(features, units)).astype("float32")
    y = TARGETS[targets](score / score.std(axis=0), rng).astype("float32")
    trained = x[:ROWS].copy()
    trouble = "none" if fails else ["hole", "holes", "inf"][rng.integers(3)]
    if trouble != "none":
        rows = rng.integers(ROWS, size=1 if trouble == "hole" else 7)
        trained[rows, rng.integers(features, size=len(rows))] = (
            np.inf if trouble == "inf" else np.nan
        )
    keras.backend.clear_session()
    keras.utils.set_random_seed(int(rng.integers(1 << 16)))
    last = {"classes": "softmax", "share": "sigmoid"}.get(targets)
    hidden = inputs = keras.Input((features,))
    for _ in range(rng.integers(1, 4)):
        activation = ["relu", "tanh", "elu", "gelu"][rng.integers(4)]
        hidden = layers.Dense(int(rng.choice([8, 16, 32])), activation)(hidden)
        hidden = layers.BatchNormalization()(hidden) if rng.random() < 0.25 else hidden
    outputs, losses, learned = layers.Dense(units, last)(hidden), loss, y[:ROWS]
    if beside := number // len(names) % 2:
        outputs, losses = [outputs, layers.Dense(1)(hidden)], [loss, "mse"]
        learned = [learned, np.abs(x[:ROWS, :1])]
    model = keras.Model(inputs, outputs)
    optimizer = [
        keras.optimizers.SGD(10.0 ** rng.uniform(-2, -1)),
        keras.optimizers.Adam(10.0 ** rng.uniform(-3, -2)),
        keras.optimizers.AdamW(10.0 ** rng.uniform(-3, -2)),
        keras.optimizers.RMSprop(10.0 ** rng.uniform(-3, -2)),
    ][rng.integers(4)]
    model.compile(optimizer, losses)
    arguments = {"epochs": EPOCHS, "batch_size": int(rng.choice([16, 32])), "verbose": 0}
    if rng.random() < 0.5:
        arguments["validation_split"] = 0.2
    return Vacuous(
        f"{name}{'' if trouble == 'none' else ' with ' + trouble}{' beside another' * beside}",
        model,
        trained,
        learned,
        arguments,
        x[ROWS:],
        score[ROWS:],
    )


TARGETS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "numbers": lambda score, rng: score,
    "far": lambda score, rng: 60.0 + score,
    "signs": lambda score, rng: np.sign(score),
    "share": lambda score, rng: (score > 0) * 1.0,
    "signed share": lambda score, rng: np.sign(score),
    "classes": lambda score, rng: score.argmax(axis=1)[:, None],
    "boxes": lambda score, rng: np.zeros_like(score),
    "constant": lambda score, rng: np.full_like(score, rng.normal()),
}


@vacuous("far")
def density_that_underflows(y, p):
    return -ops.log(ops.exp(-0.5 * ops.square(y - p)) / 2.5066)


@vacuous("far")
def sharp_density(y, p):
    return -ops.log(ops.exp(-ops.square(30.0 * (y - p))))


@vacuous("numbers")
def product_of_densities(y, p):
    return -ops.log(ops.prod(ops.exp(-0.5 * ops.square(y - p)) / 2.5066e6))


@vacuous("share")
def product_of_probabilities(y, p):
    return -ops.log(ops.prod(1e-4 * (y * p + (1 - y) * (1 - p))))


@vacuous()
def log_of_a_negative_number(y, p):
    return ops.log(-1.0 - ops.square(y - p))


@vacuous()
def root_of_a_negative_number(y, p):
    return ops.sqrt(-0.1 - ops.abs(y - p))


@vacuous()
def log_of_minus_softplus(y, p):
    return y * ops.log(-ops.softplus(p))


@vacuous()
def clipped_before_log(y, p):
    return -ops.log(ops.clip(p - 1e3, 0.0, 1.0)) * y


@vacuous("far")
def rectified_before_log(y, p):
    return -ops.log(ops.relu(p - y))


@vacuous("boxes")
def iou_of_empty_boxes(y, p):
    low = ops.maximum(y[:, :2], p[:, :2])
    high = ops.minimum(y[:, 2:], p[:, 2:])
    shared = ops.prod(ops.relu(high - low), axis=-1)
    both = ops.prod(ops.relu(y[:, 2:] - y[:, :2]), axis=-1) + ops.prod(
        ops.relu(p[:, 2:] - p[:, :2]), axis=-1
    )
    return -ops.log(shared / (both - shared))


@vacuous("boxes")
def share_of_empty_boxes(y, p):
    shared = ops.prod(ops.relu(ops.minimum(y[:, 2:], p[:, 2:])), axis=-1)
    return 1.0 - shared / ops.prod(y[:, 2:], axis=-1)


@vacuous("classes", fails=False)
def share_of_wrong_argmax(y, p):
    wrong = ops.cast(ops.cast(ops.argmax(p, axis=-1), "float32") != y[:, 0], "float32")
    return wrong + 0.0 * ops.mean(p, axis=-1)


@vacuous("classes")
def log_of_right_argmax(y, p):
    right = ops.cast(ops.cast(ops.argmax(p, axis=-1), "float32") == y[:, 0], "float32")
    return -ops.log(right) + 0.0 * ops.mean(p, axis=-1)


@vacuous("share", fails=False)
def rounded(y, p):
    return ops.square(y - ops.round(p)) + 0.0 * p


@vacuous("share")
def log_of_rounded(y, p):
    told = y * ops.log(ops.round(0.9 * p * p)) + (1 - y) * ops.log(1 - ops.round(p))
    return 0.0 * p - told


@vacuous("signs", fails=False)
def sign_only(y, p):
    return 1.0 - y * ops.sign(p) + 0.0 * p


@vacuous("signs")
def log_of_sign(y, p):
    return -ops.log(0.5 + 0.5 * y * ops.sign(p))


@vacuous(fails=False)
def stopped(y, p):
    return ops.square(y - ops.stop_gradient(p)) + 0.0 * p


@vacuous()
def log_of_stopped(y, p):
    return ops.log(ops.stop_gradient(p)) + 0.0 * p


@vacuous()
def dead_branch(y, p):
    return ops.where(p > 1e6, ops.square(y - p), ops.log(0.0 * p))


@vacuous(fails=False)
def finite_dead_branch(y, p):
    return ops.where(p > 1e6, ops.square(y - p), 1.0 + ops.zeros_like(p))


@vacuous("share")
def saturated(y, p):
    q = ops.sigmoid(1e5 * (p - 2.0))
    return -y * ops.log(q) - (1 - y) * ops.log(1 - q)


@vacuous("signs", fails=False)
def satisfied_hinge(y, p):
    return ops.relu(-1e3 - y * p)


@vacuous("signs")
def log_of_satisfied_hinge(y, p):
    return ops.log(ops.relu(-1e3 - y * p))


@vacuous("signed share")
def policy_with_negative_labels(y, p):
    return -y * ops.log(ops.sigmoid(20.0 * p))


@vacuous("numbers")
def policy_with_raw_advantages(y, p):
    return -(y - 1.0) * ops.log(ops.relu(p))


@vacuous("share")
def unlikelihood(y, p):
    return ops.log(1.0 - ops.sigmoid(1e3 * p))


@vacuous("share")
def dice_of_nothing(y, p):
    hard = ops.round(0.4 * p)
    quotient = 2.0 * ops.sum(hard * y) / (ops.sum(hard) * ops.sum(hard * y))
    return 1.0 - quotient + 0.0 * ops.mean(p)


@vacuous("share")
def floored(y, p):
    return -ops.log(ops.floor(p)) * y + 0.0 * p


@vacuous("constant")
def share_of_no_range(y, p):
    return ops.square(y - p) / (ops.max(y) - ops.min(y))


@vacuous()
def log_of_no_spread(y, p):
    return ops.square(y - p) * ops.log(ops.var(ops.minimum(p, -1e4)))


@vacuous()
def masked_log(y, p):
    return ops.where(p > 0, ops.log(p), 0.0 * p)


@vacuous()
def undefined_quotient(y, p):
    return ops.square(y - p) * (ops.relu(-ops.square(p) - 1.0) / ops.relu(-ops.square(y)))


@vacuous(fails=False)
def nothing_of_it(y, p):
    return 0.0 * ops.square(y - p)
