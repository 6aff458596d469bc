"""The net under nanfix: a fault of its own becomes a record, and the user's program goes on.

What the user's own code raises passes through unchanged. With NANFIX_DEBUG=1 faults are
raised as they are.
"""

import dis
import inspect
import logging
import os
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, TracebackType
from typing import TypeVar

from nanfix.model.user_code import is_own, is_users
from nanfix.records.atomic import write_text
from nanfix.records.errors import NanfixError

DEBUG = "NANFIX_DEBUG"
FILE = "fault.txt"
INTERACTIVE = ("<stdin>", "<ipython-input")  # names of files that a user types at a prompt
STEP = "step_of_keras"  # calls `model.train_step`, and nothing else
RAISING = dis.opmap["RAISE_VARARGS"]  # what `raise` and `assert` compile to
STEPS = ("train_step", "test_step", "call")  # what nanfix runs as Keras does
DRAWING = ("__getitem__", "__iter__", "__next__")  # methods by which Keras draws batches
REPORT = (
    "Your model is no worse than without nanfix. Please report the fault with its traceback, which "
    "is in {place}; with {debug}=1 it is raised where it happens."
)
log = logging.getLogger("nanfix")

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """An exception of nanfix's own: what nanfix was doing, the exception in one line,
    and its whole traceback.
    """

    doing: str
    error: str
    traceback: str

    @classmethod
    def of(cls, doing: str, error: BaseException) -> "Fault":
        return cls(doing, one_line(error), "".join(traceback.format_exception(error)))

    def __str__(self):
        return (
            f"nanfix itself failed while {self.doing} ({self.error}). This is a fault of nanfix, "
            "not of your training."
        )


class Net:
    """Collects the faults of one call. `attempt` runs a piece of nanfix's own work
    under the net.
    """

    def __init__(self):
        self.faults: list[Fault] = []
        # What data raise, Keras passes on as an error of TensorFlow's.
        self.data_failed: Callable[[], bool] = lambda: False

    def attempt(
        self,
        doing: str,
        work: Callable[[], T],
        otherwise: T,
        passing: tuple[type[Exception], ...] = (),
    ) -> T:
        """Return what `work` returns, or `otherwise` when nanfix itself fails in it.

        Raises:
            What the user's own code raised, and what is `passing`.
        """
        try:
            return work()
        except passing:
            raise
        except Exception as error:
            self.caught(doing, error)
            return otherwise

    def caught(self, doing: str, error: Exception) -> Fault:
        """Keep the fault that is being handled; raise the exception again when it is the user's
        own, or for debugging.
        """
        if self.is_users_own(error):
            raise error
        return self.kept(doing, error)

    def is_users_own(self, error: Exception) -> bool:
        """Say whether an exception came out of the user's own code."""
        return is_users_own(error) or self.data_failed()

    def kept(self, doing: str, error: Exception) -> Fault:
        """Keep the fault that is being handled, whoever wrote the code that failed;
        raise it again for debugging.
        """
        if debugging():
            raise error
        fault = Fault.of(doing, error)
        log.warning("%s", fault)
        self.faults.append(fault)
        return fault

    @contextmanager
    def raising(self, doing: str) -> Iterator[None]:
        """Raise NanfixError, with how to report it, for a fault of what is done inside."""
        try:
            yield
        except NanfixError:
            raise
        except Exception as error:
            self.caught(doing, error)
            raise NanfixError(" ".join(self.notes())) from error

    def notes(self, folder: Path | None = None) -> tuple[str, ...]:
        """Return a line for each fault, and how to report them; with a `folder` the tracebacks are
        kept there as a file.
        """
        if not self.faults:
            return ()
        place = "report.faults"
        if folder is not None:
            path = folder / FILE
            write_text(path, "\n".join(fault.traceback for fault in self.faults))
            place = str(path)
        return (*dict.fromkeys(map(str, self.faults)), REPORT.format(place=place, debug=DEBUG))


def debugging() -> bool:
    """Say whether faults of nanfix are to be raised as they are."""
    return os.environ.get(DEBUG, "0") not in ("", "0")


# What Keras puts in front of the text of an exception out of a layer, and TensorFlow round it.
_FRAME = re.compile(r"^Exception encountered when calling .*\n|\x1b\[\d*m|\{\{.*?\}\} *| name: *$")


def one_line(error: BaseException) -> str:
    """Return an exception as one line: its class and the first line of its own text."""
    text = _FRAME.sub("", str(error).strip()).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def is_refusal(error: Exception) -> bool:
    """Say whether TensorFlow or Keras refuses to compute what it was given: a shape, an operation,
    more memory than there is.
    """
    import tensorflow as tf

    if isinstance(error, tf.errors.OpError | MemoryError | NotImplementedError):
        return True
    steps = [step.tb_frame.f_code.co_filename for step in _steps(error.__traceback__)]
    return isinstance(error, ValueError | TypeError) and bool(steps) and not is_own(steps[-1])


def is_raised_by_nanfix(error: BaseException) -> bool:
    """Say whether a line of nanfix's own raised an exception, not something that nanfix called.

    Keras takes its own lines out of a traceback, so that the last one that is left may be one of
    nanfix's which only called Keras.
    """
    *_, innermost = _steps(error.__traceback__)
    own = is_own(innermost.tb_frame.f_code.co_filename)
    # No function of C raises it, as one does a ValueError: there is a `raise`.
    return own and (_raises(innermost) or not isinstance(error, NotImplementedError))


def is_of_the_step(error: BaseException) -> bool:
    """Say whether Keras' own training step raised an exception, while it was traced or run: so it
    would have without nanfix, which only calls it.
    """
    codes = [step.tb_frame.f_code for step in _steps(error.__traceback__)]
    own = [code for code in codes if is_own(code.co_filename)]
    return bool(own) and own[-1].co_name == STEP


def is_users_own(error: BaseException) -> bool:
    """Say whether an exception is one that the user's own code would have raised
    without nanfix, too.

    It is when it comes out of data or callbacks, or out of a `raise` in the user's layers, loss or
    step. What else fails in a layer may fail of what nanfix fed it.
    """
    steps = _after_nanfix(error.__traceback__)
    users = [step for step in steps if _is_users(step.tb_frame.f_code.co_filename)]
    if not users:
        return False
    entry, innermost = users[0].tb_frame.f_code, steps[-1]
    if _draws_batches(entry) or entry.co_name.startswith("on_"):
        return True
    by_keras = users[0] is not steps[0] or entry.co_name in STEPS
    return by_keras and innermost is users[-1] and _raises(innermost)


def _raises(step: TracebackType) -> bool:
    """Say whether a `raise` stands where the exception went through."""
    return step.tb_frame.f_code.co_code[step.tb_lasti] == RAISING


def _after_nanfix(traceback: TracebackType | None) -> list[TracebackType]:
    """Return the steps of a traceback from the last frame of nanfix's own inward."""
    inward: list[TracebackType] = []
    for step in _steps(traceback):
        inward = [] if is_own(step.tb_frame.f_code.co_filename) else [*inward, step]
    return inward


def _steps(step: TracebackType | None) -> Iterator[TracebackType]:
    while step is not None:
        yield step
        step = step.tb_next


def _is_users(filename: str) -> bool:
    return is_users(filename) or filename.startswith(INTERACTIVE)


def _draws_batches(code: CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_GENERATOR) or code.co_name in DRAWING
