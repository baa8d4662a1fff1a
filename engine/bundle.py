"""A bundle: one immutable, content-addressed directory per revision of a model.

``bundle.json`` is the manifest; beside it lie the files whose SHA-256 it lists. The revision is
the digest of the canonical manifest. Nothing in a bundle is code, and nothing is unpickled.
"""

import hashlib
import io
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from engine.errors import InvalidBundle
from engine.schema import Schema

MANIFEST = "bundle.json"
FORMAT: Literal[1] = 1
MAX_MANIFEST_BYTES = 64 << 20
ENDS = r"$(?!\n)"
"""The end of a text: Python's ``$`` overlooks a last line break, and JSON Schema has no other sign."""
NAME_PATTERN = rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}{ENDS}"

Device = Literal["cpu", "auto", "cuda"]
"""Where a model's margins are computed. ``auto`` never changes a score: it uses a GPU, where there is one,
for batches of forests and linear models so large that it was measured to be faster. ``cuda`` uses it for
all, for ONNX graphs too, whose scores then differ in the last bits, and fails where there is none."""
DeviceChoice = Literal["bundle", "cpu", "auto", "cuda"]
"""``bundle`` leaves it to the bundle: the CPU, unless it was packed for another device."""

ModelName = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
"""A letter or digit, then up to 63 letters, digits, dots, dashes and underscores."""


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a margin becomes a score.

    Attributes:
        name: ``sigmoid`` is 1 / (1 + exp(-scale * margin)); ``softmax`` runs over the outputs.
        scale: LightGBM's ``sigmoid`` parameter.
    """

    name: Literal["identity", "sigmoid", "softmax", "exp"] = "identity"
    scale: float = 1.0


class After(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is made of scores, by ``engine.after``; the output's labels name all columns.

    Attributes:
        thresholds: One per score; as many columns more, 1 where the score reaches it, else 0.
        top: How many of a row's best scores stand instead of all of them, each with its number.
    """

    thresholds: tuple[float, ...] = ()
    top: int = 0


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a model came from.

    Attributes:
        library: ``lightgbm``, ``xgboost``, ``sklearn``, ``catboost`` or ``onnx``.
        objective: The library's own word for it, or empty.
        source_sha256: Digest of the model file, empty for a Python object.
        notes: What an importer wants people to know, in sentences.
    """

    library: str
    objective: str = ""
    source_sha256: str = ""
    notes: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``bundle.json``.

    Attributes:
        name: The model's name.
        kind: The backend that scores it.
        schema: Features and output.
        link: From margin to score.
        provenance: Where the model came from.
        after: What is made of scores before they are answered; nothing if it is not there.
        device: Where the model asks to be scored; the CPU if it is not there.
        files: SHA-256 of every other file, by name.
        format: Version of this layout.
    """

    name: ModelName
    kind: Literal["forest", "linear", "dense", "onnx"]
    schema: Schema
    link: Link
    provenance: Provenance
    after: After | UnsetType = UNSET
    device: Device | UnsetType = UNSET
    files: dict[str, str] = {}
    format: Literal[1] = FORMAT

    def device_for(self, choice: DeviceChoice) -> Device:
        """Where to score: as somebody chose, or as the bundle asks."""
        if choice != "bundle":
            return choice
        return "cpu" if self.device is UNSET else self.device


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A verified bundle in memory: its manifest, revision and the bytes of its files."""

    manifest: Manifest
    revision: str
    files: Mapping[str, bytes]

    @property
    def label(self) -> str:
        """``name@revision``, the revision shortened to twelve digits."""
        return f"{self.manifest.name}@{self.revision[:12]}"

    def arrays(self, name: str) -> dict[str, NDArray[np.generic]]:
        """The arrays of an ``.npz`` file of the bundle."""
        try:
            with np.load(io.BytesIO(self.files[name]), allow_pickle=False) as archive:
                return dict(archive)
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise InvalidBundle(f"expected arrays in '{name}' of bundle {self.label}: {error}") from error


def npz(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Arrays as the bytes of an ``.npz`` file; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def write_bundle(manifest: Manifest, files: Mapping[str, bytes], out: Path) -> Path:
    """Write a bundle below ``out`` and return its directory, ``out/name@revision``.

    The directory appears whole or not at all. An intact one is left as it is, a damaged one replaced.
    """
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    text = canonical(msgspec.structs.replace(manifest, files=digests))
    final = out / f"{manifest.name}@{digest(text)[:12]}"
    if _intact(final):
        return final
    shutil.rmtree(final, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".pack-", dir=out))
    try:
        for name, data in {**files, MANIFEST: text}.items():
            _write_synced(temporary / name, data)
        temporary.chmod(0o755)
        os.rename(temporary, final)
    except OSError:
        if not final.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle and verify every digest; raises ``InvalidBundle``."""
    directory = Path(path)
    text = _read(directory / MANIFEST, limit=MAX_MANIFEST_BYTES)
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        raise InvalidBundle(f"{directory / MANIFEST} is no manifest of format {FORMAT}: {error}") from error
    files = {name: _read(directory / _plain(name)) for name in manifest.files}
    for name, expected in manifest.files.items():
        if (found := hashlib.sha256(files[name]).hexdigest()) != expected:
            raise InvalidBundle(
                f"'{name}' of {directory} was changed or cut short: expected sha256 {expected[:12]}…,"
                f" found {found[:12]}… ({len(files[name])} bytes); pack the model again"
            )
    revision = digest(canonical(manifest))
    if (claimed := re.search(r"@([0-9a-f]{12})$", directory.name)) and not revision.startswith(claimed[1]):
        raise InvalidBundle(
            f"{directory / MANIFEST} was changed: expected revision {claimed[1]}, found {revision[:12]};"
            " pack the model again"
        )
    return Bundle(manifest, revision, files)


def canonical(manifest: Manifest) -> bytes:
    """The one text of a manifest: keys in order, indented for people."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2) + b"\n"


def digest(text: bytes) -> str:
    """The revision that a canonical manifest has."""
    return hashlib.sha256(text).hexdigest()


def _intact(directory: Path) -> bool:
    try:
        read_bundle(directory)
    except InvalidBundle:
        return False
    return True


def _plain(name: str) -> str:
    if name != os.path.basename(name) or name in {"", ".", "..", MANIFEST}:
        raise InvalidBundle(f"a bundle's files lie in its own directory, got '{name}'")
    return name


def _read(path: Path, *, limit: int | None = None) -> bytes:
    try:
        if limit is not None and path.stat().st_size > limit:
            raise InvalidBundle(f"{path} is larger than {limit} bytes")
        return path.read_bytes()
    except OSError as error:
        is_none = path.name == MANIFEST and isinstance(error, FileNotFoundError | NotADirectoryError)
        way_out = "; `tandem pack` makes a bundle of a model" if is_none else ""
        raise InvalidBundle(f"expected a bundle's file at {path}: {error.strerror}{way_out}") from error
    except ValueError as error:  # a null byte
        raise InvalidBundle(f"expected a bundle's file at {str(path)!r}: {error}") from error


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
