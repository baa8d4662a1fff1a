"""Which rows to score: a condition as text, read into an Arrow expression.

The text is a Python expression over column names (nothing is evaluated as Python):

    month >= 11 and carrier in ["UA", "AA"] and not dest == "JFK" and dep_delay is not None

Comparisons ``== != < <= > >=`` (also chained), ``in``, ``not in``, ``is None``, ``is not None``;
``and``, ``or``, ``not``, brackets; numbers, strings, ``True``, ``False``; ``date("2013-07-01")``
and ``timestamp("2013-07-01 12:00")``. A column whose name is no identifier is ``col("my column")``.
A row where a comparison meets null is not chosen, as in SQL.
"""

import ast
import datetime
from collections.abc import Callable
from typing import Any

import pyarrow.compute as pc

from engine.errors import InvalidConfig

_COMPARISONS: dict[type[ast.cmpop], Callable[[pc.Expression, Any], pc.Expression]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


def columns_of(text: str) -> tuple[str, ...]:
    """The columns that a condition names, each once."""
    found: dict[str, None] = {}
    for node in ast.walk(_parsed(text)):
        if isinstance(node, ast.Call):
            if _function(node) == "col":
                found[_text_argument(node)] = None
        elif isinstance(node, ast.Name) and node.id not in {"col", "date", "timestamp"}:
            found[node.id] = None
    return tuple(found)


def condition_of(text: str) -> pc.Expression | None:
    """The expression that a condition means, None for an empty text; raises ``InvalidConfig``."""
    return _boolean(_parsed(text).body, text) if text else None


def may_choose_nan(text: str) -> bool:
    """Whether a condition can be true of NaN, of which every comparison but ``!=`` is false."""
    turned = (ast.Not, ast.NotEq, ast.NotIn)
    return any(isinstance(node, turned) for node in ast.walk(_parsed(text)))


def _parsed(text: str) -> ast.Expression:
    try:
        return ast.parse(text or "True", mode="eval")
    except (SyntaxError, ValueError) as error:
        raise InvalidConfig(
            f"expected a condition such as month >= 11 and carrier == \"UA\", got '{text}':"
            f" {getattr(error, 'msg', error)}"
        ) from error


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
        inside: pc.Expression = left.isin(right)
        return inside if isinstance(operator, ast.In) else ~inside & left.is_valid()
    if type(operator) in _COMPARISONS and right is not None and not isinstance(right, list):
        return _COMPARISONS[type(operator)](left, right)
    raise _unknown(node, text)


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
        argument = _text_argument(node)
        if _function(node) == "col":
            return pc.field(argument)
        if _function(node) == "date":
            return datetime.date.fromisoformat(argument)
        if _function(node) == "timestamp":
            return datetime.datetime.fromisoformat(argument)
    except ValueError as error:
        raise InvalidConfig(f"{error} - in the condition '{text}'") from error
    raise _unknown(node, text)


def _function(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _text_argument(node: ast.Call) -> str:
    argument = node.args[0] if len(node.args) == 1 else None
    if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
        raise InvalidConfig(f"expected one text in quotes - in '{ast.unparse(node)}'")
    return argument.value


def _unknown(node: ast.expr, text: str) -> InvalidConfig:
    return InvalidConfig(
        f"expected columns compared with values (== != < <= > >= in, is None; and, or, not),"
        f" got '{ast.unparse(node)}' - in the condition '{text}'"
    )
