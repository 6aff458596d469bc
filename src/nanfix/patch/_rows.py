"""Other data in the source: rows left out, inputs scaled, holes filled and labels moved in front
of `fit` and `adapt`.
"""

import re
from collections.abc import Mapping

import libcst as cst

from nanfix.patch._batches import feed_batches_otherwise
from nanfix.patch._formatting import argument, with_argument
from nanfix.patch._scaled import scaled_by, scaling_numbers
from nanfix.patch._shared_lines import Alike, only
from nanfix.patch._source_files import Files, Source
from nanfix.records.errors import NoPlaceError
from nanfix.records.notebook_paths import file_of
from nanfix.records.rows_change import Band, RowsChange, UnknownTargets
from nanfix.records.source_changes import AdaptChange

EXACT = 2**24  # whole numbers up to here are the same in every width
FIT = {"x": 0, "y": 1, "sample_weight": 10}
# Of what a tf.data.Dataset has, and an array has not.
DATASETS = ("from_tensor_slices", "map", "batch", "unbatch", "prefetch", "cache", "as_dataset")
OF_A_DATASET = "lambda inputs: tf.where(tf.math.is_finite(inputs), inputs, FILL)"
NAMES = {"x": "inputs", "y": "targets", "sample_weight": "weights"}


def feed_otherwise(files: Files, change: RowsChange, alike: Alike) -> None:
    """Plan statements in front of `fit` and what it is given then. Raises NoPlaceError."""
    source, call = only(files, change.fit, alike)
    if change.dataset:
        feed_batches_otherwise(source, call, change)
        return
    statement = source.syntax.statement(call)
    given = {name: argument(call, name, position) for name, position in FIT.items()}
    validation = argument(call, "validation_data", 7)
    weights = argument(call, "class_weight", 9) if change.renumber else None
    if given["x"] is None:
        raise NoPlaceError("fit is given no x")
    names: list[str] = []
    named = {
        name: _name_for(source, names, name, each.value)
        for name, each in given.items()
        if each is not None
    }
    vectors = source.vectors(_numbers(change), uses=1 if validation is None else 2)
    lines: list[str] = []
    new = _cleaned(source, change, named, lines, "keep", vectors)
    if change.batch_rows is not None:
        new = _whole(source, change.batch_rows, {**named, **new}, lines)
    if validation is not None:
        parts = _validation_parts(source, names, validation.value, change.validation_arrays)
        kept = change.model_copy(update={"batch_rows": None})
        held = dict(zip(FIT, parts, strict=False))
        cleaned = _cleaned(source, kept, held, lines, "keep_held", vectors)
        given_held = dict(line.split(" = ", 1) for line in names)
        fed_held = (
            cleaned.get(name, given_held.get(part, part))
            for name, part in zip(FIT, parts, strict=False)
        )
        new["validation_data"] = f"({', '.join(fed_held)})"
    if weights is not None:
        new["class_weight"] = _renumbered(source, weights.value, change.first_label)
    source.insert(statement, "before", [*_of_use(names, [*lines, *new.values()]), *lines])
    values = {name: cst.parse_expression(value) for name, value in new.items()}
    positions = {**FIT, "validation_data": 7, "class_weight": 9}

    def fed(updated: cst.Call) -> cst.Call:
        for name, value in values.items():
            updated = with_argument(updated, name, value, positions[name])
        return updated

    source.change(call, fed)


def adapt_to_filled(files: Files, change: AdaptChange, alike: Alike) -> None:
    """Plan what `adapt` is given, holes filled. Raises NoPlaceError where it cannot be told which
    `adapt` is the layer's.
    """
    source = files.source(change.target.place.file)
    calls = [
        node
        for node in source.syntax.within(source.syntax.module)
        if isinstance(node, cst.Call) and _adapts(node)
    ]
    if len(calls) != 1:
        where = file_of(change.target.place.file)
        raise NoPlaceError(f"adapt is called {len(calls)} times in {where}")
    call, lines = calls[0], list[str]()
    given = argument(call, "data", 0)
    if given is None:
        raise NoPlaceError("adapt is given no data")
    vectors = source.vectors({"FILL": change.fill})
    if _is_dataset(source, given.value):
        finite = source.expression(OF_A_DATASET, vectors)
        mapped = cst.Attribute(given.value, cst.Name("map"))
        filled: cst.BaseExpression = cst.Call(mapped, [cst.Arg(finite)])
    else:
        x = _name_for(source, lines, "x", given.value)
        source.insert(source.syntax.statement(call), "before", lines)
        filled = cst.parse_expression(_filled(source, x, vectors))
    source.change(call, lambda updated: with_argument(updated, "data", filled, 0))


def _is_dataset(source: Source, value: cst.BaseExpression) -> bool:
    """Say whether an expression, or what its name was given last in front of it, comes of a call
    that only a tf.data.Dataset has.
    """
    if isinstance(value, cst.Name):
        given = [
            node
            for node in source.syntax.within(source.syntax.scope(value))
            if isinstance(node, cst.Assign)
            and source.syntax.start(node) < source.syntax.start(value)
            and any(source.syntax.code(each.target) == value.value for each in node.targets)
        ]
        return bool(given) and _is_dataset(source, given[-1].value)
    calls = [node for node in source.syntax.within(value) if isinstance(node, cst.Call)]
    return any(source.called(call) in DATASETS for call in calls)


def _adapts(call: cst.Call) -> bool:
    return isinstance(call.func, cst.Attribute) and call.func.attr.value == "adapt"


def _name_for(
    source: Source, lines: list[str], name: str, value: cst.BaseExpression, prefix: str = ""
) -> str:
    """Return the name of what fit is given, one of its own made for an expression."""
    if isinstance(value, cst.Name):
        return value.value
    made = source.unused(f"{prefix}{NAMES[name]}")
    lines.append(f"{made} = {source.syntax.code(value)}")
    return made


def _of_use(names: list[str], code: list[str]) -> list[str]:
    """Return those of the lines `name = value` whose name the code holds."""
    used = set(re.findall(r"\w+", " ".join(code)))
    return [line for line in names if line.partition(" = ")[0] in used]


def _renumbered(source: Source, weights: cst.BaseExpression, first_label: int) -> str:
    """Return class weights, as source, for labels counted from 0."""
    elements = weights.elements if isinstance(weights, cst.Dict) else ()
    written = [
        (e.key, e.value)
        for e in elements
        if isinstance(e, cst.DictElement) and isinstance(e.key, cst.Integer)
    ]
    if elements and len(written) == len(elements):
        pairs = [
            f"{key.evaluated_value - first_label}: {source.syntax.code(value)}"
            for key, value in written
        ]
        return f"{{{', '.join(pairs)}}}"
    return (
        f"{{label - {first_label}: weight for label, weight in "
        f"{source.syntax.code(weights)}.items()}}"
    )


def _validation_parts(
    source: Source, lines: list[str], value: cst.BaseExpression, count: int
) -> list[str]:
    """Return the names of the parts of the validation data, a tuple of that many arrays."""
    if isinstance(value, cst.Tuple) and not any(
        isinstance(each, cst.StarredElement) for each in value.elements
    ):
        parts = zip(FIT, value.elements, strict=False)
        return [_name_for(source, lines, name, part.value, "held_") for name, part in parts]
    made = value.value if isinstance(value, cst.Name) else source.unused("held")
    if not isinstance(value, cst.Name):
        lines.append(f"{made} = {source.syntax.code(value)}")
    return [f"{made}[{index}]" for index in range(count)]


def _cleaned(
    source: Source,
    change: RowsChange,
    named: dict[str, str],
    lines: list[str],
    keep: str,
    vectors: Mapping[str, str],
) -> dict[str, str]:
    """Return what fit is to be given instead; what has to be computed before is added
    to `lines`. `vectors` are how this file writes the numbers that fill holes and scale.
    """
    finite = "np.isfinite(np.reshape({0}, (len({0}), -1))).all(axis=1)"
    checks = [finite.format(named[name]) for name in change.finite if name in named]
    checks += [
        _inside(source, band, named[band.part]) for band in change.bands if band.part in named
    ]
    if change.classes is not None and "y" in named:
        labels = f"np.ravel({named['y']})"
        checks.append(f"({labels} >= 0) & ({labels} < {change.classes})")
    if change.shares and "y" in named:
        checks.append(f"(np.asarray({named['y']}) >= 0).all(axis=1)")
    new: dict[str, str] = {}
    if checks:
        mask = source.unused(keep)
        first, *others = map(source.written, checks)
        lines += [f"{mask} = {first}", *(f"{mask} &= {check}" for check in others)]
        new = {name: f"{value}[{mask}]" for name, value in named.items()}
    if change.fill is not None:
        x, filled = new.get("x", named["x"]), source.unused("filled")
        lines.append(f"{filled} = {_filled(source, x, vectors)}")
        new["x"] = filled
    if change.scaled is not None:
        new["x"] = scaled_by(change.scaled, new.get("x", named["x"]), vectors)
    if change.unknown is not None and "y" in named:
        new |= _weighed(source, change.unknown, {**named, **new}, lines)
    if "y" in named and (change.first_label or change.labels):
        labels, (low, span) = (
            new.get("y", named["y"]),
            change.labels or (float(change.first_label), 1.0),
        )
        moved = f"{labels} - {low:g}" if low else labels
        new["y"] = (
            moved if span == 1 else f"({moved}) / {span:g}" if low else f"{labels} / {span:g}"
        )
    return new


def _numbers(change: RowsChange) -> dict[str, list[float]]:
    """Return by name the numbers that fill holes and scale inputs, of each feature."""
    numbers = {} if change.fill is None else {"FILL": change.fill}
    numbers |= {"MISSING": change.missing} if change.missing else {}
    return numbers | scaling_numbers(change)


def _weighed(
    source: Source, unknown: UnknownTargets, named: dict[str, str], lines: list[str]
) -> dict[str, str]:
    """Return targets with 0 for each unknown one, and sample weights of 0 there."""
    y, known = named["y"], source.unused("known")
    tests = ["np.isfinite({0})"] if unknown.nonfinite else []
    for code in unknown.codes:
        exact = code == int(code) and abs(code) < EXACT
        tests.append(
            f"({{0}} != {code:g})" if exact else f"(np.float32({{0}}) != np.float32({code:.8g}))"
        )
    if unknown.classes is not None:
        tests.append(f"({{0}} >= 0) & ({{0}} < {unknown.classes})")
    lines.append(f"{known} = {source.written(' & '.join(tests).format(y))}")
    steps = f"{known}.all(axis=-1)" if unknown.in_cells else known
    weight = f"{steps} * {named['sample_weight']}" if "sample_weight" in named else steps
    return {"y": source.written(f"np.where({known}, {y}, 0)"), "sample_weight": weight}


def _filled(source: Source, x: str, fill: Mapping[str, str]) -> str:
    known = f"np.isfinite({x})"
    if "MISSING" in fill:
        known = f"{known} & ({x} != np.float32(MISSING))"
    return source.written(f"np.where({known}, {x}, FILL)", fill)


def _inside(source: Source, band: Band, name: str) -> str:
    vectors = source.vectors({"CENTER": band.center, "SCALE": band.scale})
    inside = source.written(f"np.abs(np.asarray({name}) - CENTER) <= SCALE", vectors)
    return f"np.reshape({inside}, (len({name}), -1)).all(axis=1)"


def _whole(source: Source, rows: int, given: dict[str, str], lines: list[str]) -> dict[str, str]:
    """Return the arrays without the rows that do not fill a batch."""
    named = {
        name: _name_for(source, lines, name, cst.parse_expression(value))
        for name, value in given.items()
    }
    whole = source.unused("whole")
    lines.append(f"{whole} = len({named['x']}) - len({named['x']}) % {rows}")
    return {name: f"{value}[:{whole}]" for name, value in named.items()}
