"""From a parsed condition to an Arrow expression.

Apart from ``where``, since Arrow's functions take long to import and few jobs have a condition.
"""

import ast
import datetime
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.batch.where import function_name, text_argument
from engine.errors import InvalidConfig

_COMPARISONS: dict[type[ast.cmpop], Callable[[pc.Expression, Any], pc.Expression]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}
_UNKNOWN = pc.scalar(pa.scalar(None, pa.bool_()))


def expression_of(condition: ast.Expression, text: str) -> pc.Expression:
    """The expression that a condition means; ``text`` is what it was parsed from, for errors.

    Raises:
        InvalidConfig: It holds what a condition may not.
    """
    return _boolean(condition.body, text)


def _boolean(node: ast.expr, text: str) -> pc.Expression:
    if isinstance(node, ast.BoolOp):
        parts = [_boolean(value, text) for value in node.values]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole & part if isinstance(node.op, ast.And) else whole | part
        return whole
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_boolean(node.operand, text)
    if isinstance(node, ast.Compare):
        return _comparison(node, text)
    column = _value(node, text)
    if isinstance(column, pc.Expression):
        return column
    raise _unknown(node, text)


def _comparison(node: ast.Compare, text: str) -> pc.Expression:
    operands = [node.left, *node.comparators]
    whole = None
    for operator, left, right in zip(node.ops, operands, operands[1:], strict=False):
        part = _one_comparison(operator, _value(left, text), _value(right, text), node, text)
        whole = part if whole is None else whole & part
    if whole is None:
        raise _unknown(node, text)
    return whole


def _one_comparison(operator: ast.cmpop, left: Any, right: Any, node: ast.expr, text: str) -> pc.Expression:
    if not isinstance(left, pc.Expression):
        left = pc.scalar(left)
    if isinstance(operator, ast.Is | ast.IsNot) and right is None:
        missing: pc.Expression = left.is_null()
        return missing if isinstance(operator, ast.Is) else ~missing
    if isinstance(operator, ast.In | ast.NotIn) and isinstance(right, list):
        inside = _is_in(left, right, node, text)
        return inside if isinstance(operator, ast.In) else ~inside
    if type(operator) in _COMPARISONS and right is not None and not isinstance(right, list):
        return _COMPARISONS[type(operator)](left, right)
    raise _unknown(node, text)


def _is_in(left: pc.Expression, values: list[Any], node: ast.expr, text: str) -> pc.Expression:
    """Whether a value is one of a list; null of null, of which Arrow's ``isin`` alone is false."""
    if any(value is None for value in values):
        raise InvalidConfig(
            "expected values in a list, got None; nulls are chosen by 'or COLUMN is None'"
            f" - in the condition '{text}'"
        )
    if any(isinstance(value, pc.Expression | list) for value in values):
        raise _unknown(node, text)
    try:
        inside: pc.Expression = left.isin(values)
    except pa.ArrowException as error:
        raise InvalidConfig(
            f"expected a list of values of one kind, got '{ast.unparse(node)}' - in the condition '{text}'"
        ) from error
    return inside | (left.is_null() & _UNKNOWN)


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
        return node.value
    if isinstance(node, ast.Name):
        return pc.field(node.id)
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(element, text) for element in node.elts]
    if (
        isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and isinstance(node.operand, ast.Constant)
    ):
        return -node.operand.value  # type: ignore[operator]
    if isinstance(node, ast.Call):
        return _called(node, text)
    raise _unknown(node, text)


def _called(node: ast.Call, text: str) -> Any:
    try:
        argument = text_argument(node)
        if function_name(node) == "col":
            return pc.field(argument)
        if function_name(node) == "date":
            return datetime.date.fromisoformat(argument)
        if function_name(node) == "timestamp":
            return datetime.datetime.fromisoformat(argument)
    except ValueError as error:
        raise InvalidConfig(f"{error} - in the condition '{text}'") from error
    raise _unknown(node, text)


def _unknown(node: ast.expr, text: str) -> InvalidConfig:
    return InvalidConfig(
        f"expected columns compared with values (== != < <= > >= in, is None; and, or, not),"
        f" got '{ast.unparse(node)}' - in the condition '{text}'"
    )
