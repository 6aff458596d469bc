"""A training run as data: what the model is made of, what it is fed, and where the two meet."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from nanfix.changes.insertion import can_rebuild, container, has_own_names
from nanfix.changes.maps import Affine
from nanfix.data.arrays import NUMERIC, Leaf, flat_arrays, is_dense, last_axes, rows_in, unpacked
from nanfix.data.datasets import batch_size_of, batches_of
from nanfix.data.row_filter import unfilterable
from nanfix.data.training_data import TrainingData
from nanfix.explain._fitting_statistics import fitting_statistics
from nanfix.explain.codes import input_codes
from nanfix.install.folding import foldable_with
from nanfix.install.own_steps import inputs_in_step, trains_by_call
from nanfix.install.sites import (
    HALF,
    NO_CALL,
    NOT_CALLED,
    OTHERWISE,
    UNSEEN,
    Site,
    Sites,
    find_sites,
    fixed_batch,
    some_rows,
)
from nanfix.model.addresses import input_names, walk
from nanfix.model.learned_weights import learned
from nanfix.model.optimizers import rate_variables, trained_optimizers
from nanfix.model.outputs import end_names
from nanfix.model.quiet import quiet
from nanfix.model.randomness import preserved_randomness
from nanfix.model.refusals import REFUSED
from nanfix.model.run import Run, Sample, has_stock_step
from nanfix.model.schedules import takes_a_share
from nanfix.recorder.callbacks import user_callbacks
from nanfix.recorder.recording import SetAt

if TYPE_CHECKING:
    from nanfix.model.training_step import Batch

T = TypeVar("T")

WEIGHTED = (
    keras.layers.Dense,
    keras.layers.RNN,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
)
ANY = Affine((1.0,), (2.0,))  # a scaling as any other: what takes it takes all
FEW = 2  # rows that the model is run on to see where its inputs go


@quiet()
def describe(
    model: keras.Model,
    data: TrainingData,
    recorded: "list[Batch]",
    set_at: Sequence[SetAt] = (),
) -> tuple[Run, Sites]:
    """Return the run as data, and where its inputs and outputs meet the model's layers. The model
    is built if it was not.

    Args:
        set_at: when callbacks have set the model's own numbers.
    """
    x, y = data.sample(recorded)
    sizes = _batch_sizes(data, recorded)
    with preserved_randomness():
        sites, rows_at_once = _sites(model, x, sizes[0])
        batch = _batch_of_own_step(model, data, recorded)
        if batch is not None and not _known(trains_by_call, model, batch, instead=True):
            sites = sites.passed_by(_known(inputs_in_step, model, batch, instead={}))
    rebuildable = can_rebuild(model)
    sample = replace(
        _sample(model, data, recorded, (x, y), sites),
        batch_size=sizes[0],
        training_rows=sizes[1],
        rows_at_once=rows_at_once,
        passed_by=sites.unseen in (NO_CALL, NOT_CALLED),
        folds=tuple(_folds(sites, name) for name in input_names(model, x)),
        unfilterable=unfilterable(data, recorded)
        if rows_at_once is None
        else f"the model takes {rows_at_once} rows at once, no more and no fewer",
    )
    steps = data.training_part().steps_per_epoch()
    planned = None if steps is None else steps * data.epochs
    entries = {id(layer) for site in sites.inputs.values() for layer in site.layers}
    behind = tuple(address for address, layer in _normalizable(model) if id(layer) not in entries)
    named = {id(layer): address for address, layer in walk(model)}
    outer = sites.outer
    run = Run.of(
        model,
        sample,
        outputs=None if outer is None else tuple(named.get(id(layer)) for layer in outer),
        columns=tuple(
            tuple((named.get(id(layer)), width) for layer, width in output)
            for output in sites.columns
        ),
        output_keys=sites.keys,
        output_shapes=sites.shapes,
        normalizable=behind,
        rebuildable=rebuildable,
        ruined=fitting_statistics(model, sample),
        **of_weights(model),
        planned_steps=planned,
        rate_varies=bool(_schedulers(data)),
        class_weight=(data.arguments or {}).get("class_weight"),
        rate_is_set=_rate_is_set(model, data, set_at),
    )
    ends = _ends(run)
    scalable = _scalable(run, sites, takes=bool(ends) and sites.unseen is None)
    return replace(run, ends=ends, scalable_outputs=tuple(scalable)), sites


def of_weights(model: keras.Model) -> dict[str, frozenset[str]]:
    """Return the facts of a Run that its weights tell, as they are now."""
    members = dict(walk(model))
    zeroed = frozenset(address for address, layer in members.items() if _is_zeroed(layer))
    return {"zeroed": zeroed, "learned": learned(members)}


def _is_zeroed(layer: object) -> bool:
    kernel = getattr(layer, "kernel", None)
    return kernel is not None and not np.asarray(kernel).any()


def _schedulers(data: TrainingData) -> list[keras.callbacks.LearningRateScheduler]:
    callbacks = user_callbacks(data)
    return [c for c in callbacks if isinstance(c, keras.callbacks.LearningRateScheduler)]


def _rate_is_set(model: keras.Model, data: TrainingData, set_at: Sequence[SetAt]) -> bool:
    """Say whether a callback sets the learning rate, whatever it was before: one that is there for
    it, or one that was seen to.
    """
    schedulers, callbacks = _schedulers(data), user_callbacks(data)
    if not all(takes_a_share(each.schedule) for each in schedulers):
        return True
    if schedulers or any(isinstance(c, keras.callbacks.ReduceLROnPlateau) for c in callbacks):
        return False  # takes a share of what the rate was
    rates = set(map(id, rate_variables(trained_optimizers(model))))
    return any(id(variable) in rates for _, settings in set_at for variable, _ in settings)


def _ends(run: Run) -> tuple[str, ...]:
    """Return the names of the outputs behind which something can be computed: by layers that are
    put there or, where the model has a `call` of its own, around that.
    """
    names = end_names(run)
    takes = has_own_names(run.model) if run.rebuildable else len(names) == 1
    return names if takes else ()


def _scalable(run: Run, sites: Sites, *, takes: bool) -> Iterator[str]:
    """Yield the names of the outputs that can take up a scaling of their targets; the model `takes`
    it where something can be computed behind its outputs.
    """
    for index, (name, site) in enumerate(zip(end_names(run), sites.outputs, strict=False)):
        joined = index < len(sites.columns) and _joins_full_precision(sites.columns[index])
        if site.foldable or (takes and (site.layers or joined)):
            yield name


def _joins_full_precision(columns: Sequence[tuple[keras.Layer | None, int]]) -> bool:
    """Say whether an output is joined of the columns of several layers, all in full precision."""
    known = [layer for layer, _ in columns if layer is not None]
    return len(columns) > 1 and bool(known) and not any(e.compute_dtype in HALF for e in known)


def _sample(
    model: keras.Model,
    data: TrainingData,
    recorded: "list[Batch]",
    drawn: tuple[Any, Any],
    sites: Sites,
) -> Sample:
    """Return what was `drawn` of the data, x and y, with what can be done to each input: in front
    of a model that is called in training it can be scaled and filled, by layers or around its call.
    """
    x, y = drawn
    inputs, targets = tuple(flat_arrays(x)), tuple(flat_arrays(y))
    # Of targets that are ragged or sparse no number is shown.
    if not all(map(is_dense, tree.flatten(y))):
        targets = tuple(np.zeros((len(array), 0), bool) for array in targets)
    names = input_names(model, x)
    given = list(zip(names, inputs, _steady(tree.flatten(x), recorded), strict=True))
    quantities = tuple(
        name is not None
        and array.dtype.kind in NUMERIC
        and dense
        and _is_quantity(sites.inputs[name], array)
        for name, array, dense in given
    )
    scalable = tuple(
        quantity and name is not None and (sites.unseen is None or sites.foldable_alone(name))
        for quantity, name in zip(quantities, names, strict=True)
    )
    imputable = tuple(
        name is not None and array.dtype.kind == "f" and dense and sites.unseen is None
        for name, array, dense in given
    )
    whole = (
        tuple(tuple(flat_arrays(part)) for part in (data.x, data.y, data.sample_weight))
        if data.is_arrays
        else None
    )
    sample = Sample(
        inputs,
        targets,
        scalable=scalable,
        x=x,
        imputable=imputable,
        whole=whole,
        quantities=quantities,
        names=names,
        paths=tuple(tuple(path) for path, _ in tree.flatten_with_path(x)),
        target_names=frozenset(y) if isinstance(y, Mapping) else frozenset(),
        keep_zero=frozenset(name for name, site in sites.inputs.items() if site.keeps_zero),
        categories={n: s.fixed_columns for n, s in sites.inputs.items() if s.fixed_columns},
    )
    return replace(sample, codes=input_codes(sample.named(imputable), _masked(model)))


def _masked(model: keras.Model) -> set[float]:
    """Return the numbers by which Masking layers know what is missing."""
    layers = (layer for _, layer in walk(model))
    return {float(each.mask_value) for each in layers if isinstance(each, keras.layers.Masking)}


def _sites(model: keras.Model, x: Any, batch_size: int | None) -> tuple[Sites, int | None]:
    """Return where the inputs go, and how many rows the model takes at once, None where that is
    any number: a graph given as a matrix takes as many as it has nodes.

    Where the model refuses both a few rows and a batch, where they go is not known: a training step
    of the user's own may give `call` something else, and TensorFlow may refuse rows where XLA
    computes NaN.
    """
    fixed, refusal = fixed_batch(model), None
    first = fixed or FEW
    for rows in dict.fromkeys((first, batch_size or first)):
        try:
            seen = find_sites(model, some_rows(x, rows))
        except REFUSED as refused:
            refusal = refused
        else:
            return seen, fixed if refusal is None else rows
    if has_stock_step(model) and not isinstance(refusal, tf.errors.OpError):
        assert refusal is not None, "no number of rows was tried"
        raise refusal
    names = (name for name in input_names(model, x) if name is not None)
    return Sites(dict.fromkeys(names, Site(blocked=OTHERWISE)), unseen=OTHERWISE), None


def _batch_of_own_step(
    model: keras.Model, data: TrainingData, recorded: "Sequence[Batch]"
) -> "Batch | None":
    """Return a batch to look at a training step with that may pass the model's call by; None where
    none does, or no batch is at hand.
    """
    if has_stock_step(model) or model.run_eagerly:
        return None
    part = data.training_part()
    if part.is_arrays:
        size = batch_size_of(part)
        recorded = batches_of(part, range(min(size, rows_in(part.x) or 0)), size)
    return recorded[-1] if recorded else None


def _folds(sites: Sites, name: str | None) -> bool:
    """Say whether any scaling of an input folds into the layers of a step that passes the model's
    call by.
    """
    step = Sites(sites.in_step)
    return (
        name is not None
        and name in step.inputs
        and step.foldable_alone(name)
        and foldable_with(step.inputs[name], ANY)
    )


def _known(look: Callable[..., T], *given: Any, instead: T) -> T:
    """Return what a look at the user's step shows, and `instead` where it refuses."""
    try:
        return look(*given)
    except REFUSED:
        return instead


def _steady(leaves: Sequence[Leaf], recorded: "list[Batch]") -> list[bool]:
    """Say of each input whether it has a value in every cell, and as many features in
    each batch.
    """
    lengths = (
        last_axes(unpacked(batch)[0] for batch in recorded) if recorded else [set()] * len(leaves)
    )
    return [is_dense(leaf) and len(axes) < 2 for leaf, axes in zip(leaves, lengths, strict=True)]


def _is_quantity(site: Site, array: np.ndarray) -> bool:
    """Say whether numbers mean a quantity: the model computes with them, and looks up
    nothing by them.

    Where its use of them is not seen, whole numbers may be class indices, unless they
    are those of images.
    """
    if site.blocked in UNSEEN:
        return array.dtype.kind == "f" or array.dtype == np.uint8
    return not site.fixed and bool(site.layers or site.blocked)


def _normalizable(model: keras.Model) -> list[tuple[str, keras.Layer]]:
    """Return address and layer of the layers of weights, the first apart, that another
    layer can be put in front of.
    """
    weighted = [(address, layer) for address, layer in walk(model) if isinstance(layer, WEIGHTED)]
    return [
        (address, layer) for address, layer in weighted[1:] if container(model, layer) is not None
    ]


def _batch_sizes(data: TrainingData, recorded: "list[Batch]") -> tuple[int | None, int | None]:
    """Return the rows of a full batch, of a stream as far as recorded, and of all that is trained
    on, None for a stream.
    """
    if data.is_arrays:
        part = data.training_part()
        return batch_size_of(part), rows_in(part.x)
    return max(
        (rows for batch in recorded if (rows := rows_in(batch)) is not None), default=None
    ), None
