"""Fixtures that more than one folder uses, and which tests run where when several processes share them."""

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from engine import ray_compat

# Some test modules import Ray at their top; its flags must be there first, and every test run
# has HAProxy's files and ports to itself.
ray_compat.prepare()

# Tests keep no tables in the user's cache, but for those that try just that.
os.environ["TANDEM_CACHE_DIR"] = ""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several processes, keep a module's tests in one, and all tests of Ray, which have one cluster.

    What takes long begins first, so that no process is left with it alone in the end.
    """
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        group = "ray" if item.get_closest_marker("ray") else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))
    long_groups = {group_of(item) for item in items if item.get_closest_marker("slow")} | {"ray"}
    items.sort(key=lambda item: (group_of(item) != "ray", group_of(item) not in long_groups))


def group_of(item: pytest.Item) -> str:
    marker = item.get_closest_marker("xdist_group")
    assert marker
    return str(marker.args[0])


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray for the whole run, on ports and in a directory of its own.

    Four CPUs on paper, so that replicas and a batch job find room on two cores, and a GPU, so that
    it can be seen who asks for one.
    """
    import ray

    directory = tempfile.mkdtemp(prefix="tandem-ray-", dir="/tmp")
    ray.init(
        **ray_compat.local_cluster_options(),
        num_cpus=4,
        num_gpus=1,
        object_store_memory=256 << 20,
        _temp_dir=directory,
    )
    yield
    ray.shutdown()
    shutil.rmtree(directory, ignore_errors=True)
