"""Initial weights: drawn anew by another initializer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nanfix.changes.change import Change
from nanfix.changes.scaling import Scaling
from nanfix.model.outputs import end_names

if TYPE_CHECKING:
    import keras

    from nanfix.changes.plan import Plan
    from nanfix.model.run import Run


# What Keras' initializers give to VarianceScaling, its own values left out.
VARIANCES: Mapping[str, tuple[Any, ...]] = {
    "glorot_uniform": (1.0, "'fan_avg'", "'uniform'"),
    "he_normal": (2.0,),
    "lecun_normal": (1.0,),
}


@dataclass(frozen=True)
class InitialWeights(Change):
    """Draw the kernels of layers, by address, with another initializer; recurrent kernels
    orthogonal. Kernels with one of the `shares` are so large a share of what is drawn, 0 being none
    of it. Biases are 0, or these `biases` where the targets of the output are not scaled.
    """

    initializers: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    biases: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    kind: ClassVar[str] = "initial weights"
    order: ClassVar[int] = 15

    @property
    def addresses(self):
        return frozenset(self.initializers)

    def graph_key(self, shop):
        return None

    def install(self, shop, plan):
        biases = self._biases(shop.run, plan)
        for number, address in enumerate(shop.layers):
            if address in self.initializers:
                layer, share = shop.layers[address], self.shares.get(address, 1.0)
                draw(layer, self.initializers[address], share, shop.seed + number)
                if address in biases:
                    layer.bias.assign(np.asarray(biases[address], "float32"))

    def in_source(self, run, plan, call):
        from nanfix.changes.layer_source import arguments_of_layers

        biases = self._biases(run, plan)
        arguments = {
            address: _arguments(
                kind, self.shares.get(address, 1.0), biases.get(address), run.members[address]
            )
            for address, kind in self.initializers.items()
        }
        yield from arguments_of_layers(run, call, arguments)

    def _biases(self, run: "Run", plan: "Plan") -> dict[str, tuple[float, ...]]:
        """Return the biases of outputs whose targets are not scaled; those that are have a mean of
        0.
        """
        places = dict(zip(end_names(run), run.outputs or (), strict=False))
        scaled = {places.get(name) for name in plan.of(Scaling).targets}
        return {address: each for address, each in self.biases.items() if address not in scaled}


def draw(layer: "keras.Layer", initializer: str, share: float, seed: int) -> None:
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


def _arguments(
    initializer: str, share: float, biases: tuple[float, ...] | None, layer: "keras.Layer"
) -> dict[str, str]:
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
    if biases is not None:
        written["bias_initializer"] = constant_initializer(biases)
    if share == 1.0:
        return written
    smaller = {"kernel_initializer": smaller_initializer(initializer, share)}
    if hasattr(layer, "recurrent_initializer") and share:
        smaller["recurrent_initializer"] = f"keras.initializers.Orthogonal({share:.3g})"
    return {**written, **smaller}


def smaller_initializer(name: str, share: float) -> str:
    """Return, as source, what draws kernels a share as large as the initializer of that name."""
    if not share:
        return "'zeros'"
    scale, *how = VARIANCES[name]
    return f"keras.initializers.VarianceScaling({', '.join([f'{scale * share**2:.3g}', *how])})"


def constant_initializer(biases: tuple[float, ...]) -> str:
    """Return, as source, what begins a bias with these numbers."""
    numbers = ", ".join(f"{number:.4g}" for number in biases)
    return f"keras.initializers.Constant({numbers if len(biases) == 1 else f'[{numbers}]'})"
