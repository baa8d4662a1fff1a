"""Another revision of a model while requests come in."""

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from engine.config import Serve, Slo
from engine.realtime.serving.app import ScoringApp
from engine.schema import Feature
from engine.scorer import Scorer
from tests.engine.realtime.running import NUMERIC, Engine, bundle, start

ROWS = {"rows": [{f"f{index}": 1 for index in range(5)}]}
PATH = "/v1/models/numeric/score"


def loaded(path: Path) -> Scorer:
    scorer = Scorer.load(path)
    scorer.warm_up()
    return scorer


@pytest.fixture
def fresh(scorers: Mapping[str, Scorer]) -> Iterator[Engine]:
    settings = Serve(port=0, slo=Slo(10_000), drain_s=5.0)
    yield from start(lambda: ScoringApp(scorers, settings), settings)


def swap(engine: Engine, scorer: Scorer) -> None:
    async def on_the_loop() -> None:
        await engine.app.swap("numeric", scorer)

    engine.run(on_the_loop())


def test_the_next_request_is_scored_by_the_new_revision(
    fresh: Engine, scorers: Mapping[str, Scorer], tmp_path: Path
) -> None:
    before = fresh.ask("POST", PATH, ROWS)
    doubled = loaded(bundle(tmp_path, "numeric", NUMERIC, scale=2.0))
    swap(fresh, doubled)
    after = fresh.ask("POST", PATH, ROWS)
    assert (before.json["scores"], after.json["scores"]) == ([10.0], [20.0])
    assert before.headers["tandem-revision"] == scorers["numeric"].revision[:12]
    assert after.headers["tandem-revision"] == doubled.revision[:12]


def test_the_new_revision_may_have_other_features(fresh: Engine, tmp_path: Path) -> None:
    wider = loaded(bundle(tmp_path, "numeric", (*NUMERIC, Feature("f4", "int8"))))
    swap(fresh, wider)
    assert fresh.ask("POST", PATH, ROWS).json["scores"] == [15.0]
    assert len(fresh.ask("GET", "/v2/models/numeric").json["inputs"]) == 5


def test_every_request_during_swaps_is_answered_by_the_revision_it_names(
    fresh: Engine, scorers: Mapping[str, Scorer], tmp_path: Path
) -> None:
    doubled = loaded(bundle(tmp_path, "numeric", NUMERIC, scale=2.0))
    expected = {scorers["numeric"].revision[:12]: [10.0], doubled.revision[:12]: [20.0]}
    wrong, ended = [], threading.Event()

    def ask_on() -> None:
        while not ended.is_set():
            answer = fresh.ask("POST", PATH, ROWS).json
            if answer.get("scores") != expected.get(answer.get("revision")):
                wrong.append(json.dumps(answer))

    askers = [threading.Thread(target=ask_on) for _ in range(4)]
    for asker in askers:
        asker.start()
    for turn in range(20):
        swap(fresh, scorers["numeric"] if turn % 2 else doubled)
        fresh.ask("POST", PATH, ROWS)
    ended.set()
    for asker in askers:
        asker.join()
    assert wrong == []
