"""How long a request lay unread: the queue in the sockets, before every queue of ours.

By the loop's own clock each request comes when it is read. Under more load than the loop can bear that is
long after the client sent it, and deadlines counted from there promise what is broken already. Linux
knows better: ``TCP_INFO`` tells when a socket last received something.
"""

import socket
import sys

STEP_S = 0.004
"""A step of the kernel's clock: less than this it cannot tell."""
INFO_BYTES = 56
_LAST_RECEIVED = slice(52, 56)
"""Where ``tcpi_last_data_recv`` is in ``struct tcp_info``: milliseconds, in steps of the kernel's clock."""


def unread_s(of: socket.socket) -> float:
    """Seconds since a TCP socket last received something, to about 4 ms; 0 where nobody knows.

    Asked when a request is complete, it is how long the request's last part waited for the loop.
    """
    if sys.platform != "linux":
        return 0.0
    try:
        info = of.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
    except OSError:  # closed already, or no TCP
        return 0.0
    return int.from_bytes(info[_LAST_RECEIVED], sys.byteorder) / 1e3
