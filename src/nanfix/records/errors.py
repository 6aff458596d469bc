"""Every error nanfix raises on purpose: what is wrong, what was expected and received,
what to do. And its exit codes.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """How the command `nanfix` ends when something is wrong; a script that fails by
    itself keeps its own exit code.
    """

    USAGE_ERROR = 2
    UNREPAIRABLE = 3
    EXHAUSTED = 4
    FINITE = 5
    PARTIAL = 6
    INTERRUPTED = 130  # as a shell has it for Ctrl-C


class NanfixError(Exception):
    """Root of all nanfix errors."""


class InputError(NanfixError, ValueError):
    """The model, the data or an argument cannot be trained with; nothing was changed."""


class NothingLeftError(NanfixError):
    """A fix leaves out every row of the data, so that nothing is left to train on."""


class UnknownStrategyError(NanfixError, KeyError):
    """A strategy was named that neither nanfix nor an installed package provides."""

    def __str__(self):
        return str(self.args[0])  # KeyError would show the repr, quotes and all


class FixFormatError(NanfixError, ValueError):
    """A fix.json is not one that this nanfix can read."""


class RunDirError(NanfixError):
    """A run_dir cannot be used, for instance because it holds another run."""


class ScriptError(NanfixError):
    """A training script cannot be run or repaired as asked."""


class PatchError(NanfixError):
    """A fix cannot be written into the user's source as it is now; nothing was changed."""


class NoPlaceError(PatchError):
    """A single change has no place in the source; the text says why."""


class CannotHandBack(NanfixError):
    """A fix has trained the model but cannot be made part of it, so that it would predict something
    else; nothing was changed.
    """


REFUSALS = (
    InputError,
    NothingLeftError,
    RunDirError,
    UnknownStrategyError,
    FixFormatError,
    CannotHandBack,
)
"""What refuses a call on purpose, and is no fault of nanfix's own."""


class UnrepairedError(NanfixError):
    """No fix worked. The model is in its last verified finite state; `report` says what
    was seen and tried.
    """

    def __init__(self, message, report):
        super().__init__(message)
        self.report = report
