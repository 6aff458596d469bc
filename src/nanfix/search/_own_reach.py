"""What the user's own run had reached before it failed, as a training with a fix is measured."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nanfix.changes.guards import Guards
from nanfix.changes.loss import Loss
from nanfix.changes.plan import Plan
from nanfix.changes.rows import RowFilter
from nanfix.changes.target_mask import TargetMask
from nanfix.install.workbench import Workbench
from nanfix.model.logged_losses import loss_of, named_loss
from nanfix.model.snapshot import Snapshot


class OwnReach:
    """Knows the loss of the run in its best epoch, as its `history` tells, and in the last `good`
    state that was kept of it; that is measured once for each way to compute the loss.
    """

    def __init__(self, good: Snapshot, history: Mapping[str, Sequence[Any]], bench: Workbench):
        self._good, self._bench = good, bench
        self._best_epoch = _lowest(history)
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


def _of_loss(plan: Plan) -> Plan:
    return plan.only(Guards, Loss, RowFilter, TargetMask)


def _lowest(history: Mapping[str, Sequence[Any]]) -> float:
    """Return the lowest loss of an epoch, of validation where there was any; inf where none was
    finite.
    """
    finite = {
        name: [float(number) for number in series if math.isfinite(number)]
        for name, series in history.items()
    }
    lowest = {name: min(series) for name, series in finite.items() if series}
    validated = {n.removeprefix("val_"): loss for n, loss in lowest.items() if n.startswith("val_")}
    trained = {name: loss for name, loss in lowest.items() if not name.startswith("val_")}
    loss = named_loss(validated) if validated else loss_of(trained)
    return math.inf if loss is None else loss


def _computes_the_same(computed: Plan) -> bool:
    """Say whether a finite loss is the same number under a plan: a guard without an epsilon changes
    what is not finite alone.
    """
    others = computed.only(Loss, RowFilter, TargetMask).changes
    return not others and all(guard.epsilon == 0.0 for guard in computed.of(Guards).guards)
