"""Follows NaN and inf through the user's own code, statement by statement, to the one that made
them.

Runs in a second run of a script, never beside a training: every line of the user's files is looked
at.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from nanfix.records.data_origin import Argument, DataOrigin
from nanfix.source._followed_frame import FollowedFrame
from nanfix.source._origin_memory import Memory
from nanfix.source._statements import is_followed
from nanfix.source.nonfinite_values import holes

COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")  # parts of a statement


class DataTracer:
    """Follows the user's code from `start` on; `of_argument` says where what `fit` gets comes
    from.
    """

    def __init__(self) -> None:
        self._memory = Memory()
        self._readable: dict[str, bool] = {}  # by the name of a file

    @property
    def fault(self) -> Exception | None:
        """What nanfix itself failed of; then nothing is followed any more."""
        return self._memory.fault

    def start(self) -> None:
        if self.fault is None:
            sys.settrace(self._called)

    def stop(self) -> None:
        sys.settrace(None)

    def followed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that is followed in whatever thread it runs."""

        def traced(*args: Any, **kwargs: Any) -> Any:
            before = sys.gettrace()
            self.start()
            try:
                return function(*args, **kwargs)
            finally:
                sys.settrace(before)

        return traced

    def of_argument(
        self, frame: FrameType, method: str, argument: Argument, value: object
    ) -> DataOrigin | None:
        """Return where the numbers that are not finite in an argument of a call come from.

        Args:
            frame: the user's frame that calls.
            method: what it calls.
            argument: of that call.
            value: what it was given, or drew from what it was given.
        """
        found, state = holes(value), FollowedFrame.of(frame)
        if not found or state is None or self.fault is not None:
            return None
        origin = state.of_argument(method, argument, value, found)
        return origin and origin.found.model_copy(update={"argument": argument.name})

    def _called(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        readable = self._readable.get(code.co_filename)
        if readable is None:
            readable = self._readable[code.co_filename] = is_followed(code.co_filename)
        if not readable or code.co_name in COMPREHENSIONS:
            return None
        again = FollowedFrame.of(frame)  # a generator goes on
        try:
            return (again or FollowedFrame(frame, self._memory)).event
        except Exception as fault:  # it would come out of the user's line
            self._memory.failed(fault)
            return None
