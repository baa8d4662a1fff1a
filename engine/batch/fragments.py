"""What the input holds: the files that a location names, and what their footers say.

Nothing is skipped in silence: hidden files (``_``, ``.``) and files without a Parquet suffix in a
directory are left out as every reader does, but a Parquet file that cannot be read is an error.

A file is read once, however many links and locations lead to it, by the first of its paths in their
order; links that lead back up are not followed. Hard links are files of their own: tools that save
space make them of equal files.
"""

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from engine.batch.filesystem import is_object_store, open_filesystem
from engine.batch.plan import InputFile
from engine.errors import InvalidConfig, InvalidTable, NotFound, StorageFailed

SUFFIXES = (".parquet", ".parq", ".pq")
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
FOOTER_THREADS = 8
PARSED_BYTES = 1 << 23
"""Footers that stay parsed, by their bytes in the files; in memory one of 24 columns is nine times that."""


@dataclass(frozen=True, slots=True, eq=False)
class Footer:
    """What a file says about itself.

    Attributes:
        schema: Arrow schema of its columns.
        rows: Rows of every row group.
        n_bytes: Uncompressed bytes of every row group.
        parsed: All of it, as Arrow opens the file with; None if it is not kept.
    """

    schema: pa.Schema
    rows: tuple[int, ...]
    n_bytes: tuple[int, ...]
    parsed: pq.FileMetaData | None = None


def list_files(locations: Sequence[str]) -> tuple[InputFile, ...]:
    """All Parquet files of some locations: a file, a directory, or a glob with ``*``, ``?``, ``**``.

    Raises:
        NotFound: A location names no Parquet file.
        InvalidConfig: A name is not in UTF-8, a glob has brackets that mean nothing, or the directories
            of one file say different values.
        StorageFailed: The file system refuses.
    """
    found: dict[str, InputFile] = {}
    for location in locations:
        for file, real in _files_of(location):
            before = found.setdefault(real, file)
            if before.partition != file.partition:
                raise InvalidConfig(
                    f"expected one partition of a file, got {before.partition} and {file.partition}"
                    f" - at {file.path}, found as {before.path} before; name only one of the two"
                )
    return tuple(found.values())


def would_list(location: str, directory: str) -> bool:
    """Whether a Parquet file that comes to lie in a directory is one of those that a location names."""
    if is_object_store(location) != is_object_store(directory):
        return False
    pattern, file = open_filesystem(location)[1], f"{open_filesystem(directory)[1]}/part.parquet"
    root = _root_of_glob(pattern)
    if not file.startswith(f"{root}/") or not _is_data(file[len(root) :]):
        return False
    return root == pattern or _glob_pattern(pattern).fullmatch(file) is not None


def read_footers(filesystem: fs.FileSystem, files: Sequence[InputFile]) -> list[Footer]:
    """The footers of all files, in their order; raises ``InvalidTable`` naming the first bad file.

    There may be 100,000: equal schemas are one object, and only the first footers stay parsed.
    """
    footers: list[Footer] = []
    left = PARSED_BYTES
    with ThreadPoolExecutor(FOOTER_THREADS) as pool:
        for footer in pool.map(lambda file: read_footer(filesystem, file), files):
            left -= footer.parsed.serialized_size if footer.parsed else 0
            before = footers[-1] if footers else footer
            footers.append(
                replace(
                    footer,
                    schema=before.schema if footer.schema.equals(before.schema) else footer.schema,
                    parsed=footer.parsed if left >= 0 else None,
                )
            )
    return footers


def read_footer(filesystem: fs.FileSystem, file: InputFile) -> Footer:
    """The footer of one file; raises ``InvalidTable`` naming the file."""
    if file.size == 0:
        raise InvalidTable(
            f"expected a Parquet file, got 0 bytes - at {file.path}; write it again or remove it"
        )
    try:
        with filesystem.open_input_file(file.path) as source, pq.ParquetFile(source) as parquet:
            meta, schema = parquet.metadata, parquet.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise InvalidTable(
            f"expected a Parquet file, got one whose footer cannot be read - at {file.path}: {error}"
        ) from error
    groups = [meta.row_group(index) for index in range(meta.num_row_groups)]
    return Footer(
        schema.remove_metadata(),
        tuple(group.num_rows for group in groups),
        tuple(group.total_byte_size for group in groups),
        meta if file.mtime_ns else None,  # without a time, nothing would tell that the file changed meanwhile
    )


def _files_of(location: str) -> list[tuple[InputFile, str]]:
    """The files of a location by path, each with the path that it has without links."""
    filesystem, path = open_filesystem(location)
    try:
        files = sorted(_matches(filesystem, path), key=lambda found: found[0].path)
        is_there = files or filesystem.get_file_info(_root_of_glob(path)).type != fs.FileType.NotFound
    except UnicodeError as error:
        raise InvalidConfig(
            f"expected names in UTF-8, which Arrow asks for - at {location!a}: {error}"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise StorageFailed(f"cannot list {location}: {error}") from error
    if not is_there:
        raise NotFound(f"expected Parquet files, found nothing of that name - at {location}")
    if not files:
        raise NotFound(
            f"expected Parquet files ({', '.join(SUFFIXES)}), found none - at {location};"
            " hidden files (_x, .x) do not count"
        )
    return files


def _matches(filesystem: fs.FileSystem, path: str) -> Iterator[tuple[InputFile, str]]:
    is_local = isinstance(filesystem, fs.LocalFileSystem)
    root = _root_of_glob(path)
    if root == path:
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.File:
            yield _input_file(info, ""), os.path.realpath(path) if is_local else path
            return
    wanted = _glob_pattern(path) if root != path else None
    for info, real in (_on_disk if is_local else _in_store)(filesystem, root or "/"):
        inside = info.path[len(root) :]
        if _is_data(inside) and (wanted is None or wanted.fullmatch(info.path)):
            if info.type == fs.FileType.NotFound:
                raise NotFound(
                    "expected a Parquet file, found nothing"
                    f" - at {info.path}; if it is a link, it leads nowhere"
                )
            if info.type == fs.FileType.File:
                yield _input_file(info, inside), real


def _in_store(filesystem: fs.FileSystem, root: str) -> Iterator[tuple[fs.FileInfo, str]]:
    for info in filesystem.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True)):
        yield info, info.path


def _on_disk(filesystem: fs.FileSystem, root: str) -> Iterator[tuple[fs.FileInfo, str]]:
    """What is below a directory, without the directories; Arrow would follow a loop of links forty times."""
    real = os.path.realpath(root)
    paths = dict(_walk(root, real, frozenset({real}))) if os.path.isdir(root) else {}
    yield from zip(filesystem.get_file_info(list(paths)), paths.values(), strict=True)


def _walk(directory: str, real: str, above: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Paths below a directory, each with that without links; ``above`` are the real directories passed."""
    with os.scandir(directory) as entries:
        for entry in entries:
            target = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, entry.name)
            if not entry.is_dir():
                yield entry.path, target
            elif target not in above:
                yield from _walk(entry.path, target, above | {target})


def _is_data(inside: str) -> bool:
    names = [name for name in inside.split("/") if name]
    return names[-1].endswith(SUFFIXES) and not any(name[0] in "_." for name in names)


def _input_file(info: fs.FileInfo, inside: str) -> InputFile:
    pairs = [name.split("=", 1) for name in inside.split("/")[:-1] if "=" in name]
    partition = {unquote(key): None if value == NULL_PARTITION else unquote(value) for key, value in pairs}
    return InputFile(info.path, info.size, info.mtime_ns or 0, partition)


def _root_of_glob(path: str) -> str:
    names = path.split("/")
    for index, name in enumerate(names):
        if any(character in name for character in "*?["):
            return "/".join(names[:index])
    return path


def _glob_pattern(path: str) -> re.Pattern[str]:
    """``*`` and ``?`` stay within a name, ``**`` spans directories (also none), ``[!a]`` is any but a."""
    text = ""
    for token in re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", path):
        if token.startswith("[") and token.endswith("]"):
            text += token.replace("[!", "[^", 1).replace("\\", r"\\")
        else:
            text += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(token, re.escape(token))
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidConfig(f"expected a glob, got {error.msg} - in {path}") from error
