"""Small trainings drawn at random that stay finite and learn: what faults are put into."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers

ROWS, EPOCHS = 256, 4
# Powers of ten of ordinary learning rates.
RATES = {
    "SGD": (-2.0, -1.2),
    "Adam": (-2.5, -1.8),
    "RMSprop": (-2.8, -2.2),
    "Nadam": (-2.8, -2.2),
    "AdamW": (-2.5, -1.8),
}
RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "softplus")
STEPS_OF_TIME, CHANNELS = 30, 3
SIDE = 8  # of an image
FALLS = 0.97  # times the loss of the first epoch: a training that ends lower learns


@dataclass
class Recipe:
    """A training that is built from it as often as wanted, each time the same.

    Attributes:
        kind: mlp, residual, recurrent or convolutional.
        written: functional, sequential or own class, which has all but the last layer as one model.
        fed: arrays, float64, frame, dataset or sequence (batches of a class of the user's own).
        front, middle: make layers behind the input and behind the first hidden layer; `throughout`
            puts those of `middle` behind each of them.
        kernel: makes the initializer of each hidden layer; None for what suits the activation.
        ruin, after: what is done to the built model before it is compiled, and after.
        units: of the last layer; None for as many as the targets call for.
        of: the class of the model.
        compiled, arguments: further arguments of `compile` and of `fit`.
    """

    seed: int
    kind: str
    task: str
    depth: int
    width: int
    activation: str
    optimizer: str
    rate: float
    batch: int
    x: np.ndarray
    y: np.ndarray
    classes: int
    weights: np.ndarray | None = None
    loss: Any = None
    last: str | None = None
    cell: str = "SimpleRNN"
    feedback: float = 1.0
    policy: str = "float32"
    units: int | None = None
    throughout: bool = False
    of: Any = keras.Model
    written: str = "functional"
    fed: str = "arrays"
    compiled: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    kernel: Callable[[int], Any] | None = None
    front: list[Callable[[], Any]] = field(default_factory=list)
    middle: list[Callable[[], Any]] = field(default_factory=list)
    ruin: list[Callable[[Any], None]] = field(default_factory=list)
    after: list[Callable[[Any], None]] = field(default_factory=list)

    def build(self) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Return the model, inputs, targets, and arguments of `fit`."""
        keras.utils.set_random_seed(self.seed)
        keras.config.set_dtype_policy(self.policy)
        try:
            inputs = keras.Input(self.x.shape[1:])
            hidden = inputs
            for make in self.front:
                hidden = make()(hidden)
            hidden = self._body(hidden)
            units = self.classes if self.task == "multiclass" else self.y.shape[-1]
            # Keras' guide keeps the last layer in float32.
            head = layers.Dense(self.units or units, self.last, dtype="float32")
            model = self._written(inputs, hidden, head)
        finally:
            keras.config.set_dtype_policy("float32")
        for change in self.ruin:
            change(model)
        optimizer = getattr(keras.optimizers, self.optimizer)(self.rate, **self.constants)
        model.compile(optimizer, self.loss, **{"jit_compile": False, **self.compiled})
        for change in self.after:
            change(model)
        arguments = {"epochs": EPOCHS, "batch_size": self.batch, "verbose": 0, **self.arguments}
        if self.weights is not None:
            arguments["sample_weight"] = self.weights
        return model, *fed(self.fed, self.x, self.y, arguments)

    def _written(self, inputs: Any, hidden: Any, head: Any) -> Any:
        model = self.of(inputs, head(hidden))
        if self.of is keras.Model and self.written == "own class":
            model = Own(keras.Model(inputs, hidden), head)
            model(np.zeros((1, *self.x.shape[1:]), "float32"))  # as a user builds it
        chain = self.of is keras.Model and self.kind != "residual"
        if chain and self.written == "sequential":
            model = keras.Sequential([inputs, *model.layers[1:]])
        return model

    def _body(self, hidden: Any) -> Any:
        if self.kind == "recurrent":
            memory = keras.initializers.Orthogonal(gain=self.feedback, seed=self.seed)
            cell = getattr(layers, self.cell)(
                self.width, activation=self.activation, recurrent_initializer=memory
            )
            return self._between(cell(hidden))
        if self.kind == "convolutional":
            for index in range(self.depth):
                convolution = layers.Conv2D(
                    self.width,
                    3,
                    padding="same",
                    activation=self.activation,
                    kernel_initializer=self._kernel(index),
                )
                hidden = convolution(hidden)
            return self._between(layers.GlobalAveragePooling2D()(hidden))
        if self.kind == "residual":
            hidden = self._between(layers.Dense(self.width)(hidden))
            for index in range(self.depth):
                branch = layers.Dense(
                    self.width, self.activation, kernel_initializer=self._kernel(index, branch=True)
                )(hidden)
                hidden = layers.Add()([hidden, branch])
            return hidden
        for index in range(self.depth):
            dense = layers.Dense(
                self.width, self.activation, kernel_initializer=self._kernel(index)
            )
            hidden = dense(hidden)
            hidden = self._between(hidden) if self.throughout or index == 0 else hidden
        return hidden

    def _between(self, hidden: Any) -> Any:
        for make in self.middle:
            hidden = make()(hidden)
        return hidden

    def _kernel(self, index: int, *, branch: bool = False) -> Any:
        if self.kernel is not None:
            return self.kernel(index)
        # A branch adds little at first, so that the sum does not grow with the depth.
        scale = 1.0 / self.depth if branch else 2.0 if self.activation in RECTIFIERS else 1.0
        return keras.initializers.VarianceScaling(scale, seed=self.seed + index)


class Own(keras.Model):
    """Has a model for its features, and a last layer."""

    def __init__(self, features: Any, head: Any):
        super().__init__()
        self.features, self.head = features, head

    def call(self, inputs: Any) -> Any:
        return self.head(self.features(inputs))


class Batches(keras.utils.PyDataset):
    """Gives arrays batch by batch."""

    def __init__(self, arrays: tuple[np.ndarray, ...], size: int):
        super().__init__()
        self.arrays, self.size = arrays, size

    def __len__(self) -> int:
        return -(-len(self.arrays[0]) // self.size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        rows = slice(index * self.size, (index + 1) * self.size)
        return tuple(array[rows] for array in self.arrays)


def fed(how: str, x: np.ndarray, y: np.ndarray, arguments: dict[str, Any]) -> tuple[Any, ...]:
    """Return inputs, targets and arguments of `fit` in another form than as float32 arrays."""
    if how == "float64":
        return (
            x.astype("float64"),
            y.astype("float64" if y.dtype.kind == "f" else y.dtype),
            arguments,
        )
    if how == "frame" and x.ndim == 2:
        return pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])]), y, arguments
    if how not in ("dataset", "sequence"):
        return x, y, arguments
    arguments = dict(arguments)
    size = arguments.pop("batch_size")
    weights = arguments.pop("sample_weight", None)
    arrays = (x, y) if weights is None else (x, y, weights)
    kept = round(len(x) * (1.0 - arguments.pop("validation_split", 0.0)))
    held = arguments.pop("validation_data", None) or tuple(array[kept:] for array in arrays)
    arrays = tuple(array[:kept] for array in arrays)
    if how == "sequence":
        data, held = Batches(arrays, size), Batches(held, size)
    else:
        slices = tf.data.Dataset.from_tensor_slices
        data, held = slices(arrays).shuffle(kept, seed=1).batch(size), slices(held).batch(size)
    return data, None, {**arguments, "validation_data": held}


def draw(rng: np.random.Generator, wanted: dict[str, Any]) -> Recipe:
    """Return a recipe with what is `wanted` of it, everything else drawn."""

    def one_of(name: str, *values: Any) -> Any:
        drawn = values[rng.integers(len(values))]
        return wanted.get(name, drawn)

    kind = one_of("kind", "mlp", "mlp", "mlp", "residual")
    task = one_of("task", "regression", "regression", "binary", "multiclass")
    optimizer = one_of("optimizer", *RATES)
    depth = int(rng.integers(8, 20) if kind == "residual" else rng.integers(1, 6))
    depth = wanted.get("depth", depth)
    recurrent = kind == "recurrent"
    activation = "tanh" if recurrent else one_of("activation", "tanh", *RECTIFIERS)
    features = int(rng.integers(3, 9))
    features = wanted.get("features", features)
    shape = {"recurrent": (STEPS_OF_TIME, CHANNELS), "convolutional": (SIDE, SIDE, CHANNELS)}.get(
        kind, (features,)
    )
    x = rng.normal(size=(wanted.get("rows", ROWS), *shape)).astype("float32")
    places = int(np.prod(shape[:-1]))
    seen = x.reshape(len(x), places, -1).mean(axis=1) * np.sqrt(places)
    classes = int(rng.integers(3, 6))
    if task == "multiclass":
        y = (seen @ rng.normal(size=(seen.shape[-1], classes))).argmax(axis=1).astype("int32")
        loss, last = "sparse_categorical_crossentropy", "softmax"
    else:
        score = seen @ rng.normal(size=(seen.shape[-1], 1))
        score = score / score.std() + 0.3 * np.sin(2.0 * seen[:, :1])
        y = (score > 0 if task == "binary" else score).astype("float32")
        loss, last = ("binary_crossentropy", "sigmoid") if task == "binary" else ("mse", None)
    return Recipe(
        seed=int(rng.integers(1 << 16)),
        kind=kind,
        task=task,
        depth=depth,
        width=int(one_of("width", 8, 16, 32, 64)),
        activation=activation,
        optimizer=optimizer,
        # Gradients add up over the layers.
        rate=float(10.0 ** rng.uniform(*RATES[optimizer])) / max(1.0, depth / 3.0),
        batch=int(one_of("batch", 16, 32)),
        x=x,
        y=y,
        classes=classes,
        loss=loss,
        last=last,
        cell=str(one_of("cell", "SimpleRNN", "GRU", "LSTM")),
        feedback=rng.uniform(1.2, 1.6),
    )


def outcome(recipe: Recipe) -> str:
    """Train with plain Keras and say how it went: "learns", "finite" or "non-finite"."""
    model, x, y, arguments = recipe.build()
    losses = model.fit(x, y, **arguments).history["loss"]
    if fails(model, losses):
        return "non-finite"
    return "learns" if losses[-1] < FALLS * losses[0] else "finite"


def fails(model: Any, losses: list[float]) -> bool:
    """Say whether a loss or a variable of a trained model is not finite."""
    return not np.isfinite(losses).all() or not all(
        np.isfinite(np.asarray(weight)).all() for weight in model.variables
    )
