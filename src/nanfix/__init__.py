"""Keras' model.fit that does not die of NaN: it rolls back, explains, repairs and finishes the training."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanfix.budget import Budget as Budget
    from nanfix.controller import apply as apply
    from nanfix.controller import fit as fit
    from nanfix.crew import Workers as Workers
    from nanfix.diagnosis import Cause as Cause
    from nanfix.diagnosis import Diagnosis as Diagnosis
    from nanfix.errors import NanfixError as NanfixError
    from nanfix.errors import UnrepairedError as UnrepairedError
    from nanfix.explain import diagnose as diagnose
    from nanfix.export import read_fix as read_fix
    from nanfix.fix import Edit as Edit
    from nanfix.fix import Fix as Fix
    from nanfix.report import Outcome as Outcome
    from nanfix.report import Report as Report
    from nanfix.strategy import Strategy as Strategy
    from nanfix.strategy import Tier as Tier

__version__ = "0.1.0"

# Names are imported when they are first used: `import nanfix` alone loads neither TensorFlow nor Keras.
_HOME = {
    "fit": "controller",
    "apply": "controller",
    "Budget": "budget",
    "diagnose": "explain",
    "Workers": "crew",
    "Cause": "diagnosis",
    "Diagnosis": "diagnosis",
    "NanfixError": "errors",
    "UnrepairedError": "errors",
    "read_fix": "export",
    "Edit": "fix",
    "Fix": "fix",
    "Outcome": "report",
    "Report": "report",
    "Strategy": "strategy",
    "Tier": "strategy",
}
__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nanfix' has no attribute {name!r}")
    return getattr(import_module(f"nanfix.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
