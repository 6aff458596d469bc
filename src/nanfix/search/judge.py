"""Judge candidate fixes of a failed run: train each as a probe, and compare it with a model that
has learned nothing.
"""

import math
import time
from dataclasses import replace

from keras import tree

from nanfix.changes.behind_outputs import BehindOutputs
from nanfix.changes.guards import Guards
from nanfix.changes.loss import Loss
from nanfix.changes.optimizer import OptimizerSettings
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.changes.target_mask import TargetMask
from nanfix.data.constant_prediction import constant_losses, mean_losses
from nanfix.data.row_filter import judged, kept_sample
from nanfix.data.streamed_targets import with_targets
from nanfix.explain.failed_run import FailedRun
from nanfix.install.probing import Original, loss_among
from nanfix.install.workbench import Workbench
from nanfix.model.faults import Net, is_refusal, one_line
from nanfix.model.outputs import trained_outputs
from nanfix.model.snapshot import Snapshot
from nanfix.records.errors import NothingLeftError
from nanfix.remedies.fix import Fix
from nanfix.report.trial import TrialRecord
from nanfix.search._own_losses import against_each_other, has_grown, share_idle
from nanfix.search.verdict import Baselines, Begun

WHOLE = 120  # a probe trains this many steps, or as many as the run has
SHARE = 0.04  # or this share of a long run
NOTHING_LEFT = "no rows left"
LOST = 100.0  # times the untrained loss, a probe has diverged


def measure_baselines(failed: FailedRun, bench: Workbench, data_fix: Fix) -> Baselines:
    """Measure the baselines on data in which a change to the data, if one is called
    for, is made already.
    """
    plan = data_fix.plan(failed.run)
    bench.prepare(plan, failed.snapshots[0])
    untrained, figures = bench.validation()
    on_training_rows = loss_among(bench.figures_on(failed.training_rows))
    rows = plan.of(RowFilter)
    kept, mask = kept_sample(failed.run.sample, rows), plan.of(TargetMask)
    kept = replace(failed.run, sample=replace(kept, targets=tuple(map(mask.holes, kept.targets))))
    validation = with_targets(judged(failed.validation, rows))
    if mask != TargetMask() and validation.is_arrays:
        validation = replace(validation, y=tree.map_structure(mask.holes, validation.y))
    constants = constant_losses(kept, validation)
    outputs = trained_outputs(failed.run)
    constants, means = (
        {name: loss for name, loss in each.items() if name in {"loss", *outputs}}
        for each in (constants, mean_losses(kept, validation))
    )
    return Baselines(
        _known(untrained),
        constants.get("loss"),
        _known(on_training_rows),
        figures=figures,
        constants=constants,
        means=means,
        outputs=tuple(name for name in outputs if name in figures and name not in constants),
    )


class Judge:
    """Trains candidates as probes on a workbench."""

    def __init__(
        self,
        failed: FailedRun,
        bench: Workbench,
        baselines: Baselines,
        base_fix: Fix | None = None,
        net: Net | None = None,
    ):
        self._failed, self._bench, self.baselines = failed, bench, baselines
        self._base_fix = base_fix or Fix()
        self._begun: dict[str, Begun] = {}  # by what a plan says of the loss
        self._net = net or Net()

    def __call__(self, fix: Fix, seed: int = 0, horizon: float = 1.0) -> TrialRecord:
        """Train `fix` on top of the base fix for `horizon` times the usual length.

        Another `seed` draws new weights where the fix draws any, other masks of dropout, and other
        batches. A fix that TensorFlow refuses to compute, or nanfix fails to install, is "refused".
        """
        fix = Fix((*self._base_fix.edits, *fix.edits))
        begun = time.perf_counter()
        try:
            return self._probed(fix, seed, horizon)
        except Exception as error:
            if self._net.is_users_own(error):
                raise
            if not is_refusal(error):
                self._net.kept(f"trying {' + '.join(edit.strategy for edit in fix.edits)}", error)
            return TrialRecord(
                fix.edits, "", 0, None, "refused", time.perf_counter() - begun, one_line(error)
            )
        finally:
            self._bench.take_back()  # a trial that was broken off has not, and the next one looks

    def _probed(self, fix: Fix, seed: int, horizon: float) -> TrialRecord:
        plan = fix.plan(self._failed.run)
        start = beginning(self._failed, self.baselines, plan)
        self._failed.data.rewind(start.total)
        lost = LOST * self.baselines.highest
        came_from = "initial weights" if start.total == 0 else f"epoch {start.epoch}"
        try:
            probe = self._bench.probe(
                plan,
                start,
                self._steps(plan, start, horizon),
                self._failed.seed,
                variation=seed,
                lost=lost,
                original=Original(self._failed.snapshots[0], self._failed.set_at),
            )
        except NothingLeftError:
            return TrialRecord(fix.edits, came_from, 0, None, NOTHING_LEFT, 0.0)
        loss, verdict = probe.loss, "non-finite" if probe.loss is None else "works"
        begun = self.begun(plan).loss
        if loss is not None and begun is not None and loss >= max(begun, self.baselines.overfitted):
            verdict = "not learning"
        if loss is not None and probe.played is not None and against_each_other(probe.played):
            loss = share_idle(probe.played)
            verdict = "not learning" if has_grown(probe.played) else "works"
        return TrialRecord(fix.edits, came_from, probe.steps, loss, verdict, probe.seconds)

    def begun(self, plan: Plan) -> Begun:
        """Return what the untrained model reaches under a plan.

        A guard caps the loss, as a floor under the outputs does, and another loss is on another
        scale: what is no better than that has learned nothing. Other changes leave it as it is
        without them, or are made to learn.
        """
        computes = (Guards, Loss, BehindOutputs)
        if not plan.only(*computes).changes and not self.baselines.outputs:
            return Begun(self.baselines.untrained, self.baselines.figures)
        computed = plan.only(*computes, RowFilter)
        known = repr(computed)
        if known not in self._begun:
            with self._bench.prepared(computed, self._failed.snapshots[0]):
                loss, figures = self._bench.validation()
                alike = self._bench.row_by_row().all_alike() if self.baselines.outputs else []
            self._begun[known] = Begun(_known(loss), figures, alike)
        return self._begun[known]

    def _steps(self, plan: Plan, start: Snapshot, horizon: float) -> int:
        """Return how long a probe trains: past the onset with margin, and a bounded
        share of the run.
        """
        detected = self._failed.steps - start.total + (plan.of(OptimizerSettings).warm_up or 0)
        planned = (self._failed.steps_per_epoch or 100) * (self._failed.data.epochs - start.epoch)
        usual = max(
            min(planned, math.ceil(1.5 * detected) + 8),
            min(max(WHOLE, int(SHARE * planned)), max(planned // 2, 30)),
        )
        return min(math.ceil(horizon * usual), max(planned, usual))


def beginning(failed: FailedRun, baselines: Baselines, plan: Plan) -> Snapshot:
    """Return the snapshot to train with `plan` from: the best epoch before the failure,
    or the initial weights.
    """
    initial, losses = failed.snapshots[0], failed.epoch_losses
    if not plan.keeps_weights:
        return initial
    begins = {s.epoch: s for s in failed.snapshots if s.total and s.step == 0}
    judged = {
        epoch: losses[epoch - 1]
        for epoch in begins
        if math.isfinite(losses.get(epoch - 1, math.nan))
    }
    judged = {
        epoch: loss
        for epoch, loss in judged.items()
        if baselines.untrained is None or loss < baselines.untrained
    }
    if not judged:
        return initial
    best = min(judged.values())
    return begins[max(epoch for epoch, loss in judged.items() if loss <= best + 0.1 * abs(best))]


def _known(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None
