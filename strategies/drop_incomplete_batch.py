"""Leave out what does not fill a batch, over whose single row nothing has a variance."""

from nanfix.changes.rows import RowFilter
from nanfix.records.cause import Cause
from nanfix.remedies.strategy import Strategy, Tier


class DropIncompleteBatch(Strategy):
    """Train on batches of b rows only: of n rows the n mod b that would be left over are not used.

    Of arrays the last rows are left out, of a stream every batch that is not full; validation keeps
    all of its rows. Tried when the step that failed had a batch of a single row, as a layer that
    divides by b - 1 fails on it, or of none: then only empty batches are left out. Does not help
    when full batches fail too, nor such a layer when it predicts a single row.

    Reference: Ioffe & Szegedy (2015), arXiv:1502.03167, section 3;
    tf.data.Dataset.batch(drop_remainder=True).
    """

    name = "drop-incomplete-batch"
    tier = Tier.DATA
    treats = frozenset(
        {
            Cause.BATCH_STATISTICS,
            Cause.EMPTY_REDUCTION,
            Cause.LAYER_DOMAIN,
            Cause.STEP_DOMAIN,
            Cause.LOSS_DOMAIN,
            Cause.GRADIENT_SINGULARITY,
        }
    )
    discards_data = True
    reference = (
        "Ioffe & Szegedy (2015), arXiv:1502.03167; tf.data.Dataset.batch(drop_remainder=True)"
    )

    def refusal(self, diagnosis, run, plan):
        if run.sample.unfilterable:
            return run.sample.unfilterable
        if plan.of(RowFilter).batch_rows is not None:
            return "batches are full already"
        if diagnosis.batch_rows is None or diagnosis.batch_rows > 1:
            return "the batch that failed had more than a single row"
        if diagnosis.batch_rows == 1 and (run.sample.batch_size or 1) == 1:
            return "every batch has a single row"
        return None

    def space(self, hp, diagnosis, run, plan):
        size, rows = run.sample.batch_size or 1, run.sample.training_rows
        if not diagnosis.batch_rows:  # nothing but what is empty is at fault
            return {"batch_rows": 1, "rows": None}
        return {
            "batch_rows": size,
            "rows": None if rows is None else list(range(rows - rows % size, rows)),
        }

    def apply(self, run, plan, *, batch_rows, rows):
        # Which rows is decided anew on the data at hand; the numbers are for whoever reads the fix.
        return plan.with_change(RowFilter(batch_rows=batch_rows))

    def explain(self, params):
        if params["batch_rows"] == 1:
            return "Leave out the batches that have no row."
        which = f" ({_listed(params['rows'])})" if params["rows"] else ""
        return f"Leave out the rows that do not fill a batch of {params['batch_rows']}{which}."

    def snippet(self, params):
        if params["batch_rows"] == 1:
            return "batches = (batch for batch in batches if len(batch[0]))"
        return f"whole = len(X) - len(X) % {params['batch_rows']}\nX, y = X[:whole], y[:whole]"


def _listed(rows: list[int]) -> str:
    return f"row {rows[0]}" if len(rows) == 1 else f"rows {rows[0]} to {rows[-1]}"
