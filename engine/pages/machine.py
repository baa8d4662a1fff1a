"""On what machine, with what versions, were these numbers made?"""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = ("tandem-scoring", "ray", "pyarrow", "polars", "numba", "numpy", "lightgbm", "locust")


def machine(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Processor, memory, system and versions, as a page's table shows them."""
    n_cores = usable_cores()
    found = {
        "Processor": f"{processor()}, {n_cores} {'core' if n_cores == 1 else 'cores'} usable",
        "Memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "System": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "Python": platform.python_version(),
    }
    return found | {package: name for package in packages if (name := installed(package))}


def installed(package: str) -> str | None:
    """A package's version, ``None`` where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's name as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
