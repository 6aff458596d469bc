"""`%%nanfix` over a cell of a notebook: every `model.fit` in it is `nanfix.fit`, and its reports
are shown below the cell. TensorFlow is loaded when the first such cell runs.
"""

from types import FrameType
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import no_var_expand
from IPython.display import display

from nanfix.model.user_code import is_own
from nanfix.records.errors import InputError
from nanfix.records.plurals import counted
from nanfix.scripts._own_fit import KerasFit, history_of, keras_own_fit
from nanfix.scripts._watched_fit import Apart, is_watched, watch_fit

if TYPE_CHECKING:
    from keras import Model
    from keras.callbacks import History

    from nanfix.report.report import Report

REPORTS = "nanfix_reports"
NO_FIT = "nanfix: no call of model.fit was seen in this cell."


class CellFailed(Exception):
    """The cell has raised an error, which was shown; no cell behind it is run."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def register(shell: InteractiveShell) -> None:
    """Make `%%nanfix` known to a shell."""

    @no_var_expand
    def nanfix(line: str, cell: str) -> None:
        """Run the cell; each model.fit in it is nanfix.fit. The arguments of nanfix.fit may stand
        behind the magic: `%%nanfix seed=1, forbid=["clip-gradients"]`.
        """
        _run(shell, cell, eval(f"dict({line})", shell.user_global_ns, shell.user_ns))

    # IPython declares this method in a way that pyright takes for a plain function.
    shell.register_magic_function(nanfix, "cell")  # type: ignore[arg-type, call-arg]


def _run(shell: InteractiveShell, cell: str, settings: dict[str, Any]) -> None:
    import keras

    original = keras.Model.fit
    if is_watched(keras):  # by `nanfix repair`, as all of the notebook
        result = shell.run_cell(cell)
    else:
        reports: list[Report] = []
        _watch(settings, reports)
        try:
            result = shell.run_cell(cell)
        finally:
            keras.Model.fit = original
        _show(reports)
        shell.push({REPORTS: reports})
        if not reports and result.success:
            print(NO_FIT)
    error = result.error_before_exec or result.error_in_exec
    if error is not None:
        raise CellFailed("nanfix: the cell ended with the error above.") from error


def _watch(settings: dict[str, Any], reports: "list[Report]") -> None:
    """Let `model.fit` be `nanfix.fit` from now on; add what it reports."""
    import keras

    from nanfix.api.fit import fit
    from nanfix.report.report import Outcome

    apart = Apart()

    def trained(
        model: "Model", original: KerasFit, arguments: dict[str, Any], frame: FrameType
    ) -> "History":
        if is_own(frame.f_code.co_filename):  # the cell calls nanfix.fit itself
            return original(model, **arguments)
        try:
            with keras_own_fit(model, original, apart):
                report = fit(model, throw=False, **settings, **arguments)
        except InputError as refusal:
            if settings:  # it may be one of them that is refused
                raise
            print(f"nanfix: {refusal}")
            return original(model, **arguments)  # fails, or trains, just as without nanfix
        reports.append(report)
        if report.outcome is Outcome.INTERRUPTED:
            raise KeyboardInterrupt
        return history_of(model, report)

    watch_fit(keras, trained, apart)


def _show(reports: "list[Report]") -> None:
    """Show each report that has something to say, and sum up the others."""
    from nanfix.report.report import Outcome

    healthy = [report for report in reports if report.outcome is Outcome.HEALTHY]
    for report in reports:
        if report.outcome is not Outcome.HEALTHY:
            display(report)
    if healthy:
        print(f"nanfix: {counted(len(healthy), 'training')} stayed finite; nothing was changed.")
