"""Fixtures that more than one folder uses, and which tests run where when several processes share them."""

import functools
import os
import re
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from engine import ray_compat

# Some test modules import Ray at their top; its flags must be there first, and every test run
# has HAProxy's files and ports to itself.
ray_compat.prepare()

# Tests keep no tables in the user's cache, but for those that try just that.
os.environ["TANDEM_CACHE_DIR"] = ""

ROOT = Path(__file__).parent.parent
ASKS_FOR_RAY = re.compile(r"mark\.ray|\b(ray_pool|lane)\b[,:)]")
"""The marker, or a fixture that stands on Ray."""
RAY = ExitStack()
"""Ends Ray and what stands on it: an idle pool takes an eighth of a core."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes give one all tests of a module, and one all modules of Ray: one cluster."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return ByModule(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the tests of Ray, and then in several processes with what takes long, lest it be last."""
    several = hasattr(config, "workerinput")
    slow = {group_of(item.nodeid) for item in items if several and item.get_closest_marker("slow")}
    items.sort(key=lambda item: (group_of(item.nodeid) != "ray", group_of(item.nodeid) not in slow))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End Ray after the last of its tests, not after the last of all."""
    if nextitem is None or group_of(nextitem.nodeid) != "ray":
        RAY.close()


@functools.cache
def group_of(nodeid: str) -> str:
    """The module of a test, or ``ray``."""
    module = nodeid.partition("::")[0]
    return "ray" if ASKS_FOR_RAY.search((ROOT / module).read_text()) else module


@pytest.fixture(scope="session")
def ray_cluster() -> None:
    """One Ray for all its tests, on ports and in a directory of its own.

    Four CPUs on paper, so that replicas and a batch job find room on two cores, and a GPU, so that
    it can be seen who asks for one.
    """
    import ray

    directory = tempfile.mkdtemp(prefix="tandem-ray-", dir="/tmp")
    RAY.callback(shutil.rmtree, directory, ignore_errors=True)
    RAY.callback(ray.shutdown)
    ray.init(
        **ray_compat.local_cluster_options(),
        num_cpus=4,
        num_gpus=1,
        object_store_memory=256 << 20,
        _temp_dir=directory,
    )
