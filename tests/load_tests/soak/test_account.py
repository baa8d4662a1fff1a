import pytest

from load_tests.soak.account import Account, Log, account_of, by_second


def log_of(*requests: tuple[float, float, int], n_sent: int | None = None) -> Log:
    log = Log(n_sent=len(requests) if n_sent is None else n_sent)
    for sent_s, ended_s, status in requests:
        log.add(sent_s, ended_s, status, 0, "why")
    return log


def test_every_request_is_counted_once() -> None:
    log = log_of((0.0, 0.1, 200), (0.1, 0.2, 429), (0.2, 0.3, 504), (0.3, 0.4, 500), (5.0, 5.2, 0), n_sent=6)
    assert account_of(log, [5.1]) == Account(sent=6, answered=1, refused=2, killed=1, lost=1, missing=1)


@pytest.mark.parametrize(
    ("sent_s", "ended_s", "excused"),
    [
        (9.0, 9.9, False),  # over before the kill
        (9.0, 10.1, True),  # under way at the kill
        (10.5, 10.6, True),  # sent to a socket whose process was ending
        (11.5, 11.6, False),  # long after
    ],
)
def test_a_failure_is_excused_only_around_a_kill(sent_s: float, ended_s: float, excused: bool) -> None:
    account = account_of(log_of((sent_s, ended_s, 0)), [10.0])
    assert (account.killed, account.lost) == ((1, 0) if excused else (0, 1))


def test_nothing_excuses_a_failure_without_a_kill() -> None:
    assert account_of(log_of((0.0, 0.1, 0)), []).lost == 1


def test_an_empty_log_adds_up_to_nothing() -> None:
    assert account_of(Log(), [1.0]) == Account(0, 0, 0, 0, 0, 0)
    assert by_second(Log()) == ()


def test_requests_count_in_the_second_in_which_they_end() -> None:
    quiet, busy = by_second(log_of((0.5, 1.5, 200), (1.0, 1.2, 429), (1.1, 1.3, 0)))
    assert (quiet.answered, quiet.p99_s) == (0, None)
    assert (busy.answered, busy.refused, busy.failed, busy.p50_s) == (1, 1, 1, 1.0)


def test_reasons_of_failures_are_kept_but_not_without_end() -> None:
    log = log_of(*((0.0, 1.0, 500) for _ in range(1000)), (0.0, 1.0, 429))
    assert 0 < len(log.losses) < 1000
    assert log.losses[0] == (0.0, 1.0, "why")
