"""Fold a scaling of inputs and outputs exactly into the weights of the first and last layers.

A layer that computes W x + b on scaled inputs (x - c) / s computes the same on raw ones
with W / s and b - W c / s; a last layer whose outputs are to be multiplied by s and
moved by c becomes W s and b s + c.
"""

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
from keras import layers

from nanfix.changes.maps import Affine, Power, TargetScaling
from nanfix.install.sites import RECURRENT, Site, Sites
from nanfix.model.snapshot import read


def foldable_inputs(sites: Sites, scaling: Mapping[str, Affine | Power]) -> list[str]:
    """Return the inputs whose scaling folds exactly.

    A layer that several inputs go into takes one scaling for all of them.
    """
    names = [name for name, change in scaling.items() if foldable_with(sites.inputs[name], change)]

    def shares_well(name: str) -> bool:
        own = {id(layer) for layer in sites.inputs[name].layers}
        others = (
            other
            for other, site in sites.inputs.items()
            if any(id(layer) in own for layer in site.layers)
        )
        return all(other in names and scaling[other] == scaling[name] for other in others)

    while not all(map(shares_well, names)):
        names = [name for name in names if shares_well(name)]
    return names


def fold_inputs(
    inputs: Mapping[str, Site], scaling: Mapping[str, Affine], undo: ExitStack
) -> list[layers.Layer]:
    """Fold the scaling of each input into the layers that take it, and return these.
    Every one has to be foldable.
    """
    into = {
        id(layer): (layer, change)
        for name, change in scaling.items()
        for layer in inputs[name].layers
    }
    for layer, change in into.values():
        _keep(layer, undo)
        _fold_into(layer, change)
    return [layer for layer, _ in into.values()]


def fold_output(site: Site, scaling: TargetScaling, undo: ExitStack) -> None:
    """Fold y = center + scale * f into the layer that gives an output, a foldable site."""
    (layer,) = site.layers
    _keep(layer, undo)
    center, scale, _ = scaling.factors
    layer.kernel.assign(layer.kernel * scale)
    layer.bias.assign(layer.bias * scale + center)


def _keep(layer: layers.Layer, undo: ExitStack) -> None:
    for variable in layer.variables:
        undo.callback(variable.assign, read(variable))


def foldable_with(site: Site, scaling: Affine | Power) -> bool:
    """Say whether this very scaling folds exactly: layers without bias or with zero padding take no
    shift, none a power.
    """
    if isinstance(scaling, Power):
        return False
    return site.foldable and all(_takes(layer, scaling) for layer in site.layers)


def _takes(layer: layers.Layer, scaling: Affine) -> bool:
    if isinstance(layer, layers.BatchNormalization):
        # What is below the epsilon of its variance goes into its gamma.
        return layer.scale or min(scaling.scale) >= 1
    return not any(scaling.center) or (
        layer.use_bias and getattr(layer, "padding", "valid") == "valid"
    )


def _fold_into(layer: layers.Layer, affine: Affine) -> None:
    if isinstance(layer, layers.BatchNormalization):
        _fold_into_statistics(layer, affine)
        return
    holder = layer.cell if isinstance(layer, RECURRENT) else layer
    kernel = np.asarray(holder.kernel, "float64")
    wide = affine.tiled(kernel.shape[-2])
    scaled = kernel / np.asarray(wide.scale)[:, None]
    if any(affine.center):
        shift = np.einsum("...io,i->...o", scaled, np.asarray(wide.center))
        shift = shift.reshape(-1, shift.shape[-1]).sum(axis=0)
        bias = np.asarray(holder.bias, "float64")
        # A GRU with reset_after keeps two biases; the input's is the first.
        moved = np.concatenate([bias[:1] - shift, bias[1:]]) if bias.ndim == 2 else bias - shift
        holder.bias.assign(moved.astype("float32"))
    holder.kernel.assign(scaled.astype("float32"))


def _fold_into_statistics(layer: layers.Layer, affine: Affine) -> None:
    """Fold into a batch normalization: what it subtracts and divides by are moved and
    stretched instead.

    It divides by the root of its variance and an epsilon; a feature so small that this alone is too
    much is stretched by gamma.
    """
    wide = affine.tiled(int(layer.moving_mean.shape[0]))
    center, scale = np.asarray(wide.center), np.asarray(wide.scale)
    wanted = scale**2 * (np.asarray(layer.moving_variance, "float64") + layer.epsilon)
    variance = np.maximum(wanted - layer.epsilon, 0.0)
    if layer.scale:
        layer.gamma.assign(
            (np.asarray(layer.gamma) * np.sqrt((variance + layer.epsilon) / wanted)).astype(
                "float32"
            )
        )
    layer.moving_mean.assign((center + scale * np.asarray(layer.moving_mean)).astype("float32"))
    layer.moving_variance.assign(variance.astype("float32"))
