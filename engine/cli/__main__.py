"""The ``tandem`` command's first steps: Ctrl-C ends it quietly even while its modules load."""

import os
import signal


def main() -> None:
    """Load the command line and run it; exit code 130 if interrupted before it can say more."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from engine.cli.app import main as run

    signal.signal(signal.SIGINT, usual)
    run()


if __name__ == "__main__":
    main()
