"""Whose functions the user's source computes with: TensorFlow's own, or Keras'."""

from typing import Any

import libcst as cst

from nanfix.patch._source_files import Source


def is_tensorflow(source: Source, node: Any) -> bool:
    """Say whether a function is TensorFlow's own, an operator whether it stands among
    such functions.
    """
    if isinstance(node, cst.Call):
        return of_tensorflow(source, node.func)
    return any(
        of_tensorflow(source, n.func)
        for n in source.syntax.within(source.syntax.scope(node))
        if isinstance(n, cst.Call)
    )


def of_tensorflow(source: Source, function: cst.BaseExpression) -> bool:
    """Say whether a function is TensorFlow's own."""
    full = source.package(function)
    return full.startswith("tensorflow.") and not full.startswith("tensorflow.keras.")
