"""Change attributes of the user's objects in such a way that every change can be taken
back, the last one first.
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

_ABSENT: object = object()


def put(undo: ExitStack, owner: object, name: str, value: object) -> None:
    """Set an attribute; closing `undo` sets it back to what it was."""
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def override(undo: ExitStack, owner: object, name: str, function: Callable[..., Any]) -> None:
    """Let an object use `function` in the place of a method of its class; closing
    `undo` takes it away again.
    """
    before = vars(owner).get(name, _ABSENT)

    def take_back() -> None:
        vars(owner).pop(name, None)
        if before is not _ABSENT:
            setattr(owner, name, before)

    undo.callback(take_back)
    setattr(owner, name, function)
