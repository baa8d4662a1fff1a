"""``python -m load_tests.kernels.gpu``: the CUDA twins beside the CPU's kernels, on a GPU.

Each twin must have the CPU's bits before it is timed, and ONNX Runtime about its scores. Times take in the
way to the device and back, as a caller has it: columns in, margins out. The CPU kernel runs on one core.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine import pack
from engine.backends.forest import FILE
from engine.bundle import read_bundle
from kernels.forests.binning import Unsuited
from kernels.forests.choice import choose
from kernels.forests.ending import sum_dtype
from kernels.forests.forest import Forest
from kernels.gpu.crossover import Kernel, call_s
from kernels.gpu.device import gpu_is_available
from kernels.linear.model import Linear
from load_tests.kernels import models

if TYPE_CHECKING:
    import onnx

SIZES = (1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1_000_000)
LINEAR, PERCEPTRON = "linear-30", "perceptron-30-512-512"
"""Not models of the kernel benchmark: their weights are drawn here."""
MODELS = (
    "100x31-30",
    "500x31-30",
    "500x63-30",
    "200x255-30",
    "flights-100x31",
    "flights-500x63",
    "xgboost-500-depth6",
    "catboost-500-depth6",
    "forest-100x1215",
    LINEAR,
    PERCEPTRON,
)
ROUNDS = 5

Times = dict[str, dict[int, float]]
"""Seconds a call takes, by kernel and number of rows."""


class DifferentBits(Exception):
    """A twin does not compute what the CPU does."""


def main() -> int:
    """Measure the models asked for and print a table of each; 1 without a GPU or with other bits."""
    options = _options()
    if not gpu_is_available():
        print("this benchmark needs a GPU, and CUDA finds none here", file=sys.stderr)
        return 1
    for name in options.models:
        try:
            times = DRAWN.get(name, partial(forest_times, name))(options.sizes)
        except DifferentBits as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        print(table(name, times), flush=True)
    return 0


def forest_times(name: str, sizes: Sequence[int]) -> Times:
    """The times of a model of the kernel benchmark."""
    model = models.load(name)
    if not model.bundle:
        raise SystemExit(f"{name}: {model.notes[0]}")
    forest = Forest.of_arrays(read_bundle(Path(model.bundle)).arrays(FILE))
    return measured(forest_kernels(forest), np.load(model.rows), margins_of(forest), sizes)


def linear_times(sizes: Sequence[int]) -> Times:
    """The times of a linear model."""
    from kernels.gpu.linear import GpuLinear

    random = np.random.default_rng(0)
    coef, intercept = random.normal(size=(1, 30)), random.normal(size=1)
    rows = random.normal(size=(max(sizes), 30)).astype(np.float32)
    kernels: list[Kernel] = [Linear(coef, intercept), GpuLinear(coef, intercept, np.float32)]
    return measured(kernels, rows, np.empty((0, 1)), sizes)


def perceptron_times(sizes: Sequence[int]) -> Times:
    """The times of two hidden layers of 512 in ONNX Runtime, whose devices agree but for rounding."""
    from engine.backends import onnx

    with tempfile.TemporaryDirectory() as folder:
        bundle = read_bundle(pack(perceptron(), name="perceptron", out=folder))
        kernels: list[Kernel] = [onnx.load(bundle, "cpu"), onnx.load(bundle, "cuda")]
    rows = np.random.default_rng(0).normal(size=(max(sizes), 30)).astype(np.float32)
    return measured(kernels, rows, np.empty((0, 1), np.float32), sizes, same=np.allclose)


def perceptron() -> "onnx.ModelProto":
    """float32[n, 30] → Gemm to 512 → Relu → Gemm to 512 → Relu → Gemm to 1 → Sigmoid."""
    import onnx
    from onnx import TensorProto, helper

    random = np.random.default_rng(0)
    nodes, weights, last = [], {}, "X"
    for layer, (width, height) in enumerate([(30, 512), (512, 512), (512, 1)]):
        weights[f"w{layer}"] = (random.normal(size=(width, height)) / np.sqrt(width)).astype(np.float32)
        weights[f"b{layer}"] = random.normal(size=height).astype(np.float32)
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        last = f"a{layer}"
        nodes.append(helper.make_node("Relu" if height > 1 else "Sigmoid", [f"z{layer}"], [last]))
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", 30])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", 1])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


DRAWN = {LINEAR: linear_times, PERCEPTRON: perceptron_times}


def forest_kernels(forest: Forest) -> list[Kernel]:
    """The kernel on the CPU, and each twin that takes the forest."""
    from kernels.gpu.binned_traversal import GpuBinnedTraversal
    from kernels.gpu.traversal import GpuTraversal

    kernels: list[Kernel] = [choose(forest, np.float32)]
    for twin in (GpuBinnedTraversal, GpuTraversal):
        with suppress(Unsuited):
            kernels.append(twin(forest, np.float32))
    return kernels


def margins_of(forest: Forest) -> NDArray[Any]:
    """An empty array [0, K] of the type of the margins."""
    return np.empty((0, forest.n_outputs), sum_dtype(forest))


def same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays of one type are equal to the bit."""
    return one.tobytes() == other.tobytes()


def measured(
    kernels: Sequence[Kernel],
    rows: NDArray[np.float32],
    margins: NDArray[Any],
    sizes: Sequence[int],
    *,
    same: Callable[[NDArray[Any], NDArray[Any]], bool] = same_bits,
) -> Times:
    """The times of the kernel on the CPU, which comes first, and of its twins.

    Kernels take turns; the best of ROUNDS calls counts. Raises ``DifferentBits`` if a twin's are not the
    ``same``.
    """
    times: Times = {kernel.name: {} for kernel in kernels}
    for n_rows in sizes:
        columns = [np.ascontiguousarray(column) for column in rows[:n_rows].T]
        out = np.empty((n_rows, margins.shape[1]), margins.dtype)
        kernels[0].score_columns(columns, out)
        expected = out.copy()
        for kernel in kernels[1:]:
            kernel.score_columns(columns, out)
            if not same(out, expected):
                raise DifferentBits(f"{kernel.name} differs from {kernels[0].name} at {n_rows:,} rows")
        for kernel in [*kernels] * ROUNDS:
            seconds = call_s(kernel, columns, out)
            times[kernel.name][n_rows] = min(seconds, times[kernel.name].get(n_rows, np.inf))
    return times


def crossover(cpu_s: Mapping[int, float], gpu_s: Mapping[int, float]) -> int | None:
    """The smallest number of rows from which on the GPU was faster; ``None`` if it was not at the largest."""
    found = None
    for n_rows in sorted(cpu_s, reverse=True):
        if gpu_s[n_rows] >= cpu_s[n_rows]:
            break
        found = n_rows
    return found


def table(model: str, times: Times) -> str:
    """The times in Markdown: ns per row, and from how many rows on a twin was faster."""
    (cpu, cpu_s), *twins = times.items()
    lines = [
        f"| {model}: ns per row | {' | '.join(f'{n:,} rows' for n in cpu_s)} | faster from |",
        "|---" * (len(cpu_s) + 2) + "|",
        f"| {cpu} | {_cells(cpu_s)} | |",
    ]
    for name, gpu_s in twins:
        start = crossover(cpu_s, gpu_s)
        lines.append(f"| {name} | {_cells(gpu_s)} | {'never' if start is None else f'{start:,} rows'} |")
    return "\n".join(lines)


def _cells(seconds: Mapping[int, float]) -> str:
    return " | ".join(f"{1e9 * s / n:,.1f}" for n, s in seconds.items())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--models", nargs="+", choices=[*models.RECIPES, *DRAWN], default=MODELS, metavar="NAME"
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, metavar="ROWS", help="rows per call")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
