from itertools import pairwise

from load_tests.soak.schedule import plan_events


def test_ten_minutes_hold_ten_reloads_five_kills_and_four_jobs_in_order() -> None:
    events = plan_events(600, on_ray=True)
    whats = [event.what for event in events]
    assert {what: whats.count(what) for what in ("reload", "kill", "job")} == {
        "reload": 10,
        "kill": 5,
        "job": 4,
    }
    assert all(before.at_s <= after.at_s for before, after in pairwise(events))
    assert 0 < events[0].at_s < events[-1].at_s < 600


def test_a_short_run_still_does_each_thing_once() -> None:
    assert sorted(event.what for event in plan_events(15, on_ray=True)) == ["job", "kill", "reload"]


def test_an_engine_without_ray_is_neither_reloaded_nor_killed() -> None:
    assert {event.what for event in plan_events(3600, on_ray=False)} == {"job"}
