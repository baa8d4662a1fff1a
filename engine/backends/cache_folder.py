"""Where this user's derived files are kept between processes: nothing that could not be made again."""

import os
from pathlib import Path

VARIABLE = "TANDEM_CACHE_DIR"


def cache_folder() -> Path | None:
    """``$TANDEM_CACHE_DIR``, else ``tandem`` in the user's cache directory; None if the variable is empty."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "tandem"
