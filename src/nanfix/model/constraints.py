"""Which weights of a layer a constraint can hold, and by which argument."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

# What may hold for each kind of kernel; that of a DepthwiseConv2D is called "kernel", too.
KERNELS = {
    "kernel": ("kernel_constraint", "depthwise_constraint"),
    "recurrent_kernel": ("recurrent_constraint",),
    "depthwise_kernel": ("depthwise_constraint",),
    "pointwise_kernel": ("pointwise_constraint",),
}
OTHERS = ("bias", "gamma", "beta", "embeddings")


def kernels(layer: "keras.Layer") -> dict[str, str]:
    """Return the kernels that a layer has, each with the name of its constraint, where
    that can be set.
    """
    by_address = {
        name: arguments
        for name, arguments in KERNELS.items()
        if getattr(layer, name, None) is not None
    }
    found = {
        name: next((a for a in arguments if hasattr(layer, a)), None)
        for name, arguments in by_address.items()
    }
    return {name: argument for name, argument in found.items() if argument is not None}


def held_by_constraints(layer: "keras.Layer") -> dict[str, str]:
    """Return all weights of its own that a constraint of the layer can hold, each with the name of
    that: kernels, biases, gains and embeddings.
    """
    others = {
        name: argument
        for name, argument in ((each, f"{each}_constraint") for each in OTHERS)
        if getattr(layer, name, None) is not None and hasattr(layer, argument)
    }
    return {**kernels(layer), **others}
