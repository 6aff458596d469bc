"""Weights of the losses of several outputs, as `compile` is given them in the source."""

import libcst as cst

from nanfix.patch._formatting import argument
from nanfix.patch._source_files import Source
from nanfix.records.errors import NoPlaceError
from nanfix.records.loss_change import LossChange


def weights_of_outputs(source: Source, call: cst.Call, change: LossChange) -> str:
    """Return the weights to be written in a call of `compile`: those that it is given, each by the
    factor of its output. Raises NoPlaceError.
    """
    given = argument(call, "loss_weights", 2)
    known = dict.fromkeys(change.outputs, "1.0") if given is None else _written(source, given)
    if not change.named and given is not None:
        known = dict(zip(change.outputs, known.values(), strict=False))
    missing = [name for name in change.of_outputs if name not in known]
    if missing:
        raise NoPlaceError(f"compile is given loss_weights without one for output {missing[0]}")
    weights = {name: _weighed(text, name, change) for name, text in known.items()}
    pairs = (f'"{name}": {weight}' for name, weight in weights.items())
    return f"{{{', '.join(pairs)}}}" if change.named else f"[{', '.join(weights.values())}]"


def _weighed(text: str, name: str, change: LossChange) -> str:
    factor = change.of_outputs.get(name)
    if factor is None:
        return text
    return factor if text in ("1", "1.0") else f"{text} {factor.removeprefix('1 ')}"


def _written(source: Source, given: cst.Arg) -> dict[str, str]:
    """Return the weights that stand in a dict or list of the source: by the names there, or by
    their places.
    """
    value = given.value
    if isinstance(value, cst.List | cst.Tuple):
        return {str(at): _code(source, each.value) for at, each in enumerate(value.elements)}
    if not isinstance(value, cst.Dict):
        raise NoPlaceError("the loss_weights that compile is given are not written there")
    found = {}
    for each in value.elements:
        key = each.key if isinstance(each, cst.DictElement) else None
        if not isinstance(key, cst.SimpleString):
            raise NoPlaceError("the loss_weights that compile is given are not named there")
        found[str(key.evaluated_value)] = _code(source, each.value)
    return found


def _code(source: Source, value: cst.BaseExpression) -> str:
    text = source.syntax.code(value)
    plain = isinstance(value, cst.Name | cst.Attribute | cst.Integer | cst.Float | cst.Call)
    return text if plain or value.lpar else f"({text})"
