"""Keras' model.fit that does not die of NaN: it rolls back, explains, repairs and
finishes the training.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanfix.api.diagnose import diagnose as diagnose
    from nanfix.api.fit import apply as apply
    from nanfix.api.fit import fit as fit
    from nanfix.records.budget import Budget as Budget
    from nanfix.records.cause import Cause as Cause
    from nanfix.records.diagnosis import Diagnosis as Diagnosis
    from nanfix.records.errors import NanfixError as NanfixError
    from nanfix.records.errors import UnrepairedError as UnrepairedError
    from nanfix.remedies.fix import Edit as Edit
    from nanfix.remedies.fix import Fix as Fix
    from nanfix.remedies.strategy import Strategy as Strategy
    from nanfix.remedies.strategy import Tier as Tier
    from nanfix.report.export import read_fix as read_fix
    from nanfix.report.report import Outcome as Outcome
    from nanfix.report.report import Report as Report
    from nanfix.search.workers.pool import Workers as Workers

__version__ = "0.1.0"

# Names are imported when they are first used: `import nanfix` alone loads neither
# TensorFlow nor Keras.
_HOME = {
    "fit": "api.fit",
    "apply": "api.fit",
    "Budget": "records.budget",
    "diagnose": "api.diagnose",
    "Workers": "search.workers.pool",
    "Cause": "records.cause",
    "Diagnosis": "records.diagnosis",
    "NanfixError": "records.errors",
    "UnrepairedError": "records.errors",
    "read_fix": "report.export",
    "Edit": "remedies.fix",
    "Fix": "remedies.fix",
    "Outcome": "report.report",
    "Report": "report.report",
    "Strategy": "remedies.strategy",
    "Tier": "remedies.strategy",
}
__all__ = sorted([*_HOME, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nanfix' has no attribute {name!r}")
    return getattr(import_module(f"nanfix.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__


def load_ipython_extension(shell: Any) -> None:
    """Make `%%nanfix` known, which trains a cell of a notebook with nanfix.fit: `%load_ext
    nanfix`.
    """
    from nanfix.scripts.cell_magic import register

    register(shell)
