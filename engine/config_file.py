"""Reads YAML into frozen values. Apart from ``config``: it takes 15 ms to load, and few commands need it."""

import os
from pathlib import Path
from typing import Any

import msgspec
import yaml

from engine.config import Config, in_words
from engine.errors import InvalidConfig


def read_config(path: str | Path) -> Config:
    """Decode a YAML config file, empty for the defaults; raises ``InvalidConfig`` with the key's path."""
    return read_yaml(path, Config, "a config file")


def read_yaml(path: str | os.PathLike[str], kind: Any, what: str) -> Any:
    """What a YAML file holds, as ``kind``; raises ``InvalidConfig`` with the place.

    Args:
        path: The file.
        kind: What msgspec is to make of it.
        what: What the file is, for people.
    """
    try:
        with Path(path).open("rb") as file:
            document = yaml.load(file, _OneOfEachKey)  # noqa: S506 (a SafeLoader)
        return msgspec.convert({} if document is None else document, kind)
    except OSError as error:
        raise InvalidConfig(f"expected {what} at {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InvalidConfig(f"{path}: {_yaml_in_words(error)}") from error
    except msgspec.ValidationError as error:
        raise InvalidConfig(f"{path}: {in_words(error, kind)}") from error


class _OneOfEachKey(yaml.CSafeLoader):
    """Refuses a key that comes twice in a mapping; PyYAML takes the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        places: dict[object, yaml.Mark] = {}
        for key, _ in node.value:
            first = places.setdefault(key.value if isinstance(key, yaml.ScalarNode) else key, key.start_mark)
            if first is not key.start_mark:
                raise yaml.MarkedYAMLError(
                    f"key '{key.value}' of line {first.line + 1}", None, "comes once more", key.start_mark
                )
        return super().construct_mapping(node, deep)


def _yaml_in_words(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return " ".join(str(error).split())
    said = ", ".join(words for words in (error.context, error.problem) if words)
    return f"{said} - at line {mark.line + 1}, column {mark.column + 1}"
