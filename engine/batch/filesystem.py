"""Where files lie: local paths and object-store URIs become a ``pyarrow.fs`` file system and a path."""

import os
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
from pyarrow import fs

from engine.errors import StorageFailed


def is_object_store(location: str) -> bool:
    """Whether a location is a URI of an object store rather than a local path."""
    return "://" in location and not location.startswith("file://")


def absolute(location: str) -> str:
    """A location that means the same in every process: local paths made absolute, URIs as they are."""
    if is_object_store(location):
        return location
    return os.path.abspath(os.path.expanduser(location.removeprefix("file://")))


def open_filesystem(location: str) -> tuple[fs.FileSystem, str]:
    """The file system that a location names, and the path of the location inside it.

    ``s3://bucket/prefix?endpoint_override=localhost:9000&scheme=http`` names the endpoint in the
    query; without it ``AWS_ENDPOINT_URL`` holds, then AWS. Credentials follow the AWS rules.
    """
    if not is_object_store(location):
        return fs.LocalFileSystem(), absolute(location)
    try:
        filesystem, path = fs.FileSystem.from_uri(_with_endpoint(location))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StorageFailed(
            f"expected a location such as s3://bucket/prefix, got '{location}': {error}"
        ) from error
    return filesystem, path.rstrip("/")


def _with_endpoint(location: str) -> str:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if (
        not endpoint
        or not location.startswith("s3://")
        or "endpoint_override" in parse_qs(urlsplit(location).query)
    ):
        return location
    parts = urlsplit(endpoint)
    joint = "&" if "?" in location else "?"
    return f"{location}{joint}scheme={parts.scheme}&endpoint_override={parts.netloc}"
