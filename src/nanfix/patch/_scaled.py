"""Writes inputs that are scaled before `fit`, as a person does."""

from collections.abc import Mapping

from nanfix.records.rows_change import Band, RowsChange


def scaling_numbers(change: RowsChange) -> dict[str, list[float]]:
    """Return by name the numbers that scale inputs, none where one number does for all features."""
    by = change.scaled
    if by is None or len({*by.center}) == len({*by.scale}) == 1:
        return {}
    return {"CENTER": by.center, "SCALE": by.scale}


def scaled_by(by: Band, x: str, vectors: Mapping[str, str]) -> str:
    """Return the source of inputs that are scaled, as a person writes it."""
    center, scale = (
        vectors.get(name, f"{numbers[0]:.8g}")
        for name, numbers in (("CENTER", by.center), ("SCALE", by.scale))
    )
    return f"({x} - {center}) / {scale}" if any(by.center) else f"{x} / {scale}"
