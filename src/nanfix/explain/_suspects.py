"""What is suspected of a failure by the look of it, each with the change that takes it away."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import keras
import numpy as np

from nanfix.changes.optimizer_memory import forget
from nanfix.explain._batch_changes import (
    drawn_in,
    input_moments,
    of_unit_scale,
    target_moments,
    with_known_inputs,
    with_known_targets,
)
from nanfix.explain._interventions import Intervention, constants_in_range
from nanfix.explain._rerunner import Course, Rerunner
from nanfix.explain._starts import assign, fitting_start
from nanfix.explain.audit import Audit
from nanfix.explain.codes import (
    each_code,
    fillings,
    in_words,
    target_codes,
    without_codes,
)
from nanfix.explain.growth import LARGE, is_steep
from nanfix.explain.oddities import (
    FEW,
    USUAL_DEVIATIONS,
    bands,
    outlying_share,
    usual,
)
from nanfix.model.activations import activation_name, activation_of, change_activation
from nanfix.model.run import Run, Sample, linear_throughout, unbounded_recurrences
from nanfix.model.snapshot import restore
from nanfix.recorder.recording import Recording
from nanfix.records.cause import Cause


@dataclass(frozen=True)
class Suspected:
    """What may be at fault by the look of it: data far out or far from unit scale, wide weights,
    constants of the optimizer.
    """

    run: Run
    audit: Audit
    wide: bool
    out_of_range: bool


def changes_for(
    rerunner: Rerunner, course: Course, suspected: Suspected
) -> dict[Cause, Intervention]:
    """Return for each cause that is suspected the change that takes it away, the smallest first."""
    run, audit = suspected.run, suspected.audit
    sample = usual(run.sample)
    changes: dict[Cause, Intervention] = {}
    known = without_codes(run.sample)
    outlying = outlying_share(known)
    if 0.0 < outlying <= FEW:
        band = bands(known, USUAL_DEVIATIONS)
        changes[Cause.OUTLIER] = Intervention(
            f"with the values of {outlying:.1%} of the rows drawn in", lambda b: drawn_in(b, band)
        )
    coded = target_codes(run.sample)
    if coded:
        median = float(np.nanmedian(np.concatenate([y.ravel() for y in sample.targets])))
        changes[Cause.CODED_TARGET] = Intervention(
            f"with usual targets in the place of {in_words(coded)}",
            lambda b: with_known_targets(b, coded, median),
        )
    if each_code(run.sample):
        changes[Cause.CODED_INPUT] = _without_codes_in_inputs(run.sample)
    if suspected.out_of_range:
        changes[Cause.OPTIMIZER_CONSTANT] = constants_in_range(run)
    sizes = {Cause.UNSCALED_INPUT: audit.input_scale, Cause.UNSCALED_TARGET: audit.target_scale}
    far = {cause for cause, size in sizes.items() if size is not None and size > LARGE}
    changes |= {cause: each for cause, each in scalings(suspected).items() if cause in far}
    if suspected.wide:
        restore(course.start)
        weights, shares = fitting_start(run)
        changes[Cause.BAD_INITIALIZATION] = Intervention(
            "with initial weights that let nothing grow",
            of_state=lambda: assign(weights),
            weights_shares=shares,
        )
    layers, activation = suspect_activations(run)
    if layers:
        cause = (
            Cause.UNSTABLE_RECURRENCE if unbounded_recurrences(run) else Cause.UNSTABLE_ACTIVATION
        )
        changes[cause] = Intervention(
            f"with {activation} in the place of {activation_name(layers[0])}",
            during=lambda undo: undo.enter_context(activated(layers, activation)),
        )
    if _remembers(rerunner.recording):
        changes[Cause.STALE_MOMENTS] = Intervention(
            "with a new optimizer", of_state=lambda: forget(rerunner.model)
        )
    return changes


def scalings(suspected: Suspected) -> dict[Cause, Intervention]:
    """Return what brings inputs and targets to unit scale, however large they are."""
    sample = usual(suspected.run.sample)
    changes: dict[Cause, Intervention] = {}
    if sample.measured:
        inputs = input_moments(sample)
        changes[Cause.UNSCALED_INPUT] = Intervention(
            "with inputs of unit scale", lambda b: of_unit_scale(b, inputs=inputs)
        )
    if suspected.audit.target_scale is not None:
        targets = target_moments(suspected.run, sample)
        changes[Cause.UNSCALED_TARGET] = Intervention(
            "with targets of unit scale", lambda b: of_unit_scale(b, targets=targets)
        )
    return changes


def _without_codes_in_inputs(sample: Sample) -> Intervention:
    """Return the change that puts usual numbers in the place of those that stand for a missing
    value.
    """
    filled = {sample.names.index(name): numbers for name, numbers in fillings(sample).items()}
    return Intervention(
        f"with usual inputs in the place of {in_words(each_code(sample))}",
        lambda b: with_known_inputs(b, filled),
    )


def _remembers(recording: Recording) -> bool:
    """Say whether the optimizer had taken steps before the run began."""
    values = zip(recording.initial.variables, recording.initial.tensors, strict=True)
    return any(
        np.asarray(tensor) > 0 for variable, tensor in values if variable.name == "iteration"
    )


def suspect_activations(run: Run) -> tuple[list[keras.Layer], str]:
    """Return the layers whose activation is a cause in itself, and what they should have.

    Unbounded in a recurrence; or none in any hidden layer, nor in the last one where the targets
    lie between 0 and 1.
    """
    recurrent = unbounded_recurrences(run)
    if recurrent:
        return recurrent, "tanh"
    steep = [layer for _, layer in run.hidden_activations if is_steep(activation_of(layer))]
    if steep:
        return steep, "relu"
    linear = linear_throughout(run)
    shares = all(
        array.size and np.nanmin(array) >= 0 and np.nanmax(array) <= 1
        for array in run.sample.targets
    )
    last = run.output_activation
    if linear and shares and last is not None and run.output_name == "linear":
        return [*linear, last[1]], "sigmoid"
    return linear, "sigmoid"


@contextmanager
def activated(layers: list[keras.Layer], activation: str) -> Iterator[None]:
    """Give layers another activation."""
    with ExitStack() as during:
        for layer in layers:
            change_activation(during, layer, keras.activations.get(activation))
        yield
