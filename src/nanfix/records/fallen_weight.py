"""A weight that began above 0 and has fallen to 0 or below."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FallenWeight:
    """A weight of a layer of the user's own, by the address of that, "" for the model itself, with
    the least of its numbers at first and before the failing step.
    """

    address: str
    name: str
    began: float
    now: float

    @property
    def where(self) -> str:
        return f"weight {self.name} of {f'layer {self.address}' if self.address else 'the model'}"

    @property
    def kept_above(self) -> str:
        """What a person would do about it."""
        return f"Keep {self.where} above 0: compute with a softplus of it, or constrain it."

    def __str__(self):
        return f"{self.where}, which began at {self.began:.3g}, has fallen to {self.now:.3g}"
