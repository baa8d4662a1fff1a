"""Tree ensembles on the forest kernels."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.cache_folder import cache_folder
from engine.backends.device import on_device
from engine.bundle import Bundle, Device
from engine.errors import InvalidBundle, InvalidConfig
from kernels.forests.binning import Unsuited
from kernels.forests.choice import Choice, choose
from kernels.forests.counting import Counting
from kernels.forests.ending import sum_dtype
from kernels.forests.forest import Forest
from kernels.forests.kept_choice import kept_choice
from kernels.forests.soundness import fault
from kernels.gpu.crossover import Kernel

FILE = "forest.npz"


class ForestBackend:
    """A forest and the kernel that scores it."""

    def __init__(self, forest: Forest, kernel: Kernel) -> None:
        self.n_outputs = forest.n_outputs
        self.margin_dtype = sum_dtype(forest)
        self._kernel = kernel
        self.score_columns = self._kernel.score_columns

    @cached_property
    def score_rows(self) -> Callable[[NDArray[Any], NDArray[Any]], None]:
        """The kernel's, whose machine code is loaded when it is first asked for."""
        return self._kernel.score_rows

    @property
    def name(self) -> str:
        """The kernel's name."""
        return self._kernel.name


def load(bundle: Bundle, device: Device = "cpu") -> ForestBackend:
    """The backend of a bundle of kind ``forest``; raises ``InvalidBundle``, ``Failed`` without the device."""
    forest, kernels = _chosen(bundle)
    dtype = bundle.manifest.schema.dtype
    kernel = on_device(
        kernels,
        lambda: _twin(forest, dtype),
        device,
        n_features=forest.n_features,
        n_outputs=forest.n_outputs,
        dtype=dtype,
        margin_dtype=sum_dtype(forest),
    )
    return ForestBackend(forest, kernel)


def load_counting(bundle: Bundle) -> tuple[ForestBackend, Counting]:
    """The backend on the CPU, and what counts the bins of the rows it scores.

    Raises ``InvalidBundle``, and ``InvalidConfig`` for a forest too large for the kernels that make bins.
    """
    forest, kernels = _chosen(bundle)
    try:
        counting = Counting(kernels, forest, bundle.manifest.schema.dtype)
    except Unsuited as error:
        raise InvalidConfig(
            f"the forest of bundle {bundle.label} is scored by {kernels.name}, which makes no bins to count;"
            " load it without count_bins"
        ) from error
    return ForestBackend(forest, counting), counting


def _chosen(bundle: Bundle) -> tuple[Forest, Choice]:
    """The bundle's forest and the kernels chosen for it."""
    arrays = bundle.arrays(FILE)
    try:
        forest = Forest.of_arrays(arrays)
    except KeyError as error:
        raise InvalidBundle(f"expected {error} in '{FILE}' of bundle {bundle.label}") from error
    if wrong := fault(forest):
        raise InvalidBundle(f"'{FILE}' of bundle {bundle.label} holds no sound forest: {wrong}")
    n_features = len(bundle.manifest.schema.features)
    if forest.n_features != n_features:
        raise InvalidBundle(
            f"expected {n_features} columns by the schema of bundle {bundle.label},"
            f" its forest has {forest.n_features}"
        )
    dtype = bundle.manifest.schema.dtype
    folder = cache_folder()
    if folder is None:
        return forest, choose(forest, dtype)
    file_digest = hashlib.sha256(bundle.files[FILE]).hexdigest()
    return forest, kept_choice(forest, dtype, file_digest, folder / "tables")


def _twin(forest: Forest, dtype: np.dtype) -> Kernel:
    from kernels.gpu.choice import choose as choose_twin

    return choose_twin(forest, dtype)
