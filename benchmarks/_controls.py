"""Healthy trainings drawn at random that look sick: nothing may be changed of them."""

from functools import partial
from typing import Any

import keras
import numpy as np
from _looks import LOOKS, ROWS, Draft
from keras import layers


def build(number: int) -> tuple[str, Any, np.ndarray, np.ndarray, dict[str, Any]]:
    """Return the name of the control of this number, its model, data, and arguments of `fit`."""
    rng = np.random.default_rng([number, 23])
    names = sorted(LOOKS)
    name = names[number % len(names)]
    features = int(rng.integers(3, 9))
    x = rng.normal(size=(ROWS, features)).astype("float32")
    y = (x @ rng.normal(size=(features, 1)) + 0.1 * rng.normal(size=(ROWS, 1))).astype("float32")
    keras.backend.clear_session()
    keras.utils.set_random_seed(int(rng.integers(1 << 16)))
    draft = Draft(rng, x, y, [])
    for _ in range(rng.integers(1, 4)):
        activation = ["relu", "tanh", "elu", "gelu"][rng.integers(4)]
        draft.body.append(partial(layers.Dense, int(rng.choice([8, 16, 32])), activation))
    kinds = (keras.optimizers.SGD, keras.optimizers.Adam, keras.optimizers.RMSprop)
    draft.optimizer = kinds[rng.integers(3)](10.0 ** rng.uniform(-3, -2))
    draft.arguments = {"epochs": 3, "batch_size": int(rng.choice([16, 32])), "verbose": 0}
    if rng.random() < 0.5:
        draft.arguments["validation_split"] = 0.2
    LOOKS[name](draft)
    keras.config.set_dtype_policy(draft.policy)
    try:
        hidden = inputs = keras.Input(draft.x.shape[1:])
        for make in draft.body:
            hidden = make()(hidden)
        outputs = layers.Dense(draft.units, draft.last, dtype="float32")(hidden)
        model = keras.Model(inputs, outputs)
    finally:
        keras.config.set_dtype_policy("float32")
    if draft.after is not None:
        draft.after(model)
    model.compile(draft.optimizer, draft.loss, **draft.settings)
    return name, model, draft.x, draft.y, draft.arguments
