"""Which rows to score: a condition as text, read into an Arrow expression.

The text is a Python expression over column names (nothing is evaluated as Python):

    month >= 11 and carrier in ["UA", "AA"] and not dest == "JFK" and dep_delay is not None

Comparisons ``== != < <= > >=`` (also chained), ``in``, ``not in``, ``is None``, ``is not None``;
``and``, ``or``, ``not``, brackets; numbers, strings, ``True``, ``False``; ``date("2013-07-01")``
and ``timestamp("2013-07-01 12:00")``. A column whose name is no identifier is ``col("my column")``.
As in SQL, a comparison with null (``in`` and ``not in`` too) is neither true nor false, and so is its
``not``: such a row is not chosen. A list holds values, never ``None``.
"""

import ast
from typing import TYPE_CHECKING

from engine.errors import InvalidConfig

if TYPE_CHECKING:
    import pyarrow.compute as pc


def columns_of(text: str) -> tuple[str, ...]:
    """The columns that a condition names, each once."""
    found: dict[str, None] = {}
    for node in ast.walk(_parsed(text)):
        if isinstance(node, ast.Call):
            if function_name(node) == "col":
                found[text_argument(node)] = None
        elif isinstance(node, ast.Name) and node.id not in {"col", "date", "timestamp"}:
            found[node.id] = None
    return tuple(found)


def condition_of(text: str) -> "pc.Expression | None":
    """The expression that a condition means, None for an empty text; raises ``InvalidConfig``."""
    if not text:
        return None
    from engine.batch.expressions import expression_of  # here, since few jobs have a condition

    return expression_of(_parsed(text), text)


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


def function_name(node: ast.Call) -> str:
    """The name of what is called, empty if it is no name."""
    return node.func.id if isinstance(node.func, ast.Name) else ""


def text_argument(node: ast.Call) -> str:
    """The one argument of a call, a text; raises ``InvalidConfig`` if it is anything else."""
    argument = node.args[0] if len(node.args) == 1 else None
    if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
        raise InvalidConfig(f"expected one text in quotes - in '{ast.unparse(node)}'")
    return argument.value
