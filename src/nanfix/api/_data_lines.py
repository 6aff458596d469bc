"""The line of the user's code that made their data non-finite, where it is to be had without
running anything again.
"""

from dataclasses import replace
from functools import partial
from types import FrameType

from nanfix.model.faults import Net
from nanfix.model.user_code import users_call
from nanfix.records.data_origin import Argument
from nanfix.records.diagnosis import Diagnosis
from nanfix.source.data_lookback import look_back

# Of nanfix.fit and nanfix.diagnose.
ARGUMENTS = (Argument("inputs", "x", 1), Argument("targets", "y", 2))


def with_data_lines(diagnosis: Diagnosis | None, frame: FrameType, called: str) -> Diagnosis | None:
    """Return a diagnosis of data that are not finite with the lines that made them; a fault of
    nanfix's own costs no more than these.

    Args:
        frame: from which nanfix was called.
        called: the function of nanfix's that was called.
    """
    if diagnosis is None or not diagnosis.is_of_data:
        return diagnosis
    return Net().attempt("looking back", partial(_looked_back, diagnosis, frame, called), diagnosis)


def _looked_back(diagnosis: Diagnosis, frame: FrameType, called: str) -> Diagnosis:
    caller = users_call(frame)
    if caller is None:
        return diagnosis
    found = [look_back(caller, called, argument) for argument in ARGUMENTS]
    return replace(diagnosis, origins=tuple(filter(None, found)))
