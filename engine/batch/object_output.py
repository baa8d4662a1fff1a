"""Output on an S3-compatible store: data below a version prefix, one manifest that points to it.

``PREFIX/v-JOB/…`` holds a job's files, ``PREFIX/_jobs/JOB/…`` its records while it is unfinished,
``PREFIX/_manifest.json`` what is published. Records are created, and the manifest is replaced, by
conditional puts (``If-None-Match``, ``If-Match``), so that of two writers exactly one wins. Readers
go through the manifest or a version prefix, never through a bare listing of the whole prefix.
Nothing published is ever deleted: old versions stay until their owner removes them.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlsplit

import msgspec
import pyarrow as pa

from engine.batch.filesystem import open_filesystem
from engine.batch.manifest import MANIFEST, SUCCESS, JobRecord, OutputManifest, Part, decode, encode
from engine.config import Mode
from engine.errors import OutputExists, StorageFailed

JOBS = "_jobs"
CREATE = {"IfNoneMatch": "*"}
TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
ABSENT = {"NoSuchKey", "NoSuchUpload", "404"}
_clients = threading.Lock()


@dataclass(frozen=True, slots=True)
class ObjectJobStore:
    """Records of one job below ``_jobs/JOB``, its files below ``v-JOB``."""

    location: str
    job: str

    def read(self, name: str) -> bytes | None:
        """A record's bytes, None if there is none."""
        found = get(self.location, f"{JOBS}/{self.job}/{name}")
        return found[0] if found else None

    def put(self, name: str, data: bytes) -> bool:
        """Create a record with a conditional put; False if it exists already."""
        return put(self.location, f"{JOBS}/{self.job}/{name}", data, **CREATE)

    def replace(self, name: str, data: bytes) -> None:
        """Write a record over the one that is there."""
        put(self.location, f"{JOBS}/{self.job}/{name}", data)

    def names(self, folder: str) -> list[str]:
        """Names of the records in a folder, without the folder."""
        return list_names(self.location, f"{JOBS}/{self.job}/{folder}/")

    def create(self, name: str) -> BinaryIO:
        """A new object for an attempt; it appears, whole, when it is closed."""
        filesystem, root = open_filesystem(self.location)
        try:
            return filesystem.open_output_stream(f"{root}/{version_path(self.job, name)}")
        except (OSError, pa.ArrowException) as error:
            raise StorageFailed(f"cannot write below {self.location}: {error}") from error

    def discard(self, name: str) -> None:
        """Remove an attempt's object if it is there."""
        delete(self.location, [version_path(self.job, name)])


@dataclass(frozen=True, slots=True)
class ObjectOutput:
    """A prefix in a bucket."""

    location: str

    def store(self, job: str) -> ObjectJobStore:
        """The records of one job that writes here."""
        return ObjectJobStore(self.location, job)

    def manifest(self) -> OutputManifest | None:
        """What is published here, None if nothing is; ``OutputExists`` if it is not ours."""
        found = get(self.location, MANIFEST)
        if found:
            return decode(found[0], self.location)
        if others := [name for name in list_names(self.location, "") if not _is_ours(name)]:
            raise OutputExists(
                f"{self.location} holds objects that no job wrote (such as {others[0]}, and no {MANIFEST});"
                " choose another output"
            )
        return None

    def keeps_version(self, job: str) -> bool:
        """Whether the version of a job was published, now or before another one took its place."""
        return SUCCESS in list_names(self.location, f"v-{job}/")

    def unfinished(self) -> list[str]:
        """Ids of jobs with records here that are not published."""
        return list_names(self.location, f"{JOBS}/")

    def check_all_is_ours(self) -> None:
        """Nothing: a prefix keeps whatever lies there."""

    @contextmanager
    def alone(self, job: str, *, wait: bool) -> Iterator[bool]:  # noqa: ARG002
        """Object stores have no locks: two drivers of a job waste work, and nothing else."""
        yield True

    def publish(self, record: JobRecord, parts: Sequence[Part], mode: Mode) -> OutputManifest:
        """Point the manifest to the job's parts; a second call changes nothing."""
        parts = [msgspec.structs.replace(part, path=_published_path(record.job, part)) for part in parts]
        put(self.location, f"v-{record.job}/{SUCCESS}", b"", **CREATE)
        while True:
            found = get(self.location, MANIFEST)
            current = decode(found[0], self.location) if found else None
            if current is not None and current.holds(record.job):
                break
            if current is not None and mode == "error":
                raise OutputExists(
                    f"{self.location} was filled by another job meanwhile; choose another output or mode"
                )
            earlier = current if mode == "append" else None
            manifest = OutputManifest(
                (*(earlier.jobs if earlier else ()), record), (*(earlier.parts if earlier else ()), *parts)
            )
            if put(self.location, MANIFEST, encode(manifest), **({"IfMatch": found[1]} if found else CREATE)):
                current = manifest
                break
        self.forget(record.job)
        return current

    def forget(self, job: str) -> None:
        """Remove the records of a job, and its files and begun uploads but for what is, or was, published."""
        found = get(self.location, MANIFEST)
        published = decode(found[0], self.location) if found else None
        kept: set[str] = set()
        if published is not None and published.holds(job):
            kept = {f"v-{job}/{SUCCESS}", *(part.path for part in published.parts)}
        abort_uploads(self.location, f"v-{job}/")
        if kept or not self.keeps_version(job):  # else which of its files are the superseded version's?
            there = {f"v-{job}/{name}" for name in walk(self.location, f"v-{job}/")}
            delete(self.location, sorted(there - kept))
        delete(self.location, [f"{JOBS}/{job}/{name}" for name in walk(self.location, f"{JOBS}/{job}/")])


def version_path(job: str, attempt_name: str) -> str:
    """Where an attempt's file lies: ``attempts/A/dir/part.parquet`` becomes ``v-JOB/dir/part-A.parquet``."""
    _, attempt, path = attempt_name.split("/", 2)
    stem, _, suffix = path.rpartition(".")
    return f"v-{job}/{stem}-{attempt.rpartition('-')[2]}.{suffix}"


def get(location: str, name: str) -> tuple[bytes, str] | None:
    """An object's bytes and ETag, None if there is none."""
    with _in_words(location):
        client, bucket, prefix = _client(location)
        try:
            answer = client.get_object(Bucket=bucket, Key=prefix + name)
            return answer["Body"].read(), answer["ETag"]
        except client.exceptions.ClientError as error:
            if _code(error) in ABSENT:
                return None
            raise


def put(location: str, name: str, data: bytes, **condition: str) -> bool:
    """Write an object, under ``CREATE`` or ``IfMatch=etag``; False if the condition does not hold."""
    with _in_words(location):
        client, bucket, prefix = _client(location)
        try:
            client.put_object(Bucket=bucket, Key=prefix + name, Body=data, **condition)
        except client.exceptions.ClientError as error:
            if _code(error) in TAKEN:
                return False
            raise
    return True


def list_names(location: str, folder: str) -> list[str]:
    """Names directly below a folder (ending in ``/`` or empty): of objects and of folders."""
    found: list[str] = []
    with _in_words(location):
        client, bucket, prefix = _client(location)
        pages = client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix + folder, Delimiter="/"):
            found += [item["Key"] for item in page.get("Contents", ())]
            found += [item["Prefix"].rstrip("/") for item in page.get("CommonPrefixes", ())]
    return [name[len(prefix + folder) :] for name in found if len(name) > len(prefix + folder)]


def walk(location: str, folder: str) -> list[str]:
    """Names of all objects below a folder, without the folder."""
    with _in_words(location):
        client, bucket, prefix = _client(location)
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + folder)
        return [item["Key"][len(prefix + folder) :] for page in pages for item in page.get("Contents", ())]


def delete(location: str, names: Sequence[str]) -> None:
    """Remove objects; those that are not there count as removed."""
    with _in_words(location):
        client, bucket, prefix = _client(location)
        for start in range(0, len(names), 1000):
            keys = [{"Key": prefix + name} for name in names[start : start + 1000]]
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
            for refused in answer.get("Errors", ())[:1]:
                raise _failed(location, f"{refused.get('Key')}: {refused.get('Message')}")


def abort_uploads(location: str, folder: str) -> None:
    """Give up uploads below a folder that are under way: nobody sees them, and their owner pays for them."""
    with _in_words(location):
        client, bucket, prefix = _client(location)
        pages = client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix + folder):
            for upload in page.get("Uploads", ()):
                name = {"Key": upload["Key"], "UploadId": upload["UploadId"]}
                try:
                    client.abort_multipart_upload(Bucket=bucket, **name)
                except client.exceptions.ClientError as error:
                    if _code(error) not in ABSENT:  # else it ended meanwhile
                        raise


@contextmanager
def _in_words(location: str) -> Iterator[None]:
    """Whatever a store refuses, and that it cannot be reached, as ``StorageFailed``."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise StorageFailed(
            "output on an object store needs boto3: pip install 'tandem-scoring[s3]'"
        ) from error
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise _failed(location, error) from error


def _client(location: str) -> tuple[Any, str, str]:
    with _clients:
        return _make_client(location)


@lru_cache(maxsize=8)
def _make_client(location: str) -> tuple[Any, str, str]:
    import boto3

    parts = urlsplit(location)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    endpoint = query.get("endpoint_override")
    url = f"{query.get('scheme', 'https')}://{endpoint}" if endpoint else None
    prefix = parts.path.strip("/")
    client = boto3.client("s3", endpoint_url=url, region_name=query.get("region"))
    return client, parts.netloc, f"{prefix}/" if prefix else ""


def _is_ours(name: str) -> bool:
    return name == JOBS or name.startswith("v-")


def _published_path(job: str, part: Part) -> str:
    return version_path(job, f"attempts/{part.attempt}/{part.path}")


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _failed(location: str, error: object) -> StorageFailed:
    return StorageFailed(
        f"the object store refused, or did not answer - at {location}: {error};"
        " call the job again to resume it"
    )
