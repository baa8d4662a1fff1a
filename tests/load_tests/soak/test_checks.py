"""A healthy soak holds; each fault in turn fails the check that names it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from load_tests.soak.account import Account, Second
from load_tests.soak.beside import JobRun
from load_tests.soak.checks import checks_of
from load_tests.soak.growth import MIB, growths_of
from load_tests.soak.looks import Look, Moment
from load_tests.soak.page import write_soak_page
from load_tests.soak.result import Kill, Reload, Report, Setting, Soak


def moments(**leak: float) -> tuple[Moment, ...]:
    """A minute of a server and two replicas; ``leak`` is what each replica gains a second."""

    def look(pid: int, role: str, at: int) -> Look:
        gain = leak if role == "replica" else {}
        rss = 300 * MIB + int(gain.get("rss", 0) * at)
        descriptors, threads = (int(n + gain.get(name, 0) * at) for name, n in (("fds", 40), ("threads", 30)))
        return Look(pid, role, rss, descriptors, threads)

    processes = ((1, "server"), (2, "replica"), (3, "replica"), (0, "Ray and jobs"))
    return tuple(
        Moment(float(at), tuple(look(pid, role, at) for pid, role in processes), 0.0, 10.0 * at)
        for at in range(60)
    )


def soak(**changes: Any) -> Soak:
    healthy = Soak(
        setting=Setting("on Ray", 2, 60.0, 10.0, 4, "python -m load_tests.soak"),
        account=Account(sent=600, answered=590, refused=5, killed=5, lost=0, missing=0),
        by_kind={"rows × 1": 600},
        losses=(),
        n_answers=2,
        n_scores=2,
        seconds=(Second(0, 590, 5, 5, 0.001, 0.002),),
        moments=moments(),
        reloads=(Reload(20.0, 0.2, "reloaded: late"),),
        kills=(Kill(40.0, 2, 4.0),),
        jobs=(JobRun(5.0, 10.0, 1000, "scores", ""),),
        in_flight_after=0.0,
        counted=597.0,
        is_whole=True,
    )
    return msgspec.structs.replace(healthy, **changes)


def failed(seen: Soak) -> list[str]:
    checks = checks_of(seen, growths_of(seen.moments, seen.setting.n_replicas))
    return [check.name for check in checks if not check.holds]


def test_a_healthy_soak_holds() -> None:
    assert failed(soak()) == []


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("every request accounted for", {"account": Account(600, 590, 5, 4, 1, 0)}),
        ("every request accounted for", {"account": Account(600, 590, 5, 4, 0, 1)}),
        ("the engine counted the same", {"counted": 605.0}),
        ("the engine counted the same", {"counted": None}),
        ("equal requests have equal answers", {"n_answers": 3}),
        ("every wire gives the same bits", {"n_scores": 3}),
        ("in flight is back at 0", {"in_flight_after": 1.0}),
        ("in flight is back at 0", {"in_flight_after": None}),
        ("every reload took effect", {"reloads": (Reload(20.0, 0.2, "not reloaded: no such bundle"),)}),
        (
            "every reload took effect",
            {"reloads": (Reload(20.0, 0.2, "reloaded: nothing, no bundle changed"),)},
        ),
        ("killed replicas came back", {"kills": (Kill(40.0, 2, None),)}),
        ("killed replicas came back", {"kills": ()}),
        ("batch jobs are complete", {"jobs": (JobRun(5.0, 10.0, 1000, "scores", "a row is missing"),)}),
        ("batch jobs are complete", {"jobs": ()}),
        ("memory is flat", {"moments": moments(rss=MIB)}),
        ("no leaked descriptors or threads", {"moments": moments(fds=0.2)}),
        ("no leaked descriptors or threads", {"moments": moments(threads=0.2)}),
        ("the engine was whole at the end and left nothing", {"is_whole": False}),
        ("the engine was whole at the end and left nothing", {"leftovers": ("raylet (77)",)}),
    ],
)
def test_a_fault_fails_the_check_that_names_it(check: str, changes: dict[str, Any]) -> None:
    assert failed(soak(**changes)) == [check]


def test_an_engine_that_mostly_refuses_was_not_soaked() -> None:
    assert failed(soak(account=Account(600, 100, 495, 5, 0, 0))) == ["the load was carried"]


def test_a_run_without_a_single_request_or_look_is_not_green() -> None:
    names = failed(soak(account=Account(0, 0, 0, 0, 0, 0), moments=(), n_answers=0, n_scores=0, counted=0.0))
    assert set(names) >= {
        "every request accounted for",
        "the load was carried",
        "every wire gives the same bits",
        "memory is flat",
    }


def test_without_ray_neither_reloads_nor_kills_are_asked_for() -> None:
    local = soak(
        setting=Setting("--local", 0, 60.0, 10.0, 4, ""), reloads=(), kills=(), n_answers=1, n_scores=1
    )
    assert failed(local) == []


def test_connections_that_move_from_a_killed_replica_to_another_are_no_leak() -> None:
    moved = tuple(
        msgspec.structs.replace(
            moment,
            looks=tuple(
                msgspec.structs.replace(
                    look, n_descriptors=look.n_descriptors + {2: -1, 3: 1}.get(look.pid, 0) * at
                )
                for look in moment.looks
            ),
        )
        for at, moment in enumerate(moments())
    )
    assert failed(soak(moments=moved)) == []


def test_the_page_carries_its_plot_and_names_what_failed(tmp_path: Path) -> None:
    seen = soak(in_flight_after=3.0)
    growths = growths_of(seen.moments, 2)
    page = write_soak_page(
        Report(checks_of(seen, growths), growths, seen), tmp_path / "soak.html"
    ).read_text()
    assert "Failed: in flight is back at 0." in page
    assert page.count("<svg") == 2, "it is there for narrow windows too"
    assert "<link" not in page
    assert "<script" not in page
