"""Tree ensembles on the forest kernels."""

import hashlib

import numpy as np

from engine.backends.cache_folder import cache_folder
from engine.backends.device import on_device
from engine.bundle import Bundle
from engine.config import Device
from engine.errors import InvalidBundle
from kernels.forests.choice import Choice, choose
from kernels.forests.forest import Forest
from kernels.forests.kept_choice import kept_choice
from kernels.forests.soundness import fault
from kernels.gpu.crossover import Kernel

FILE = "forest.npz"


class ForestBackend:
    """A forest and the kernel chosen for it on a device."""

    def __init__(self, forest: Forest, kernel: Choice, dtype: np.dtype, device: Device = "cpu") -> None:
        self.n_outputs = forest.n_outputs
        self.margin_dtype = np.dtype(np.float32 if forest.single else np.float64)
        self._kernel = on_device(
            kernel,
            lambda: _twin(forest, dtype),
            device,
            n_features=forest.n_features,
            n_outputs=forest.n_outputs,
            dtype=dtype,
            margin_dtype=self.margin_dtype,
        )
        self.score_rows = self._kernel.score_rows
        self.score_columns = self._kernel.score_columns

    @property
    def name(self) -> str:
        """The kernel's name."""
        return self._kernel.name


def load(bundle: Bundle, device: Device = "cpu") -> ForestBackend:
    """The backend of a bundle of kind ``forest``; raises ``InvalidBundle``, ``Failed`` without the device."""
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
        return ForestBackend(forest, choose(forest, dtype), dtype, device)
    file_digest = hashlib.sha256(bundle.files[FILE]).hexdigest()
    return ForestBackend(forest, kept_choice(forest, dtype, file_digest, folder / "tables"), dtype, device)


def _twin(forest: Forest, dtype: np.dtype) -> Kernel:
    from kernels.gpu.choice import choose as choose_twin

    return choose_twin(forest, dtype)
