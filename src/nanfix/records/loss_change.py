"""What a fix changes of the loss that a script is compiled with, as a record."""

import math
from typing import Literal

from pydantic import Field

from nanfix.records.source_places import Made, PlacedChange


class LossChange(PlacedChange):
    """Compile with another loss, or with the loss weighed by a number; or with the losses of
    several outputs weighed.

    `of_outputs` are factors, written as "1 / ...", of the weights that these have, `outputs` the
    names of all of them, `named` says that compile is given losses in a dict.
    """

    kind: Literal["loss"] = "loss"
    compiled: Made
    loss: str | None = None
    weight: str | None = None
    of_outputs: dict[str, str] = Field(default_factory=dict)
    outputs: list[str] = Field(default_factory=list)
    named: bool = False

    @property
    def subject(self):
        return (self.kind,)

    @property
    def where(self):
        return str(self.compiled.place)

    def joined(self, later):
        """The loss of either, and the product of the weights: the later one is a
        quotient "1 / ...".
        """
        weight = (
            f"{self.weight} {later.weight.removeprefix('1 ')}"
            if self.weight and later.weight
            else self.weight or later.weight
        )
        return self.model_copy(
            update={
                "loss": self.loss or later.loss,
                "weight": weight,
                "of_outputs": {**self.of_outputs, **later.of_outputs},
                "outputs": self.outputs or later.outputs,
                "named": self.named or later.named,
            }
        )

    @property
    def weighs(self) -> bool:
        """Whether it gives losses other weights."""
        return bool(self.weight or self.of_outputs)

    @property
    def without_weight(self) -> "LossChange | None":
        """The same without the weights; None where nothing is left of it."""
        return self.model_copy(update={"weight": None, "of_outputs": {}}) if self.loss else None

    @property
    def times(self) -> float:
        """What the loss that Keras logs is times as large as without this change."""
        first, *divisors = (self.weight or "1").split(" / ")
        powers = (divisor.partition("**") for divisor in divisors)
        return float(first) / math.prod(float(base) ** float(to or 1) for base, _, to in powers)

    def __str__(self):
        words = [f"loss={self.loss}"] if self.loss else []
        words += [f"loss_weights={self.weight}"] if self.weight else []
        words += [f"loss {name} times {factor}" for name, factor in self.of_outputs.items()]
        return ", ".join(words)
