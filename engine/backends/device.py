"""Which device a model's margins are computed on."""

from collections.abc import Callable
from typing import Any

import numpy as np

from engine.bundle import Device
from engine.errors import Failed
from kernels.gpu.crossover import Crossover, Kernel, crossover_rows, measured_cost

NO_GPU = "device cuda was asked for, but CUDA finds no GPU; install tandem-scoring[gpu] or use device cpu"


def on_device(
    cpu: Kernel,
    twin: Callable[[], Kernel],
    device: Device,
    *,
    n_features: int,
    n_outputs: int,
    dtype: np.dtype[Any],
    margin_dtype: np.dtype[Any],
) -> Kernel:
    """The kernel to score with.

    Args:
        cpu: The kernel on the CPU.
        twin: Makes its CUDA twin, which gives the same bits.
        device: What the user asked for.
        n_features: Columns of the batches to come; the crossover is measured on such.
        n_outputs: Margins per row.
        dtype: Of the features.
        margin_dtype: Of the margins.

    Raises ``Failed`` if ``cuda`` was asked for and no GPU is there.
    """
    if device == "cpu":
        return cpu
    from kernels.gpu.device import gpu_is_available

    if not gpu_is_available():
        if device == "auto":
            return cpu
        raise Failed(NO_GPU)
    gpu = twin()
    if device == "cuda":
        return gpu
    cost_s = measured_cost(n_features, n_outputs, dtype, margin_dtype)
    return Crossover(cpu, gpu, crossover_rows(cpu, gpu, cost_s))
