"""Fixtures that more than one folder uses."""

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
