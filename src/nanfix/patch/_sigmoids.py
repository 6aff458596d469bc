"""Write quotients by one or two exponentials into the source as a product, a sigmoid or tanh:
`x / exp(a)`, `1 / (1 + exp(-x))`, `exp(a) / (exp(a) + exp(b))`, `(exp(x) - exp(-x)) / (exp(x) +
exp(-x))`.
"""

import libcst as cst

from nanfix.patch._meanings import exponent_of, in_parentheses, meaning
from nanfix.patch._operands import exponent, number
from nanfix.patch._package import of_tensorflow
from nanfix.patch._source_files import Source

Exponents = tuple[str, str]
ONE = ""  # stands for the exponent of what is 1


def as_sigmoid(source: Source, part: cst.BaseExpression, whole: cst.BaseExpression) -> str | None:
    """Return how a quotient by a sum of two exponentials, of which one may be 1, is written with a
    sigmoid or tanh; None of any other.
    """
    total, top = meaning(source, whole), meaning(source, part)
    summands = _exponents(source, total, cst.Add)
    if summands is None:
        return None
    package = "tf.math" if _is_of_tensorflow(source, total) else "keras.ops"
    sigmoid, tanh = (source.written(f"{package}.{name}") for name in ("sigmoid", "tanh"))
    difference = _exponents(source, top, cst.Subtract)
    if difference is not None and sorted(difference) == sorted(summands):
        return f"{tanh}({_half(source, _less(source, *difference))})"
    share = _share(source, top, summands)
    if share is not None:
        return f"{sigmoid}({share})"
    if isinstance(top, cst.BinaryOperation) and isinstance(top.operator, cst.Multiply):
        for factor, other in ((top.left, top.right), (top.right, top.left)):
            share = _share(source, factor, summands)
            if share is not None and number(factor) is None:
                return f"{in_parentheses(source, other)} * {sigmoid}({share})"
    overflows = any(exponent(source, each) is not None for each in source.syntax.within(top))  # pyright: ignore
    if ONE not in summands or overflows:
        return None
    share = _of_two(source, ONE, summands)
    return f"{in_parentheses(source, part)} * {sigmoid}({share})"


def as_product(source: Source, part: cst.BaseExpression, whole: cst.BaseExpression) -> str | None:
    """Return how a quotient by a single exponential is written as a product with another; None of
    any other quotient.
    """
    divided = meaning(source, whole)
    power = exponent_of(source, divided)
    if power is None or not isinstance(divided, cst.Call):
        return None
    exp = source.syntax.code(divided.func)
    own = exponent_of(source, meaning(source, part))
    if own is not None:
        return f"{exp}({_less(source, own, power)})"
    return f"{in_parentheses(source, part)} * {exp}({_negative(source, power)})"


def _share(source: Source, node: cst.BaseExpression, summands: Exponents) -> str | None:
    """Return what the sigmoid is taken of that is the share of one of two summands; None of
    anything else.
    """
    own = _exponent(source, node)
    return _of_two(source, own, summands) if own in summands else None


def _of_two(source: Source, own: str, summands: Exponents) -> str:
    first, second = summands
    return _less(source, own, second if own == first else first)


def _exponents(
    source: Source, node: cst.BaseExpression, operator: type[cst.BaseBinaryOp]
) -> Exponents | None:
    """Return the exponents of two exponentials that an operator joins, at most one of them 1; None
    of anything else.
    """
    if not isinstance(node, cst.BinaryOperation) or not isinstance(node.operator, operator):
        return None
    left, right = (_exponent(source, each) for each in (node.left, node.right))
    return None if left is None or right is None or left == right else (left, right)


def _exponent(source: Source, node: cst.BaseExpression) -> str | None:
    return ONE if number(node) == 1 else exponent_of(source, node)


def _is_of_tensorflow(source: Source, total: cst.BaseExpression) -> bool:
    """Say whether one of the exponentials that are added up is TensorFlow's own."""
    summands = (total.left, total.right) if isinstance(total, cst.BinaryOperation) else ()
    meant = [meaning(source, each) for each in summands]
    return any(isinstance(each, cst.Call) and of_tensorflow(source, each.func) for each in meant)


def _less(source: Source, one: str, other: str) -> str:
    """Return how the difference of two exponents is written."""
    if other == ONE:
        return one
    negative = _negative(source, other)
    if one == ONE:
        return negative
    return (
        f"2 * {in_parentheses(source, one)}"
        if one == negative
        else f"{one} - {in_parentheses(source, other)}"
    )


def _negative(source: Source, text: str) -> str:
    """Return how the negative of an expression is written."""
    first = cst.parse_expression(text)
    if isinstance(first, cst.UnaryOperation) and isinstance(first.operator, cst.Minus):
        return source.syntax.code(first.expression.with_changes(lpar=(), rpar=()))
    while isinstance(first, cst.BinaryOperation) and isinstance(
        first.operator, cst.Multiply | cst.Divide
    ):
        first = first.left
    negated = isinstance(first, cst.UnaryOperation) and isinstance(first.operator, cst.Minus)
    return text[1:] if negated and text.startswith("-") else f"-{in_parentheses(source, text)}"


def _half(source: Source, text: str) -> str:
    """Return how half of an expression is written."""
    product = cst.parse_expression(text)
    if isinstance(product, cst.BinaryOperation) and isinstance(product.operator, cst.Multiply):
        for factor, other in ((product.left, product.right), (product.right, product.left)):
            if number(factor) == 2:
                return source.syntax.code(other)
    return f"{in_parentheses(source, text)} / 2"
