"""Where a name stands for its value, from which something is computed."""

import libcst as cst

from nanfix.patch._meanings import meaning
from nanfix.patch._source_files import Source

MODELS = ("Model", "Functional")


def is_use(source: Source, node: cst.Name, model: cst.Call | None) -> bool:
    """Say whether a name stands for its value, and not as an end of the model that is
    made of the graph.
    """
    parent = source.syntax.parent(node)
    if isinstance(parent, cst.AssignTarget) or (
        isinstance(parent, cst.Attribute) and parent.attr is node
    ):
        return False
    if isinstance(parent, cst.Arg) and parent.keyword is node:
        return False
    innermost = next(
        (outer for outer in source.syntax.ancestors(node) if isinstance(outer, cst.Call)), None
    )
    if innermost is None:
        return True
    own = innermost is model or source.called(innermost) in MODELS
    return not own and not _begins_with(source, innermost.func, node.value)


def _begins_with(source: Source, function: cst.BaseExpression, name: str) -> bool:
    """Say whether a function is a model that was made of this tensor, as `encoder(inputs)` is where
    `encoder = Model(inputs, code)`: what stands behind the tensor is inside it.
    """
    made = meaning(source, function)
    if not isinstance(made, cst.Call) or source.called(made) not in MODELS or not made.args:
        return False
    ends = source.syntax.within(made.args[0])
    return any(isinstance(end, cst.Name) and end.value == name for end in ends)
