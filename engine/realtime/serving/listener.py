"""Sockets to listen on: one process alone, or the replicas of a node on one port (SO_REUSEPORT)."""

import errno
import socket

from engine.errors import PortTaken

BACKLOG = 4096
MAX_AGE_S = 300.0
"""A connection ends after this, a tenth more or less, so that clients find new replicas."""


def ensure_free(host: str, port: int, option: str = "--port") -> None:
    """Raise ``PortTaken``, which names the option, if anybody listens on the port, sharing it or not.

    A second engine would share a SO_REUSEPORT port in silence, and each would get half of the
    connections; an exclusive bind first finds it.
    """
    if port == 0:
        return
    with _socket(host) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _listen(probe, host, port, option)


def open_listener(host: str, port: int, *, shared: bool, option: str = "--port") -> socket.socket:
    """A listening, non-blocking socket.

    Args:
        host: Name or address.
        port: 0 for any free one.
        shared: Other processes of this user listen on the port as well.
        option: The command's option to change if the port is taken.

    Raises:
        PortTaken: Somebody who does not share it has it.
    """
    listener = _socket(host)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _listen(listener, host, port, option)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _socket(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)


def _listen(sock: socket.socket, host: str, port: int, option: str) -> None:
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        wrong = (
            "--host" if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL else option
        )
        raise PortTaken(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another {wrong}"
        ) from error
