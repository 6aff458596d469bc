"""The activations of layers: an argument of a layer with weights, or a layer of their
own. Loads nothing but numpy.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

    from nanfix.model.addresses import Member

NAMES = {
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "PReLU": "prelu",
    "Softmax": "softmax",
}
RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "silu", "relu6", "softplus", "mish", "celu")
SELF_NORMALIZING = ("selu",)
FAR_OUT, NEAR = 1e9, 1e3  # what goes in, and what a bounded activation makes of it at most


def is_activation(layer: object) -> bool:
    """Say whether a layer is one of Keras' that do nothing but compute an activation."""
    from keras import layers  # loads TensorFlow

    stock = (
        layers.Activation,
        layers.ELU,
        layers.LeakyReLU,
        layers.PReLU,
        layers.ReLU,
        layers.Softmax,
    )
    return isinstance(layer, stock)


def settable_activation(layer: "Member") -> bool:
    """Say whether the layer's activation is its own to change; a recurrent layer's
    belongs to its cell.
    """
    return is_activation(layer) or ("activation" in vars(layer) and callable(layer.activation))


def activation_name(layer: Any) -> str:
    """Return the name of a layer's activation as Keras spells it in an argument, also
    where it is given as a layer.
    """
    given = getattr(layer, "activation", layer)
    kind = type(given).__name__
    return getattr(given, "__name__", NAMES.get(kind, kind))


def activation_of(layer: Any) -> Callable[[Any], Any]:
    """Return the function that a layer's activation computes, whatever the layer is
    made to compute later.
    """
    return layer.activation if "activation" in vars(layer) else type(layer).call.__get__(layer)


def with_activations(
    members: "Sequence[tuple[str, Member]]", outer: Collection[str | None] = ()
) -> "list[tuple[str, keras.Layer]]":
    """Return what of (address, layer), in the order of the model, has an activation.

    A layer with weights whose outputs go on to an activation layer has none: that one has it. The
    outputs of those in `outer` go on to none.
    """
    found = []
    for index, (address, layer) in enumerate(members):
        linear = (
            settable_activation(layer)
            and not is_activation(layer)
            and activation_name(layer) == "linear"
        )
        goes_on = address not in outer and _next_activation(members[index + 1 :]) is not None
        if settable_activation(layer) and not (linear and goes_on):
            found.append((address, layer))
    return found


def activations_of_kernels(members: "Sequence[tuple[str, Member]]") -> list[tuple[str, str]]:
    """Return the address of every layer with a kernel, and the name of its activation, its own or
    that of a layer behind it.
    """
    found = []
    for index, (address, layer) in enumerate(members):
        if getattr(layer, "kernel", None) is None or not settable_activation(layer):
            continue
        following = (
            _next_activation(members[index + 1 :]) if activation_name(layer) == "linear" else None
        )
        found.append((address, activation_name(layer if following is None else following)))
    return found


def fitting_initializer(activation: str) -> str:
    """Return the name of the initializer whose kernels keep the scale of numbers in front of an
    activation: He's for rectifiers, LeCun's for SELU, else Glorot's.
    """
    if activation in RECTIFIERS:
        return "he_normal"
    return "lecun_normal" if activation in SELF_NORMALIZING else "glorot_uniform"


def change_activation(undo: ExitStack, layer: Any, function: Callable[[Any], Any]) -> None:
    """Let a layer compute another activation until `undo` is closed; an activation
    layer becomes Keras' general one.
    """
    import keras  # loads TensorFlow

    # A built layer takes no other layer as an attribute, and an activation may be one.
    if "activation" in vars(layer):
        undo.callback(vars(layer).__setitem__, "activation", layer.activation)
        vars(layer)["activation"] = function
        return
    kind = type(layer)

    def take_back() -> None:
        layer.__class__ = kind
        vars(layer).pop("activation", None)

    undo.callback(take_back)
    layer.__class__ = keras.layers.Activation
    vars(layer)["activation"] = function


def is_bounded(activation: Callable[[Any], Any]) -> bool:
    """Say whether what an activation gives stays small however large its input grows."""
    low, high = _reach(activation)
    return max(abs(low), abs(high)) < NEAR


def gives_shares(activation: Callable[[Any], Any]) -> bool:
    """Say whether what an activation gives lies within 0 and 1, however large its input grows."""
    low, high = _reach(activation)
    return low >= 0.0 and high <= 1.0


def _reach(activation: Callable[[Any], Any]) -> tuple[float, float]:
    """Return the least and the greatest that an activation gives for numbers far out."""
    import keras  # loads TensorFlow

    layer = getattr(activation, "__self__", activation)
    # Over axes that inputs of another shape may not have.
    if isinstance(layer, keras.layers.Softmax):
        return 0.0, 1.0
    ends = np.stack(
        [np.full(_shape_of_a_row(layer), end, "float32") for end in (-FAR_OUT, FAR_OUT)]
    )
    given = np.asarray(activation(ends))
    return float(given.min()), float(given.max())


def _shape_of_a_row(layer: Any) -> tuple[int, ...]:
    """Return the shape of what an activation takes for one row: a layer may have a
    weight for each number.
    """
    build = getattr(layer, "get_build_config", lambda: None)() or {}
    shape = build.get("input_shape") or (None, 2)
    return tuple(size or 1 for size in shape[1:])


def _next_activation(following: "Sequence[tuple[str, Member]]") -> "keras.Layer | None":
    """Return the activation layer that comes before any other layer with weights; None
    where there is none.
    """
    for _, layer in following:
        if is_activation(layer):
            return layer
        if settable_activation(layer) or getattr(layer, "kernel", None) is not None:
            return None
    return None
