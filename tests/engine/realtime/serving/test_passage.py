import asyncio
import gzip
import sys
import threading
from collections.abc import Mapping

from engine.config import Serve
from engine.realtime.doors.answers import Answer
from engine.realtime.serving.app import ScoringApp
from engine.realtime.serving.passage import HttpPassage
from engine.scorer import Scorer


def test_who_leaves_while_a_body_waits_for_its_thread_leaves_nothing_of_it(
    scorers: Mapping[str, Scorer],
) -> None:
    async def scenario() -> None:
        app = ScoringApp(scorers, Serve(port=0))
        model, go_on = app.model("numeric"), threading.Event()
        model.aside.submit(go_on.wait)
        body, answers = gzip.compress(b'{"rows": []}'), list[Answer]()
        before = sys.getrefcount(body)
        passage = HttpPassage(model, 0.0, answers.append)
        passage.begin("score", {b"content-encoding": b"gzip"}, body, 1000, 1000)
        assert sys.getrefcount(body) > before
        passage.cancel()
        assert sys.getrefcount(body) == before
        go_on.set()
        await asyncio.to_thread(model.aside.shutdown)
        await asyncio.sleep(0)
        assert answers == []
        await app.close()

    asyncio.run(scenario())
