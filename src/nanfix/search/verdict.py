"""Whether a training with a fix has learned: comparisons of figures on the validation data."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from nanfix.model.metrics import better_end
from nanfix.model.snapshot import Snapshot, read
from nanfix.recorder.recording import TIMES_THE_FIRST

if TYPE_CHECKING:
    import keras

LEARNED = 0.01  # a run has learned when it is better than the baselines by this share
ROUNDING = 1e-4  # share by which the order of the rows alone changes a loss
WORSE = 0.1  # an output or a metric that is worse than its baseline by this share is given up
GIVEN_BACK = 0.1  # of what the failed run had gained, what ends further back is worse than that


@dataclass(frozen=True)
class Baselines:
    """What a model reaches on the validation data that has learned nothing.

    `untrained` and `constant` are the losses of the untrained model and of predicting the best
    constant, None if unknown; `on_training_rows` is the untrained loss on rows that are trained on,
    among which single ones may be far off. `figures` are all that Keras reports of the untrained
    model, `constants` the losses of the best constant for each output, by the names in Keras' logs;
    `outputs` are those of several whose best constant is not known; `means` the losses of the mean
    of the targets, where the loss is the user's own. A run that had `overfitted` before it failed
    is asked for no less than so much: its loss may have risen above the others by itself.
    """

    untrained: float | None = None
    constant: float | None = None
    on_training_rows: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    overfitted: float = -math.inf
    means: Mapping[str, float] = field(default_factory=dict)

    @property
    def highest(self) -> float:
        """The loss to begin with, whatever the rows."""
        known = [loss for loss in (self.untrained, self.on_training_rows) if loss is not None]
        return max(known, default=math.inf)

    @property
    def constant_or_inf(self) -> float:
        """The loss of predicting the best constant; inf where that is not known."""
        return math.inf if self.constant is None else self.constant


@dataclass(frozen=True)
class Begun:
    """What the untrained model reaches under a fix: its loss, None if unknown, and all figures.

    `alike` are the figures with the targets of one row for all, once for each of a few rows; they
    are measured where the best constant of an output is not known.
    """

    loss: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    alike: Sequence[Mapping[str, float]] = ()


def better_than(baseline: float | None) -> float:
    """Return the loss that what has learned stays below, by a margin that noise does not make."""
    if baseline is None or not math.isfinite(baseline):
        return math.inf
    return baseline - LEARNED * abs(baseline)


def shortfall(
    loss: float,
    figures: Mapping[str, float],
    baselines: Baselines,
    *,
    begun: float | None,
    directions: Mapping[str, str],
    reached: float = math.inf,
    of_data: bool = False,
) -> str | None:
    """Return what a finite training lacks to be a repair; None when it lacks nothing.

    Args:
        loss: what the model came to on the validation data.
        figures: all that Keras reports of it there.
        begun: the loss of the untrained model under the same fix.
        directions: by the name of a metric "max" or "min", whichever is better.
        reached: the lowest loss of the run that failed, while it was good.
        of_data: whether the fix only treats data, or weights, that the run was given: then the
            training is the user's own, and may be as slow as that.
    """
    if not math.isfinite(loss):
        return "the loss on the validation data is not finite"
    for baseline, what in (
        (begun, "the untrained model"),
        (baselines.untrained, "the untrained model"),
        (None if of_data else baselines.constant, "a constant prediction"),
    ):
        highest = baseline if of_data and baseline is not None else better_than(baseline)
        highest = max(highest, baselines.overfitted)
        if loss >= highest:
            return f"it is no better than {what} (loss {loss:.4g}, that of {what} {baseline:.4g})"
    known = [each for each in (begun, baselines.untrained, baselines.constant) if each is not None]
    if not holds(loss, reached, min(known, default=math.inf)):
        return (
            f"it is worse than the run was before it failed (loss {loss:.4g}, that of the run "
            f"{reached:.4g})"
        )
    lost = None if of_data else _given_up(figures, baselines)
    return lost or _metrics_worse(figures, baselines.figures, directions)


def holds(loss: float, reached: float, unlearned: float = math.inf) -> bool:
    """Say whether a loss is as low as what the failed run had `reached`, apart from noise.

    That is a share of the loss or of what the run had gained over the loss of what has learned
    nothing, whichever is more: a loss that falls below 0 has no scale of its own. One that has run
    away, as where nothing bounds it from below, is none that was reached.
    """
    if math.isfinite(unlearned) and abs(reached) > TIMES_THE_FIRST * max(abs(unlearned), 1.0):
        return True
    gained = unlearned - reached if math.isfinite(unlearned) else 0.0
    return loss <= reached + GIVEN_BACK * max(abs(reached), gained)


def _given_up(figures: Mapping[str, float], baselines: Baselines) -> str | None:
    """Return which single output has become worse than a constant prediction of it, if one has."""
    for name, constant in baselines.constants.items():
        after = figures.get(name)
        if name != "loss" and after is not None and after > constant + WORSE * abs(constant):
            return (
                f"one output is worse than a constant prediction ({name} {after:.4g}, that of a "
                f"constant {constant:.4g})"
            )
    return None


def short_of_the_mean(
    figures: Mapping[str, float], means: Mapping[str, float], begun: Begun
) -> str | None:
    """Return which output has not even come halfway from the untrained model, `begun`, to what
    always predicting the mean of its targets reaches, if one has not.

    The mean is not the best constant under a loss of the user's own, but what has learned is better
    than any.
    """
    for name, mean in means.items():
        after, before = figures.get(name, math.nan), begun.figures.get(name, math.nan)
        way = before - mean if before > mean else WORSE * abs(mean)
        if after > mean + way / 2:
            what = "it is" if name == "loss" else "one output is"
            return (
                f"{what} worse than always predicting the mean of its targets, or the shares of "
                f"its classes ({name} {after:.4g}, that of such a constant {mean:.4g})"
            )
    return None


def _metrics_worse(
    figures: Mapping[str, float], before: Mapping[str, float], directions: Mapping[str, str]
) -> str | None:
    """Return that every metric became worse, where all of those that are known to have a better
    end have; a few rows of the validation data that fall out otherwise are no worsening.
    """
    known = [
        name
        for name in directions
        if all(math.isfinite(each.get(name, math.nan)) for each in (figures, before))
    ]
    signs = {"max": 1.0, "min": -1.0}
    gains = {name: signs[directions[name]] * (figures[name] - before[name]) for name in known}
    worse = [name for name in known if gains[name] < -WORSE * abs(before[name])]
    if known and len(worse) == len(known):
        words = ", ".join(f"{name} {before[name]:.4g} to {figures[name]:.4g}" for name in worse)
        return f"every metric is worse than before training ({words})"
    return None


def same_for_all(loss: float, dealt: Iterable[float], alike: Iterable[float]) -> bool:
    """Say whether a model predicts nothing of its own for each row.

    Its loss, a finite one, is on average as low when the targets are `dealt` out anew among the
    rows. A loss that is the same with the targets of one row for all, `alike`, does not look at
    them.
    """
    return looks(loss, alike) and _no_better(loss, dealt)


def untouched(figures: Mapping[str, float], begun: Begun, outputs: Iterable[str]) -> str | None:
    """Return which of the outputs has a loss that is what it was before training, if one has:
    nothing of it reaches the weights.
    """
    for name in outputs:
        loss, before = figures.get(name, math.nan), begun.figures.get(name, math.nan)
        if abs(loss - before) <= ROUNDING * abs(before):
            return f"one output has learned nothing ({name} {loss:.4g}, as before training)"
    return None


def unlearned(
    figures: Mapping[str, float],
    begun: Begun,
    dealt: Sequence[Mapping[str, float]],
    outputs: Iterable[str],
) -> str | None:
    """Return which of the outputs has learned nothing, if one has: its loss is no lower though it
    looked at the targets, and as low with the targets `dealt` out anew.
    """
    for name in outputs:
        loss, before = figures.get(name, math.nan), begun.figures.get(name, math.nan)
        if (
            loss >= better_than(before)
            and looks(before, [other[name] for other in begun.alike])
            and _no_better(loss, [other[name] for other in dealt])
        ):
            return (
                f"one output is no better than untrained, nor than with the targets of other rows "
                f"({name} {loss:.4g}, untrained {before:.4g})"
            )
    return None


def looks(loss: float, alike: Iterable[float]) -> bool:
    """Say whether a loss is another with the targets of other rows."""
    return any(not abs(other - loss) <= ROUNDING * abs(loss) for other in alike)


def _no_better(loss: float, dealt: Iterable[float]) -> bool:
    known = [other for other in dealt if math.isfinite(other)]
    return bool(known) and loss > better_than(sum(known) / len(known))


def the_same(gradient: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    """Say whether the gradients of different rows are the same number for number, as those are
    that no row reaches: 0, or that of a penalty on the weights.
    """
    return len(gradient) == len(other) and all(
        np.array_equal(one, another) for one, another in zip(gradient, other, strict=True)
    )


def directions(figures: Iterable[str]) -> dict[str, str]:
    """Return "max" or "min", whichever is better, for each metric whose name says so; losses are
    none.
    """
    names = [name for name in figures if name != "loss" and not name.endswith("_loss")]
    known = {name: better_end(name) for name in names}
    return {name: direction for name, direction in known.items() if direction is not None}


def moved(model: "keras.Model", start: Snapshot) -> bool:
    """Say whether a trainable weight is another than in the snapshot; also where the model has
    others by now.
    """
    values = start.held(model.trainable_variables)
    return any(_is_another(weight, values) for weight in model.trainable_variables)


def unmoved(model: "keras.Model", start: Snapshot) -> list[str]:
    """Return the trainable weights that are number for number what they are in the snapshot."""
    values, weights = start.held(model.trainable_variables), model.trainable_variables
    return [weight.path for weight in weights if not _is_another(weight, values)]


def _is_another(weight: "keras.Variable", values: Mapping[int, Any]) -> bool:
    known = id(weight) in values
    return not known or bool(tf.reduce_any(tf.not_equal(read(weight), values[id(weight)])))
