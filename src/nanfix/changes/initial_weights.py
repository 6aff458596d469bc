"""Initial weights: drawn anew by another initializer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nanfix.changes.change import Change

if TYPE_CHECKING:
    import keras


# What Keras' initializers give to VarianceScaling, its own values left out.
VARIANCES: Mapping[str, tuple[Any, ...]] = {
    "glorot_uniform": (1.0, "'fan_avg'", "'uniform'"),
    "he_normal": (2.0,),
    "lecun_normal": (1.0,),
}


@dataclass(frozen=True)
class InitialWeights(Change):
    """Draw the kernels of layers, by address, with another initializer; recurrent kernels
    orthogonal, biases 0. All kernels are a `share` as large as they are drawn.
    """

    initializers: Mapping[str, str] = field(default_factory=dict)
    share: float = 1.0
    kind: ClassVar[str] = "initial weights"
    order: ClassVar[int] = 15

    @property
    def addresses(self):
        return frozenset(self.initializers)

    def graph_key(self, shop):
        return None

    def install(self, shop, plan):
        for number, address in enumerate(shop.layers):
            if address in self.initializers:
                initializer = self.initializers[address]
                _draw(shop.layers[address], initializer, self.share, shop.seed + number)

    def in_source(self, run, plan, call):
        from nanfix.changes.layer_source import arguments_of_layers

        arguments = {
            address: _arguments(kind, self.share, run.members[address])
            for address, kind in self.initializers.items()
        }
        yield from arguments_of_layers(run, call, arguments)


def _draw(layer: "keras.Layer", initializer: str, share: float, seed: int) -> None:
    """Draw new kernels for a layer and set its biases to zero."""
    import keras  # loads TensorFlow

    from nanfix.model.constraints import KERNELS

    for name in KERNELS:
        kernel = getattr(layer, name, None)
        if kernel is not None:
            chosen = "orthogonal" if name == "recurrent_kernel" else initializer
            kind: Any = type(keras.initializers.get(chosen))
            make = kind(seed=seed)
            kernel.assign(share * make(kernel.shape, dtype=kernel.dtype))
    if getattr(layer, "bias", None) is not None:
        layer.bias.assign(np.zeros(layer.bias.shape))


def _arguments(initializer: str, share: float, layer: "keras.Layer") -> dict[str, str]:
    """Return the arguments, as source, with which a layer draws such initial weights,
    where it does not yet.
    """
    import keras  # loads TensorFlow

    wanted = {
        "kernel_initializer": initializer,
        "recurrent_initializer": "orthogonal",
        "bias_initializer": "zeros",
    }
    written = {
        name: repr(kind)
        for name, kind in wanted.items()
        if hasattr(layer, name)
        and type(getattr(layer, name)) is not type(keras.initializers.get(kind))
    }
    if share == 1.0:
        return written
    smaller = {"kernel_initializer": smaller_initializer(initializer, share)}
    if hasattr(layer, "recurrent_initializer"):
        smaller["recurrent_initializer"] = f"keras.initializers.Orthogonal({share:.3g})"
    return {**written, **smaller}


def smaller_initializer(name: str, share: float) -> str:
    """Return, as source, what draws kernels a share as large as the initializer of that name."""
    scale, *how = VARIANCES[name]
    return f"keras.initializers.VarianceScaling({', '.join([f'{scale * share**2:.3g}', *how])})"
