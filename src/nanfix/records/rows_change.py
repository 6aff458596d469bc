"""What a fix changes of the data that a script feeds `fit`, as a record of the source's changes."""

from typing import Literal

from pydantic import BaseModel, Field

from nanfix.records.source_places import FROZEN, Made, PlacedChange

FIT_ALONE = (
    "holes are filled for fit alone: what predict, evaluate and other models are given needs the "
    "same fill"
)
SCALED_ALONE = (
    "the inputs are scaled for fit alone: what predict, evaluate and other models are given needs "
    "the same scaling"
)


class Band(BaseModel):
    """Where the values of one part of the data lie: at most `scale` from `center`, a
    number for each feature.
    """

    model_config = FROZEN

    part: Literal["x", "y"]
    center: list[float]
    scale: list[float]


class UnknownTargets(BaseModel):
    """Which targets are unknown; the fields are those of TargetMask.

    `in_cells` says that the last axis of the targets is that of the outputs, not of the steps.
    """

    model_config = FROZEN

    nonfinite: bool = False
    codes: list[float] = Field(default_factory=list)
    classes: int | None = None
    in_cells: bool = True


class RowsChange(PlacedChange):
    """Leave rows out of what `fit` is given, shift its labels, scale its inputs, fill its holes,
    weigh its unknown targets with 0; the fields are those of RowFilter.

    `finite` are the parts in which every number has to be finite, `fill` what takes the place of
    one that is not, or that is the one of its feature in `missing`; `instead` says that a layer is
    to fill them, and this only where that has no place. `validation_arrays` is the number of arrays
    in the validation data, `renumber` says that the keys of class_weight are labels as given.
    `dataset` says that the data, and those for validation, are tf.data pipelines of batches, `bare`
    that these batches are inputs alone, in no tuple.
    """

    kind: Literal["rows"] = "rows"
    fit: Made
    finite: list[Literal["x", "y", "sample_weight"]] = Field(default_factory=list)
    classes: int | None = None
    first_label: int = 0
    labels: tuple[float, float] | None = None
    bands: list[Band] = Field(default_factory=list)
    batch_rows: int | None = None
    shares: bool = False
    fill: list[float] | None = None
    missing: list[float] = Field(default_factory=list)
    instead: bool = False
    unknown: UnknownTargets | None = None
    validation_arrays: int = 0
    renumber: bool = False
    dataset: bool = False
    bare: bool = False
    scaled: Band | None = None

    @property
    def subject(self):
        return (self.kind,)

    @property
    def where(self):
        return str(self.fit.place)

    def joined(self, later):
        """The holes are filled of what is kept."""
        names = ("fill", "missing", "instead", "unknown")
        filled = {name: getattr(self, name) for name in names}
        return later.model_copy(update=filled)

    @property
    def without_stand_in(self) -> "RowsChange | None":
        """This change where a layer fills the holes: None where nothing is left of it."""
        left = self.model_copy(update={"fill": None, "missing": [], "instead": False})
        empty = RowsChange(fit=self.fit)
        kept = {"edits": self.edits, "validation_arrays": self.validation_arrays}
        return None if left == empty.model_copy(update=kept) else left

    def __str__(self):
        words = (
            ["rows left out"]
            if self.finite or self.bands or self.batch_rows or self.classes or self.shares
            else []
        )
        words += ["holes filled"] if self.fill else []
        words += ["unknown targets weighed with 0"] if self.unknown else []
        words += ["inputs scaled"] if self.scaled else []
        words += ["labels moved"] if self.first_label or self.labels else []
        return f"{', '.join(words)} before fit"
