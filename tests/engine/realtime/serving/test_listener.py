import socket

import pytest

from engine.errors import PortTaken
from engine.realtime.serving.listener import ensure_free, open_listener


def test_a_taken_port_is_said_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for call in (
            lambda: ensure_free("127.0.0.1", port),
            lambda: open_listener("127.0.0.1", port, shared=True),
        ):
            with pytest.raises(PortTaken, match=rf"127\.0\.0\.1:{port}"):
                call()


@pytest.mark.parametrize("host", ["nowhere.invalid", "203.0.113.1"])
def test_an_address_of_another_machine_is_no_matter_of_the_port(host: str) -> None:
    with pytest.raises(PortTaken, match="choose another --host"):
        open_listener(host, 0, shared=False)


def test_a_port_that_another_engine_shares_is_not_free() -> None:
    with open_listener("127.0.0.1", 0, shared=True) as other, pytest.raises(PortTaken):
        ensure_free("127.0.0.1", other.getsockname()[1])


def test_replicas_share_a_port() -> None:
    with open_listener("127.0.0.1", 0, shared=True) as first:
        port = first.getsockname()[1]
        with open_listener("127.0.0.1", port, shared=True) as second:
            assert second.getsockname()[1] == port


def test_a_port_just_left_is_free() -> None:
    with open_listener("127.0.0.1", 0, shared=False) as listener:
        listener.setblocking(True)
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = listener.accept()
        accepted.close()
        client.close()
    ensure_free("127.0.0.1", port)


def test_an_unknown_host_is_said() -> None:
    with pytest.raises(PortTaken, match=r"no-such-host\.invalid"):
        open_listener("no-such-host.invalid", 0, shared=False)
