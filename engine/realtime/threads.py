"""Threads that work for the event loop, and stand back for it.

Where there are fewer cores than threads that want one, the kernel shares them out evenly. But the loop
has a hundred short things to do, a refusal among them, while a batch takes as long as it takes: a loop
that waits for a core keeps everybody waiting.
"""

import contextlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

NICER = 5
"""Steps of niceness below the loop: a third of its weight."""
NICEST = 19


def thread_behind_the_loop(name: str) -> ThreadPoolExecutor:
    """An executor of one thread, which is nicer than its process where the system has that (Linux)."""
    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_stand_back)


def _stand_back() -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            nicer = min(os.getpriority(os.PRIO_PROCESS, 0) + NICER, NICEST)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nicer)
