"""How often something may be done so that it takes only a share of the time."""

import math

WARM_UP = 0.02  # seconds


class Pace:
    """Lets something that is done again and again take at most a share of the time that passes.

    The first time is a slow one; when it was shorter than `warm_up` seconds all the same, what it
    took is not held against the second.
    """

    def __init__(self, share: float, warm_up: float = WARM_UP):
        self.cost = 0.0  # seconds, smoothed
        self._share, self._warm_up = share, warm_up
        self._last = -math.inf

    def due(self, now: float) -> bool:
        return now - self._last >= self.cost / self._share

    def done(self, seconds: float, now: float) -> None:
        first = self._last == -math.inf
        if first and seconds < self._warm_up:
            seconds = 0.0
        self.cost = 0.5 * (self.cost + seconds) if self.cost else seconds
        self._last = now
