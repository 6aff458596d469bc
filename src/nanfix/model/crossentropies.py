"""What a loss is called, and what each crossentropy of Keras wants: which targets, which outputs,
which form from logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from nanfix.model.user_code import name_of

# As `compile` takes it: a name, a function, an object, or one for each output in a list or dict.
UserLoss = Any
SOFTMAX, SIGMOID = "softmax", "sigmoid"
PROBABILITIES = (SOFTMAX, SIGMOID)  # the activations that give probabilities
SMALLEST = 1e-7  # probability, as in Keras
OUTWEIGHED = 2.0  # times; rewards less their mean, as is usual, weigh the same on both sides
PERCENTAGES = "mean_absolute_percentage_error"  # no crossentropy: it divides by the targets


class Targets(Enum):
    """The form of the targets. The value says it in words."""

    CLASS = "the index of a class, from 0"
    SHARES = "a share for each class, 1 in all"
    EACH = "a share from 0 to 1 for each output by itself"


@dataclass(frozen=True)
class Crossentropy:
    """A crossentropy of keras.losses, there as a function called `name` and as a class
    called `class_name`.

    Attributes:
        activation: makes of the logits z the probabilities p that it takes.
        targets: the form in which it takes the truth.
        from_logits: whether Keras computes it from logits too, with `from_logits=True`.
        focal: whether it weighs each row by how wrong the model is, as its own arguments say. Then
            no other crossentropy equals it, and the frequencies of the classes are not its best
            constant prediction.
    """

    name: str
    class_name: str
    activation: str
    targets: Targets
    from_logits: bool = True
    focal: bool = False

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return what the activation makes of logits, shape (rows, classes)."""
        if self.activation == SIGMOID:
            return 1.0 / (1.0 + np.exp(-logits))
        exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return exp / exp.sum(axis=-1, keepdims=True)

    def logits(self, probabilities: np.ndarray) -> np.ndarray:
        """Return logits of which the activation makes these probabilities, brought to
        at least 1e-7 away from 0 and 1.
        """
        p = np.clip(probabilities, SMALLEST, 1.0 - SMALLEST)
        return np.log(p / (1.0 - p)) if self.activation == SIGMOID else np.log(p)

    def draw_targets(self, rng: np.random.Generator, rows: int, classes: int) -> np.ndarray:
        """Return drawn targets: 0 or 1 for each output, one-hot shares, or indices, of shape (rows,
        classes) or (rows,).
        """
        if self.targets is Targets.EACH:
            return rng.integers(0, 2, size=(rows, classes)).astype("float32")
        drawn = rng.integers(0, classes, size=rows)
        return drawn if self.targets is Targets.CLASS else np.eye(classes, dtype="float32")[drawn]


CROSSENTROPIES = {
    each.name: each
    for each in (
        Crossentropy(
            "categorical_crossentropy", "CategoricalCrossentropy", SOFTMAX, Targets.SHARES
        ),
        Crossentropy(
            "sparse_categorical_crossentropy",
            "SparseCategoricalCrossentropy",
            SOFTMAX,
            Targets.CLASS,
        ),
        Crossentropy("binary_crossentropy", "BinaryCrossentropy", SIGMOID, Targets.EACH),
        Crossentropy(
            "categorical_focal_crossentropy",
            "CategoricalFocalCrossentropy",
            SOFTMAX,
            Targets.SHARES,
            focal=True,
        ),
        Crossentropy(
            "binary_focal_crossentropy",
            "BinaryFocalCrossentropy",
            SIGMOID,
            Targets.EACH,
            focal=True,
        ),
        Crossentropy("kl_divergence", "KLDivergence", SOFTMAX, Targets.SHARES, from_logits=False),
    )
}
# What a fix lets a model train on in the place of its own loss.
COMPUTED_FROM_LOGITS = tuple(
    each for each in CROSSENTROPIES.values() if each.from_logits and not each.focal
)


def loss_name(loss: UserLoss) -> str:
    """Return the snake_case name of a stock Keras loss, or of whatever function or
    class the user passed.
    """
    if isinstance(loss, str):
        import keras

        loss = keras.losses.get(loss)
    return name_of(getattr(loss, "fn", loss))


def takes_logits(loss: UserLoss) -> bool:
    """Say whether a stock crossentropy was asked to work on logits."""
    return bool(getattr(loss, "from_logits", False))


def crossentropy_of(loss: UserLoss) -> Crossentropy | None:
    """Return which crossentropy a loss is by its name, as `compile` takes it: text, function or
    object; None for any other.
    """
    return CROSSENTROPIES.get(loss_name(loss))


def has_negative_shares(loss: UserLoss, targets: Sequence[np.ndarray]) -> bool:
    """Say whether a crossentropy takes shares of classes and is given some below 0, as advantages
    of a policy: then it has no least value.
    """
    crossentropy = crossentropy_of(loss)
    if crossentropy is None or crossentropy.targets is not Targets.SHARES:
        return False
    return any((np.asarray(each, "float64") < 0).any() for each in targets)


def are_outweighed(targets: Sequence[np.ndarray]) -> bool:
    """Say whether shares above 0 are far outweighed by those below: then a model that is moved away
    from these has little to move towards.
    """
    shares = [np.nan_to_num(np.asarray(each, "float64")) for each in targets]
    above, below = (sum(np.maximum(sign * each, 0).sum() for each in shares) for sign in (1, -1))
    return bool(OUTWEIGHED * above < below)
