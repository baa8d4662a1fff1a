"""The durable list of jobs: one SQLite file, so that a restarted engine knows what it had taken on."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.errors import Conflict, NotFound, StorageFailed
from engine.jobs.job import Job, JobRequest, State

TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, request BLOB NOT NULL, state TEXT NOT NULL, submitted_s REAL NOT NULL,
    started_s REAL NOT NULL DEFAULT 0, finished_s REAL NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '',
    rows_at_start INTEGER NOT NULL DEFAULT 0, runs_as TEXT NOT NULL DEFAULT ''
)
"""
IN_MEMORY = ":memory:"
COLUMNS = "id, request, state, submitted_s, started_s, finished_s, message"


class Ledger:
    """Jobs by id. One engine writes it; every change is one transaction.

    The file is made with the first job. Raises ``StorageFailed`` where it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_kept = path.exists()
        self._database = _opened(path) if self._is_kept else _database(IN_MEMORY)

    def add(self, job: Job) -> Job:
        """Keep a new job; if there is one of its id already, return that one and change nothing."""
        if not self._is_kept:
            self._database, self._is_kept = _opened(self._path), True
        self._database.execute(
            "INSERT OR IGNORE INTO jobs (id, request, state, submitted_s) VALUES (?, ?, ?, ?)",
            (job.id, msgspec.json.encode(job.request), job.state, job.submitted_s),
        )
        return self.get(job.id)

    def get(self, job_id: str) -> Job:
        """One job; raises ``NotFound``."""
        row = self._database.execute(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()  # noqa: S608
        if row is None:
            raise NotFound(f"no job '{job_id}'; `tandem jobs` lists them")
        return _job(row)

    def all(self) -> list[Job]:
        """All jobs, the newest first."""
        rows = self._database.execute(f"SELECT {COLUMNS} FROM jobs ORDER BY submitted_s DESC, id")  # noqa: S608
        return [_job(row) for row in rows]

    def move(self, job_id: str, before: Sequence[State], after: State, **columns: float | str | bytes) -> Job:
        """Change a job's state and other columns; raises ``Conflict`` unless it is in a state ``before``."""
        changes = {"state": after, **columns}
        assignments = ", ".join(f"{name} = :{name}" for name in changes)
        allowed = ", ".join(f"'{state}'" for state in before)
        done = self._database.execute(
            f"UPDATE jobs SET {assignments} WHERE id = :id AND state IN ({allowed})",  # noqa: S608
            {**changes, "id": job_id},
        )
        job = self.get(job_id)
        if not done.rowcount:
            raise Conflict(f"job '{job_id}' is {job.state}; expected it to be {' or '.join(before)}")
        return job

    def last_run(self, job_id: str) -> tuple[str, int]:
        """The id that the job's process has at the output, and the rows committed when it last started."""
        query = "SELECT runs_as, rows_at_start FROM jobs WHERE id = ?"
        runs_as, rows = self._database.execute(query, (job_id,)).fetchone() or ("", 0)
        return runs_as or job_id, rows

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _opened(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _database(path)
    except (sqlite3.Error, OSError) as error:
        raise StorageFailed(
            f"the list of jobs at {path} cannot be opened: {error}; jobs.directory says where it is"
        ) from error


def _database(place: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(place, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute(TABLE)
    if "runs_as" not in {column[1] for column in database.execute("PRAGMA table_info(jobs)")}:
        database.execute("ALTER TABLE jobs ADD COLUMN runs_as TEXT NOT NULL DEFAULT ''")  # of an older engine
    return database


def _job(row: tuple[str, bytes, State, float, float, float, str]) -> Job:
    job_id, request, state, submitted_s, started_s, finished_s, message = row
    decoded = msgspec.json.decode(request, type=JobRequest)
    return Job(job_id, decoded, state, submitted_s, started_s, finished_s, message)
