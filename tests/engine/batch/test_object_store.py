"""Jobs against a real S3 server in a process of its own."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest

from engine.batch.filesystem import open_filesystem
from engine.batch.job import options_of, score_files
from engine.batch.manifest import encode
from engine.batch.object_output import CREATE, ObjectOutput, get, put, walk
from engine.batch.plan import PLAN
from engine.batch.planning import make_plan
from engine.batch.records import Records
from engine.batch.work import make_work
from engine.bundle import read_bundle
from engine.config import Batch
from engine.errors import InvalidTable, NotFound, OutputExists, StorageFailed
from tests.engine.batch import s3_server
from tests.engine.batch.conftest import attempt, expected, rows, write
from tests.engine.batch.test_job import with_bad_amount

KEEP_ID = Batch(keep=("id",), unit_rows=100)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Host and port of an S3 server on this machine."""
    with s3_server.running() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A new bucket; ``s3://bucket/{}?…`` with the server's address in the query."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"b{abs(hash(request.node.name))}"
    client = boto3.client("s3", endpoint_url=f"http://{endpoint}")
    client.create_bucket(Bucket=name)
    yield f"s3://{name}/{{}}?scheme=http&endpoint_override={endpoint}"
    client.close()


def upload(location: str, table: object) -> None:
    filesystem, path = open_filesystem(location)
    pq.write_table(table, path, filesystem=filesystem, row_group_size=100)


def read_published(location: str) -> dict[str, list[object]]:
    """What a reader finds who goes through the manifest."""
    filesystem, root = open_filesystem(location)
    found = get(location, "_manifest.json")
    assert found is not None
    paths = [f"{root}/{part['path']}" for part in json.loads(found[0])["parts"]]
    return pq.ParquetDataset(paths, filesystem=filesystem).read().sort_by("id").to_pydict()


def test_a_job_reads_from_and_publishes_to_a_store(bundle: str, bucket: str) -> None:
    upload(bucket.format("in/a.parquet"), rows(0, 250))
    result = score_files(bundle, [bucket.format("in")], bucket.format("out"), settings=KEEP_ID)
    assert read_published(bucket.format("out")) == {"id": list(range(250)), "score": expected(range(250))}
    assert set(walk(bucket.format("out"), "")) == {
        "_manifest.json",
        f"v-{result.job}/_SUCCESS",
        *(part.path for part in result.manifest.parts),
    }


def test_the_environment_may_name_the_endpoint(
    bundle: str, bucket: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(bucket.format("in/a.parquet"), rows(0, 10))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{endpoint}")
    plain = bucket.split("?")[0]
    score_files(bundle, [plain.format("in/*.parquet")], plain.format("out"), settings=KEEP_ID)
    assert read_published(bucket.format("out"))["id"] == list(range(10))


def test_the_same_call_again_finds_its_result_in_the_store(bundle: str, bucket: str) -> None:
    upload(bucket.format("in/a.parquet"), rows(0, 10))
    for attached in (False, True):
        result = score_files(bundle, [bucket.format("in")], bucket.format("out"), settings=KEEP_ID)
        assert result.attached == attached


def test_overwriting_leaves_the_old_version_to_its_readers(bundle: str, bucket: str) -> None:
    upload(bucket.format("in/a.parquet"), rows(0, 10))
    first = score_files(bundle, [bucket.format("in")], bucket.format("out"), settings=KEEP_ID)
    upload(bucket.format("in/a.parquet"), rows(20, 30))
    with pytest.raises(OutputExists):
        score_files(bundle, [bucket.format("in")], bucket.format("out"), settings=KEEP_ID)
    score_files(
        bundle, [bucket.format("in")], bucket.format("out"), settings=Batch(keep=("id",), mode="overwrite")
    )
    assert read_published(bucket.format("out"))["id"] == list(range(20, 50))
    assert first.manifest.parts[0].path in walk(bucket.format("out"), "")


@pytest.mark.parametrize("restart", [False, True])
def test_a_job_that_runs_again_leaves_its_superseded_version_to_its_readers(
    bundle: str, data: Path, bucket: str, restart: bool
) -> None:
    write(data / "a.parquet", rows(0, 10))
    write(data / "b.parquet", rows(10, 10))
    output, (a, b) = bucket.format("out"), (str(data / "a.parquet"), str(data / "b.parquet"))
    overwrite = Batch(keep=("id",), mode="overwrite")
    first = score_files(bundle, [a], output, settings=overwrite)
    score_files(bundle, [b], output, settings=overwrite)
    if restart:  # of one that a driver had begun, whose like was published before
        plan = make_plan(read_bundle(bundle), bundle, [a], options_of(overwrite)).plan
        assert ObjectOutput(output).store(plan.job).put(PLAN, encode(plan))
    score_files(bundle, [a], output, settings=overwrite, restart=restart)
    assert read_published(output)["id"] == list(range(10))
    assert {part.path for part in first.manifest.parts} <= set(walk(output, ""))


def test_appending_keeps_earlier_parts_in_the_manifest(bundle: str, bucket: str) -> None:
    for start in (0, 10):
        upload(bucket.format(f"in/{start}.parquet"), rows(start, 10))
        settings = Batch(keep=("id",), mode="append")
        score_files(bundle, [bucket.format(f"in/{start}.parquet")], bucket.format("out"), settings=settings)
    assert read_published(bucket.format("out"))["id"] == list(range(20))


def test_an_unfinished_job_resumes_in_the_store(bundle: str, bucket: str) -> None:
    upload(bucket.format("in/a.parquet"), rows(0, 200))
    upload(bucket.format("in/b.parquet"), with_bad_amount(rows(200, 10)))
    with pytest.raises(InvalidTable, match="amount"):
        score_files(bundle, [bucket.format("in")], bucket.format("out"), settings=KEEP_ID, job="mine")
    assert get(bucket.format("out"), "_manifest.json") is None
    done = [name.rpartition("/")[2] for name in walk(bucket.format("out"), "_jobs/mine/done/")]
    assert sorted(done) == ["00000.json", "00001.json"]


def test_two_drivers_of_a_job_publish_each_row_once(bundle: str, data: Path, bucket: str) -> None:
    write(data / "a.parquet", rows(0, 2000))  # nothing locks them out
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(score_files, bundle, [str(data)], bucket.format("out"), settings=KEEP_ID)
            for _ in range(2)
        ]
        results = [call.result() for call in calls]
    assert results[0].manifest == results[1].manifest
    assert read_published(bucket.format("out")) == {"id": list(range(2000)), "score": expected(range(2000))}


def test_an_attempt_that_uploads_when_its_job_is_published_leaves_nothing(
    bundle: str, data: Path, bucket: str
) -> None:
    write(data / "a.parquet", rows(0, 100))
    output = bucket.format("out")
    settings = Batch(keep=("id",), unit_rows=100)
    model = read_bundle(bundle)
    plan = make_plan(model, bundle, [str(data)], options_of(settings)).plan
    work = make_work(plan, Records.of(ObjectOutput(output).store(plan.job), plan), model.manifest.schema)
    late = attempt(work, 0)
    score_files(bundle, [str(data)], output, settings=settings)
    there = walk(output, "")
    with pytest.raises(StorageFailed):
        late.commit()
    late.abort()
    assert walk(output, "") == there


def test_a_driver_killed_around_any_change_of_the_store_loses_and_leaves_nothing(bucket: str) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.engine.batch.kill_matrix_store",
        "--every",
        "7",
        "--mode",
        "append",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed at 6 moments, 0 wrong results" in done.stdout


def test_of_many_that_create_a_record_one_wins(bucket: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(
            pool.map(lambda i: put(bucket.format("x"), "record", str(i).encode(), **CREATE), range(16))
        )
    found = get(bucket.format("x"), "record")
    assert won.count(True) == 1
    assert found is not None
    assert found[0] == str(won.index(True)).encode()


def test_a_replaced_object_is_not_replaced_again_by_its_old_tag(bucket: str) -> None:
    put(bucket.format("x"), "record", b"1", **CREATE)
    found = get(bucket.format("x"), "record")
    assert found is not None
    assert put(bucket.format("x"), "record", b"2", IfMatch=found[1])
    assert not put(bucket.format("x"), "record", b"3", IfMatch=found[1])


def test_a_prefix_without_data_is_an_error(bundle: str, bucket: str) -> None:
    with pytest.raises(NotFound, match="found nothing of that name"):
        score_files(bundle, [bucket.format("nothing")], bucket.format("out"))


@pytest.mark.parametrize(("secret", "reason"), [("x", "Could not connect"), ("", "credentials")])
def test_a_store_that_is_not_there_or_needs_credentials_is_told_in_words(
    bundle: str, data: Path, monkeypatch: pytest.MonkeyPatch, secret: str, reason: str, tmp_path: Path
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and nobody listens
        place = f"s3://bucket/out?endpoint_override=127.0.0.1:{nobody.getsockname()[1]}&scheme=http&region=x"
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers credentials
        if secret:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", secret)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
        write(data / "a.parquet", rows(0, 10))
        with pytest.raises(StorageFailed, match=reason):
            score_files(bundle, [str(data)], place)
