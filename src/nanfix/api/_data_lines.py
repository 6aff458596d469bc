"""The line of the user's code that made their data non-finite, where it is to be had without
running anything again.
"""

from dataclasses import replace
from types import FrameType

from nanfix.model.user_code import users_call
from nanfix.records.diagnosis import Diagnosis
from nanfix.source.data_lookback import look_back

# Arguments of nanfix.fit and nanfix.diagnose: what to call each, its keyword, its position.
ARGUMENTS = (("inputs", "x", 1), ("targets", "y", 2))


def with_data_lines(diagnosis: Diagnosis | None, frame: FrameType, called: str) -> Diagnosis | None:
    """Return a diagnosis of data that are not finite with the lines that made them.

    Args:
        frame: from which nanfix was called.
        called: the function of nanfix's that was called.
    """
    caller = users_call(frame)
    if diagnosis is None or caller is None or not diagnosis.is_of_data:
        return diagnosis
    found = [look_back(caller, called, argument) for argument in ARGUMENTS]
    return replace(diagnosis, origins=tuple(filter(None, found)))
