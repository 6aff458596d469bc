"""Which targets are measured values, whose scale is one of several that would do."""

from dataclasses import dataclass

import numpy as np

from nanfix.data.arrays import NUMERIC
from nanfix.model.crossentropies import UserLoss, crossentropy_of, loss_name
from nanfix.model.outputs import OUTPUT, in_order, output_names, outputs_of
from nanfix.model.run import Run

# With which power of the error the losses grow that are such a power, at least of a great error.
DEGREES = {"mean_squared_error": 2, "mean_absolute_error": 1, "huber": 1, "log_cosh": 1}
COUNTS = "poisson"  # a loss of counts, which no scale may change


@dataclass(frozen=True)
class MeasuredTarget:
    """Targets that are measured values: the name of their output (`end_names`), their index among
    the targets of the sample, and their loss.
    """

    name: str
    index: int
    loss: UserLoss

    @property
    def degree(self) -> int | None:
        """With which power of the error the loss grows; None where it is no such power."""
        return DEGREES.get(loss_name(self.loss))


def measured_targets(run: Run) -> list[MeasuredTarget]:
    """Return the targets that are measured values rather than classes or counts; of several, those
    whose losses can be kept apart.
    """
    arrays = run.sample.targets
    return [each for each in _given(run) if _is_measured(each.loss, arrays[each.index])]


def _given(run: Run) -> list[MeasuredTarget]:
    count = len(run.sample.targets)
    if count == 1:
        return [MeasuredTarget(OUTPUT, 0, run.user_loss)]
    outputs, names = list(outputs_of(run)), output_names(run)
    if not len(outputs) == len(names) == count:
        return []
    places = in_order(list(range(count)), run.sample.target_names, names)
    given = zip(names, places, outputs, strict=True)
    return [MeasuredTarget(name, place, output.loss) for name, place, output in given]


def _is_measured(loss: UserLoss, array: np.ndarray) -> bool:
    # Keras hands integers to a loss as floats. What else reads them may take them for classes.
    kinds = "f" if loss is None else NUMERIC
    counted = crossentropy_of(loss) is not None or loss_name(loss) == COUNTS
    return not counted and array.dtype.kind in kinds
