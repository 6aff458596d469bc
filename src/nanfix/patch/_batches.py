"""Writes what happens to the batches of a tf.data pipeline where `fit` is given it: rows left out,
as the repair leaves them out of each batch, labels moved and inputs scaled.
"""

import libcst as cst

from nanfix.patch._formatting import argument, with_argument
from nanfix.patch._scaled import scaled_by, scaling_numbers
from nanfix.patch._source_files import Source
from nanfix.records.errors import NoPlaceError
from nanfix.records.rows_change import RowsChange

GIVEN = {"x": 0, "validation_data": 7}
PARTS = {"x": "inputs", "y": "targets", "sample_weight": "weights"}
CODE = '''def {name}(dataset):
    """Return the batches of a dataset without the rows that cannot be trained on."""

    def kept(*batch):
{lines}
        return tf.nest.map_structure(lambda part: tf.boolean_mask(part, keep), batch)

    return dataset.map(kept).filter(lambda *batch: tf.shape(tf.nest.flatten(batch)[0])[0] > 0)'''
FINITE = """        cells = [
            tf.math.is_finite(tf.cast(part, "float32"))
            for part in tf.nest.flatten({parts})
            if part.dtype.is_floating
        ]"""
KEPT = """        rows = [tf.reshape(each, [tf.shape(each)[0], -1]) for each in cells]
        keep = tf.reduce_all(tf.concat(rows, axis=1), axis=1)"""


def feed_batches_otherwise(source: Source, call: cst.Call, change: RowsChange) -> None:
    """Plan what `fit` is given instead of a pipeline, and of one for validation. Raises
    NoPlaceError.
    """
    given = {name: argument(call, name, position) for name, position in GIVEN.items()}
    if given["x"] is None:
        raise NoPlaceError("fit is given no x")
    uses = sum(each is not None for each in given.values())
    maps = [] if change.scaled is None else [_scaling(source, change, uses)]
    maps += [_moved(source, change)] if change.first_label and not _drops(change) else []
    name = _name(change) if _lines(change) else None
    if name is not None:
        source.define(CODE.format(name=name, lines="\n".join(_lines(change))))

    def fed(updated: cst.Call) -> cst.Call:
        for part, position in GIVEN.items():
            value = argument(updated, part, position)
            if value is not None:
                batches: cst.BaseExpression = value.value
                if name is not None:
                    batches = cst.Call(cst.Name(name), [cst.Arg(batches)])
                for function in maps:
                    mapped = cst.Attribute(batches, cst.Name("map"))
                    batches = cst.Call(mapped, [cst.Arg(function)])
                updated = with_argument(updated, part, batches, position)
        return updated

    source.change(call, fed)


def _scaling(source: Source, change: RowsChange, uses: int) -> cst.BaseExpression:
    """Return the function, as source, that scales the inputs of a batch."""
    assert change.scaled is not None, "asked only for what scales"
    vectors = source.vectors(scaling_numbers(change), uses)
    x = scaled_by(change.scaled, 'tf.cast(x, "float32")', vectors)
    return source.expression(
        f"lambda x: {x}" if change.bare else f"lambda x, *others: ({x}, *others)"
    )


def _moved(source: Source, change: RowsChange) -> cst.BaseExpression:
    """Return the function, as source, that lets the labels of a batch begin at 0."""
    return source.expression(f"lambda x, y, *others: (x, y - {change.first_label}, *others)")


def _drops(change: RowsChange) -> bool:
    """Say whether rows are left out."""
    return bool(change.finite) or change.classes is not None


def _name(change: RowsChange) -> str:
    """Return a name for the function that says what it does, so that others have other names."""
    parts = [f"finite_{PARTS[part]}" for part in change.finite]
    parts += [f"labels_below_{change.classes}"] if change.classes is not None else []
    parts += [f"labels_from_{change.first_label}"] if change.first_label else []
    return f"with_{'_and_'.join(parts)}"


def _lines(change: RowsChange) -> list[str]:
    places = [list(PARTS).index(part) for part in change.finite]
    slices = [f"batch[{place}:{place + 1}]" for place in places]
    if places == [0, 1]:
        slices = ["batch[:2]"]
    if not _drops(change):
        return []
    lines = [FINITE.format(parts=" + ".join(slices))] if slices else ["        cells = []"]
    if change.classes is not None:
        lines.append(f"        cells.append((batch[1] >= 0) & (batch[1] < {change.classes}))")
    if change.first_label:
        moved = f"(batch[0], batch[1] - {change.first_label}, *batch[2:])"
        lines.append(f"        batch = {moved}")
    return [*lines, KEPT]
