"""What callbacks give to those who await it."""

import asyncio
from typing import TypeVar

T = TypeVar("T")


def settle(future: "asyncio.Future[T]", value: T) -> None:
    """Give a value to whoever awaits the future, unless that task was cancelled a moment before."""
    if not future.done():
        future.set_result(value)
