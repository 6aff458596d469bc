"""Refuse what cannot be trained, before anything is changed."""

from typing import Any

import keras

from nanfix.errors import InputError


def check_model(model: Any) -> None:
    """Raise InputError for what is not a compiled Keras model."""
    if not isinstance(model, keras.Model):
        raise InputError(
            "nanfix.fit trains Keras models. Expected: a keras.Model. "
            f"Received: {type(model).__module__}.{type(model).__name__}. "
            "Models of the legacy package tf_keras have to be made with keras."
        )
    if not model.compiled:
        raise InputError(
            "The model is not compiled. Expected: a compiled model. Received: one without optimizer and loss. "
            "Call model.compile first."
        )


def check_memory(memory_bytes: int | None) -> None:
    """Raise InputError for a limit that leaves no memory."""
    if memory_bytes is not None and memory_bytes <= 0:
        raise InputError(
            f"The flight recorder needs memory. Expected: memory_bytes > 0, or None for a tenth of what is free. "
            f"Received: memory_bytes={memory_bytes}. Leave it out, or allow some."
        )
