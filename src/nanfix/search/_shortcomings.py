"""What a training with a fix, done to its end, lacks to be a repair."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from nanfix.changes.behind_outputs import BehindOutputs
from nanfix.changes.guards import Guards
from nanfix.changes.layers import LayerAttributes
from nanfix.changes.maps import Mixed
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.data.measured_targets import measured_targets
from nanfix.explain.incident import Incident
from nanfix.install.probing import loss_among
from nanfix.install.workbench import Workbench
from nanfix.model.running_statistics import faults
from nanfix.model.snapshot import Snapshot
from nanfix.recorder.outset import Outset
from nanfix.recorder.watch import Watched
from nanfix.records.cause import Cause
from nanfix.records.diagnosis import Diagnosis
from nanfix.search._own_losses import NOT_KNOWN, shortfall_by_itself, unscaled
from nanfix.search._reach import Reach, idle
from nanfix.search.judge import Judge
from nanfix.search.verdict import (
    Begun,
    directions,
    holds,
    looks,
    moved,
    same_for_all,
    short_of_the_mean,
    shortfall,
    unlearned,
    unmoved,
    untouched,
)

NAMED = 3  # weights that are told by their names
STILL = (
    "These weights have not moved at all: {}. Look at whether what the guarded operation gives for "
    "them is meant."
)
NOT_MOVED = "no weight has moved"
NO_LEAST = ", and below 0 it may fall for ever: nothing shows that the model has learned"

SLOW = (
    "The fix only treats what the run was given; the rest is slow. It ends no better than a "
    "constant prediction (loss {:.4g}, that of a constant {:.4g}): more epochs, a higher learning "
    "rate or targets of unit scale would show what it learns."
)
BOTTOMLESS = (
    "its loss has no lower bound, and nothing holds the weights: that it has fallen shows nothing"
)


def bottomless(diagnosis: Diagnosis, plan: Plan) -> str | None:
    """Return that the loss falls for as long as the weights grow, with a plan that leaves them to.
    Scaled data may give it a least value, and a crossentropy has one where no label is below 0 or
    no probability gets near 0.
    """
    if Cause.NO_LOWER_BOUND not in diagnosis.causes:
        return None
    attributes, rows = plan.of(LayerAttributes).attributes.values(), plan.of(RowFilter)
    outputs = plan.of(BehindOutputs).activations.values()
    held = any("max_norm_of_all" in each for each in attributes)
    floored = any(isinstance(each, Mixed) for each in outputs)
    return None if held or floored or rows.scaled or rows.shares else BOTTOMLESS


def unlearned_again(history: Mapping[str, Sequence[float]], begun: float | None) -> str | None:
    """Return that a training ends far above what it had come to in its first epoch, on the rows
    that it learns and on those that are held back; None where it does not.

    Args:
        begun: the loss of the untrained model.
    """
    courses = [history[name] for name in ("loss", "val_loss") if len(history.get(name, ())) > 1]
    unlearned = math.inf if begun is None else begun
    if not courses or any(holds(course[-1], course[0], unlearned) for course in courses):
        return None
    first, last = courses[-1][0], courses[-1][-1]
    return (
        f"it has unlearned again: its loss was {first:.4g} after one epoch, {last:.4g} at the end"
    )


@dataclass(frozen=True)
class Began:
    """Where a training with a fix began, the model that has learned nothing under it, and what its
    gradients were.
    """

    start: Snapshot
    untrained: Snapshot
    reach: Reach | None


class Shortcomings:
    """Looks at the user's model after a training with a fix: what it comes to, and what it lacks
    to be called repaired.
    """

    def __init__(self, run: Incident, bench: Workbench, judge: Judge):
        self._run, self._bench, self._judge = run, bench, judge

    def of(
        self,
        after: Watched,
        began: Began,
        begun: Begun,
        plan: Plan,
        diagnosis: Diagnosis,
        *,
        reached: float,
        of_data: bool,
    ) -> tuple[float, str | None, tuple[str, ...]]:
        """Return the loss of a training, what it lacks, None when that is nothing, and what rows
        held it back.

        Args:
            begun: what the untrained model comes to with the fix.
            reached: the loss that the user's own run had reached.
            of_data: whether the fix only treats what the run was given.
        """
        loss, figures = self._figures(after)
        lacking = self._lacking(loss, figures, began, begun, reached=reached, of_data=of_data)
        lacking = lacking or self._diverged(after) or self._bench.lacking(plan)
        lacking = lacking or bottomless(diagnosis, plan)
        # A callback may weigh the loss otherwise as it goes on, and what treats the data alone
        # leaves the training as the user has it.
        if not (self._run.failed.set_at or of_data):
            lacking = lacking or unlearned_again(after.history, begun.loss)
        # With targets, what it predicts of them is looked at, too.
        if self._bench.unjudged or not self._run.run.sample.targets:
            lacking = lacking or unscaled(self._run.run, diagnosis, plan)
        if lacking:
            return loss, lacking, ()
        lacking, held_back = idle(began.reach, plan, self._run.net)
        still = self._taught_in_vain(began) if plan.of(Guards).guards else []
        if still:
            more = f" and {len(still) - NAMED} more" if len(still) > NAMED else ""
            held_back = (*held_back, STILL.format(", ".join(still[:NAMED]) + more))
        constant = self._judge.baselines.constant
        if of_data and constant is not None and loss >= constant:
            held_back = (*held_back, SLOW.format(loss, constant))
        means = {} if of_data else self._judge.baselines.means
        lacking = lacking or short_of_the_mean(figures, means, begun)
        if lacking is None and not of_data and constant is None:
            lacking = self._whatever_the_targets(loss)
        return loss, lacking, held_back

    def _taught_in_vain(self, began: Began) -> list[str]:
        """Return the weights that have a gradient, but have not moved at all."""
        still, reach = unmoved(self._run.model, began.start), began.reach
        if not still or reach is None:
            return []
        looking = partial(reach.taught_in_vain, still)
        return self._run.net.attempt("looking at weights that stand still", looking, [])

    def _figures(self, after: Watched) -> tuple[float, dict[str, float]]:
        """Return the loss that the training came to, of validation where there is one, with all
        figures from which it is.
        """
        loss, figures = self._bench.validation()
        if self._bench.unjudged:
            losses = after.recorder.recording(steps=False).losses
            loss = losses[-1] if losses else 0.0  # no step logs a loss
        return loss, figures

    def _lacking(
        self,
        loss: float,
        figures: Mapping[str, float],
        began: Began,
        begun: Begun,
        *,
        reached: float,
        of_data: bool,
    ) -> str | None:
        """Return what the trained model, which comes to these figures, lacks to be a repair; None
        when that is nothing.
        """
        if not moved(self._run.model, began.start):
            return NOT_MOVED
        for layer, fault in faults(self._run.model):
            return f"layer {layer.name} cannot be used in inference ({fault})"
        if self._bench.unjudged:
            return self._run.net.attempt(
                "looking at its own losses",
                lambda: shortfall_by_itself(self._bench.insight().played(began.untrained)),
                NOT_KNOWN,
            )
        baselines = self._judge.baselines
        lacking = shortfall(
            loss,
            figures,
            baselines,
            begun=begun.loss,
            directions=directions(figures),
            reached=reached,
            of_data=of_data,
        )
        if lacking is not None:
            return lacking
        errors = [each.name for each in measured_targets(self._run.run) if each.degree]
        lost = [] if of_data else self._bench.row_by_row().lost_columns(errors)
        if lost:
            return f"their mean predicts better ({', '.join(lost)})"
        unknown = baselines.constant is None and not of_data  # of a loss of the user's own
        return self._same_for_all(loss, figures, begun, of_others=unknown)

    def _diverged(self, after: Watched) -> str | None:
        """Return that a finite training has diverged, if it has: then it is not repaired."""
        recording = after.recorder.recording(steps=False)
        begun = Outset.of(recording)
        diverged = begun and begun.diverged(recording, self._run.model)
        return diverged and diverged.sentence()

    def _whatever_the_targets(self, loss: float) -> str | None:
        """Return that the loss does not look at targets that vary, and has no least value that is
        known, if so.
        """
        rows = self._bench.row_by_row()
        if loss >= 0.0 or not rows.targets_vary:
            return None
        if looks(loss, map(loss_among, rows.dealt_out() + rows.all_alike())):
            return None
        return f"its loss is the same whatever its targets are ({loss:.4g}){NO_LEAST}"

    def _same_for_all(
        self, loss: float, figures: Mapping[str, float], begun: Begun, *, of_others: bool
    ) -> str | None:
        """Return that the trained model predicts nothing of its own for each row, or an output of
        it does not, if so; looked at with the targets `of_others`, if wanted.
        """
        rows = self._bench.row_by_row()
        if same := rows.lifeless():
            return f"it predicts the same for all rows ({', '.join(same)})"
        if still := untouched(figures, begun, self._judge.baselines.outputs):
            return still
        if not of_others:
            return None
        dealt, alike = rows.dealt_out(), rows.all_alike()
        if same_for_all(loss, *(map(loss_among, others) for others in (dealt, alike))):
            return f"it is no better than with the targets of other rows (loss {loss:.4g})"
        return unlearned(figures, begun, dealt, self._judge.baselines.outputs)
