import asyncio

import pytest

from engine.config import Model
from engine.realtime.replicas import replica
from engine.realtime.replicas.replica import Replica
from engine.realtime.replicas.revisions import Revisions


def test_a_replica_that_cannot_load_what_the_others_have_serves_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def adopt(self: Replica, revisions: Revisions) -> int:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(replica, "stored", lambda pool: Revisions({"x": Model("/x")}, 3))
    monkeypatch.setattr(Replica, "adopt", adopt)
    behind = Replica.__new__(Replica)
    behind._pool = "tandem"
    asyncio.run(behind.check_health())
    assert [record.getMessage() for record in caplog.records] == ["generation 3 was not loaded: a bug"]
