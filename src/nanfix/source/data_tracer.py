"""Follows NaN and inf through the user's own code, statement by statement, to the one that made
them.

Runs in a second run of a script, never beside a training: every line of the user's files is looked
at.
"""

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from nanfix.model.user_code import is_users
from nanfix.records.data_origin import DataOrigin
from nanfix.source._followed_frame import FollowedFrame
from nanfix.source._origin_memory import Memory
from nanfix.source.nonfinite_values import holes

COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")  # parts of a statement


class DataTracer:
    """Follows the user's code from `start` on; `of_argument` says where what `fit` gets comes
    from.
    """

    def __init__(self) -> None:
        self._memory = Memory()
        self._users: dict[str, bool] = {}

    def start(self) -> None:
        sys.settrace(self._called)

    def stop(self) -> None:
        sys.settrace(None)

    def followed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that is followed in whatever thread it runs."""

        def traced(*args: Any, **kwargs: Any) -> Any:
            before = sys.gettrace()
            sys.settrace(self._called)
            try:
                return function(*args, **kwargs)
            finally:
                sys.settrace(before)

        return traced

    def of_argument(
        self, frame: FrameType, method: str, argument: tuple[str, str, int], value: Any
    ) -> DataOrigin | None:
        """Return where the numbers that are not finite in an argument of a call come from.

        Args:
            frame: the user's frame that calls.
            method: what it calls.
            argument: what to call the argument, its keyword, and its position.
            value: what it was given, or drew from what it was given.
        """
        what, name, position = argument
        held, state = holes(value), FollowedFrame.of(frame)
        if not held or state is None:
            return None
        origin = state.of_argument(method, name, position, value, held)
        return None if origin is None else origin.found.model_copy(update={"argument": what})

    def _called(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        users = self._users.get(code.co_filename)
        if users is None:
            users = is_users(code.co_filename) and os.path.isfile(code.co_filename)
            self._users[code.co_filename] = users
        if not users or code.co_name in COMPREHENSIONS:
            return None
        again = FollowedFrame.of(frame)  # a generator goes on
        return (again or FollowedFrame(frame, self._memory)).event
