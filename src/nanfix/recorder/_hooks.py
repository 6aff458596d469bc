"""Hooks that Keras calls, and what becomes of a fault of nanfix's own in one."""

import functools
from collections.abc import Callable

from nanfix.model.faults import is_of_the_step
from nanfix.recorder.recording import Nonfinite
from nanfix.records.errors import RunDirError


def under_the_net(hook: Callable[..., None]) -> Callable[..., None]:
    """Let a hook that fails of a fault of nanfix's own end the recording, not the training."""

    @functools.wraps(hook)
    def caught(self, *args, **kwargs):
        if self.failed:
            return
        try:
            hook(self, *args, **kwargs)
        except (Nonfinite, RunDirError):
            raise
        except Exception as error:
            if is_of_the_step(error):
                raise
            self._net.caught("watching the training", error)
            self.failed = True

    return caught
