"""``kill -9`` at every step of a job that writes to an object store.

    python -m tests.engine.batch.kill_matrix_store [--every 1] [--mode overwrite]

A driver is forked, and killed by the store itself: before and after the k-th request that changes something,
for k = 1, 2, … until one survives. Then another driver calls the same job, and readers must find each
row once, through the manifest; nothing may lie beside it, no part of an upload either.
"""

import argparse
import io
import json
import os
import sys
import tempfile
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq

from engine.batch.job import score_files
from engine.batch.scoring import scorer_of
from engine.bundle import read_bundle
from engine.config import Batch
from tests.engine.batch import s3_server
from tests.engine.batch.conftest import expected, make_bundle, rows, write
from tests.engine.batch.kill_matrix import MODES, N_ROWS, OLD_ROWS, Mode, in_fork

BUCKET = "kills"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}


def main() -> None:
    """Run the whole matrix and print its table; the exit code is the number of failures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="kill at every n-th moment only")
    parser.add_argument("--mode", choices=MODES, help="one mode only")
    arguments = parser.parse_args()
    os.environ.update(CREDENTIALS)
    failures = 0
    with tempfile.TemporaryDirectory(prefix="tandem-kill-") as directory, s3_server.running() as endpoint:
        for mode in [arguments.mode] if arguments.mode else MODES:
            killed, wrong = matrix(Path(directory) / mode, endpoint, mode, every=arguments.every)
            failures += len(wrong)
            print(
                f"{mode:<10} killed at {killed} moments, {len(wrong)} wrong results {wrong or ''}", flush=True
            )
    sys.exit(failures)


def matrix(root: Path, endpoint: str, mode: Mode, *, every: int = 1) -> tuple[int, list[str]]:
    """Kill a driver at every n-th moment; how many were killed, and what was wrong after resuming."""
    # This process must not talk to the store by the engine's ways: what it opened, its forks would share.
    bundle = make_bundle(root / "bundles")
    scorer_of(bundle, read_bundle(bundle).revision)
    write(root / "data" / "a.parquet", rows(0, 250), row_group_rows=50)
    write(root / "data" / "b.parquet", rows(250, 100), row_group_rows=50)
    write(root / "old" / "old.parquet", rows(1000, OLD_ROWS))
    boto3.client("s3", endpoint_url=f"http://{endpoint}").create_bucket(Bucket=BUCKET)
    wrong: list[str] = []
    killed, moment = 0, 1
    while True:
        prefix = f"{mode}/{moment}"
        output = f"s3://{BUCKET}/{prefix}?scheme=http&endpoint_override={endpoint}"
        if mode != "error":
            in_fork(lambda output=output: score(bundle, root / "old", output, "error"))
        died = in_fork(
            lambda output=output, n=moment: dying(endpoint, n, bundle, root / "data", output, mode)
        )
        resumed = in_fork(lambda output=output: score(bundle, root / "data", output, mode))
        if problem := "the second call failed" if resumed else differs(endpoint, prefix, mode):
            wrong.append(f"{moment}: {problem}")
        if not died:
            return killed, wrong
        killed, moment = killed + 1, moment + every


def score(bundle: str, data: Path, output: str, mode: Mode) -> None:
    """The job under test: four units, one after the other."""
    settings = Batch(runner="local", keep=("id",), unit_rows=100, threads=1, mode=mode)
    score_files(bundle, [str(data)], output, settings=settings)


def dying(endpoint: str, moment: int, bundle: str, data: Path, output: str, mode: Mode) -> None:
    """Run the job and be killed at a moment."""
    s3_server.die_at(endpoint, moment)
    score(bundle, data, output, mode)


def differs(endpoint: str, prefix: str, mode: Mode) -> str:
    """What is wrong with an output, empty if nothing is."""
    client = boto3.client("s3", endpoint_url=f"http://{endpoint}")

    def content(name: str) -> bytes:
        return client.get_object(Bucket=BUCKET, Key=f"{prefix}/{name}")["Body"].read()  # type: ignore[no-any-return]

    manifest = json.loads(content("_manifest.json"))
    parts = [part["path"] for part in manifest["parts"]]
    found = pa.concat_tables([pq.read_table(io.BytesIO(content(path))) for path in parts]).sort_by("id")
    ids = [*range(N_ROWS), *(range(1000, 1000 + OLD_ROWS) if mode == "append" else ())]
    if not found.equals(pa.table({"id": ids, "score": expected(ids)})):
        return f"expected {len(ids)} rows, found {found.num_rows} or other values"
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("Contents", [])
    there = {item["Key"].removeprefix(f"{prefix}/") for item in listed}
    jobs = {name.split("/")[0] for name in there if name.startswith("v-")}
    rightly = {*parts, "_manifest.json", *(f"{job}/_SUCCESS" for job in jobs)}
    if mode == "overwrite":  # the old version stays until its owner removes it
        kept = {f"v-{job['job']}" for job in manifest["jobs"]}
        there = {name for name in there if not name.startswith("v-") or name.split("/")[0] in kept}
        rightly &= {name for name in rightly if not name.startswith("v-") or name.split("/")[0] in kept}
    if there != rightly:
        return f"left behind {sorted(there - rightly)}, lacks {sorted(rightly - there)}"
    uploads = client.list_multipart_uploads(Bucket=BUCKET, Prefix=f"{prefix}/").get("Uploads", [])
    return f"left {len(uploads)} uploads unfinished" if uploads else ""


if __name__ == "__main__":
    main()
