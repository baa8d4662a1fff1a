import os
import sys
import threading

import pytest

from engine.realtime.threads import NICER, NICEST, thread_behind_the_loop


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own elsewhere")
def test_a_thread_behind_the_loop_is_nicer_than_its_process() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    with thread_behind_the_loop("test") as executor:
        assert executor.submit(niceness).result(10) == min(niceness() + NICER, NICEST)
    assert niceness() == os.getpriority(os.PRIO_PROCESS, os.getpid())
