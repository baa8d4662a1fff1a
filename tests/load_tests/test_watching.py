"""The watcher of the machine, in a process of its own."""

import subprocess
import sys

INTERRUPTED = """
import multiprocessing, os, signal
from load_tests.watching import watching

if __name__ == "__main__":
    try:
        with watching("127.0.0.1", 9):
            (watcher,) = multiprocessing.active_children()
            os.killpg(0, signal.SIGINT)  # as a terminal does
    except KeyboardInterrupt:
        print("watcher ended with", watcher.exitcode)
"""


def test_ctrl_c_leaves_it_to_the_block_to_end_the_watcher(tmp_path):
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, start_new_session=True
    )
    assert (done.stdout, done.stderr) == ("watcher ended with 0\n", "")


KILLED = """
import signal
from load_tests.watching import watching

if __name__ == "__main__":
    with watching("127.0.0.1", 9):
        print("watched", flush=True)
        signal.pause()
"""


def test_the_watcher_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "watched\n"
    parent.kill()
    parent.communicate(timeout=60)  # which waits for whoever else holds its stdout
