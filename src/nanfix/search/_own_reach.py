"""What the user's own run had reached before it failed, as a training with a fix is measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nanfix.changes.behind_outputs import BehindOutputs
from nanfix.changes.guards import Guards
from nanfix.changes.loss import Loss
from nanfix.changes.loss_weights import LossWeights
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.changes.scaling import Scaling
from nanfix.changes.target_mask import TargetMask
from nanfix.install.workbench import Workbench
from nanfix.model.logged_losses import loss_of, named_loss
from nanfix.model.snapshot import Snapshot

RISEN = 0.02  # of the lowest validation loss, what is no noise
# With these the training rows have a loss in other units.
OTHER_UNITS = (BehindOutputs, LossWeights, Scaling)


class OwnReach:
    """Knows the loss of the run in its best epoch, as its `history` tells, and in the last `good`
    state that was kept of it; that is measured once for each way to compute the loss.
    """

    def __init__(self, good: Snapshot, history: Mapping[str, Sequence[Any]], bench: Workbench):
        self._good, self._bench, self._history = good, bench, history
        trained, validated = _losses(history)
        self._best_epoch = min(validated or trained, default=math.inf)
        self._kept: dict[str, float] = {}

    def best(self, plan: Plan) -> float:
        """Return the lowest loss of the run while it was good, computed as under a plan; inf where
        none is known to be finite.
        """
        # Otherwise computed, what the epochs came to is another number.
        comparable = not self._bench.unjudged and _computes_the_same(_of_loss(plan))
        return min(self.kept(plan), self._best_epoch if comparable else math.inf)

    def kept(self, plan: Plan) -> float:
        """Return the loss in the last good state, computed with the loss and guards of a plan, on
        the rows and targets that it leaves; inf where that is not finite.
        """
        computed = _of_loss(plan)
        known = repr(computed)
        if known not in self._kept:
            with self._bench.prepared(computed, self._good):
                loss, _ = self._bench.validation()
            self._kept[known] = loss if math.isfinite(loss) else math.inf
        return self._kept[known]

    def overfits(self, plan: Plan, history: Mapping[str, Sequence[Any]]) -> bool:
        """Say whether the loss on the validation data had risen before the run failed, while that
        on the training rows fell, as it does in a training with a plan, of this `history`: then
        what the best epoch came to was given back by the run itself.
        """
        if not _computes_the_same(_of_loss(plan)) or plan.only(*OTHER_UNITS).changes:
            return False
        if overfitted(self._history) is None:
            return False
        after = _losses(history)[0]
        return bool(after) and after[-1] < min(_losses(self._history)[0])


def overfitted(history: Mapping[str, Sequence[Any]]) -> float | None:
    """Return the validation loss that a run has come to by overfitting: it has risen since its best
    epoch, and the loss on the training rows has fallen. None where it has not.
    """
    trained, validated = _losses(history)
    if len(validated) < 2 or len(trained) != len(validated):
        return None
    best = validated.index(min(validated))
    risen = validated[-1] > validated[best] + RISEN * abs(validated[best])
    return validated[-1] if risen and trained[-1] < trained[best] else None


def _of_loss(plan: Plan) -> Plan:
    return plan.only(Guards, Loss, RowFilter, TargetMask)


def _losses(history: Mapping[str, Sequence[Any]]) -> tuple[list[float], list[float]]:
    """Return the finite losses of the epochs, on the training rows and on the validation data."""
    validated = {n.removeprefix("val_"): s for n, s in history.items() if n.startswith("val_")}
    trained = {name: series for name, series in history.items() if not name.startswith("val_")}
    return _each(loss_of, trained), _each(named_loss, validated)


def _each(
    loss: Callable[[Mapping[str, float]], float | None], series: Mapping[str, Sequence[Any]]
) -> list[float]:
    epochs = min(map(len, series.values()), default=0)
    found = [loss({name: float(s[epoch]) for name, s in series.items()}) for epoch in range(epochs)]
    return [each for each in found if each is not None and math.isfinite(each)]


def _computes_the_same(computed: Plan) -> bool:
    """Say whether a finite loss is the same number under a plan: a guard without an epsilon changes
    what is not finite alone.
    """
    others = computed.only(Loss, RowFilter, TargetMask).changes
    return not others and all(guard.epsilon == 0.0 for guard in computed.of(Guards).guards)
