import sqlite3
from pathlib import Path

from engine.jobs.job import JobRequest, new_job
from engine.jobs.ledger import Ledger

OLDER = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, request BLOB NOT NULL, state TEXT NOT NULL, submitted_s REAL NOT NULL,
    started_s REAL NOT NULL DEFAULT 0, finished_s REAL NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '',
    rows_at_start INTEGER NOT NULL DEFAULT 0
)
"""


def test_the_list_of_an_older_engine_is_read_on(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "jobs.sqlite") as older:
        older.execute(OLDER)
    older.close()
    ledger = Ledger(tmp_path / "jobs.sqlite")
    job = ledger.add(new_job(JobRequest("/bundle", ("/in",), "/out")))
    assert ledger.last_run(job.id) == (job.id, 0)
    ledger.move(job.id, ("queued",), "running", runs_as="another")
    assert ledger.last_run(job.id) == ("another", 0)
    ledger.close()
