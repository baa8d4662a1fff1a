import numpy as np
import pytest

from kernels.gpu.crossover import NEVER, Crossover, crossover_rows, measured_cost


class Device:
    """Notes the sizes it was given."""

    def __init__(self, name):
        self.name, self.sizes = name, []

    def score_rows(self, X, out):
        self.sizes.append(len(out))

    def score_columns(self, columns, out):
        self.sizes.append(len(out))
        self.n_columns = len(columns)


def crossover(cpu_row_s, gpu_call_s, gpu_row_s):
    cpu, gpu = Device("cpu"), Device("gpu")
    return crossover_rows(
        cpu, gpu, lambda kernel, n: cpu_row_s * n if kernel is cpu else gpu_call_s + gpu_row_s * n
    )


def test_the_gpu_takes_over_where_it_becomes_faster():
    assert crossover(cpu_row_s=1e-6, gpu_call_s=8e-3, gpu_row_s=0) == 1 << 14


def test_a_gpu_that_is_never_faster_is_never_used():
    assert crossover(cpu_row_s=1e-8, gpu_call_s=2e-2, gpu_row_s=0) == NEVER


@pytest.mark.parametrize("n_features", [2, 150])
def test_the_cost_of_a_kernel_is_measured_at_the_size_asked_for(n_features):
    device = Device("gpu")
    assert measured_cost(n_features, 1, np.float32, np.float64)(device, 1000) > 0
    assert set(device.sizes) == {1000}
    assert device.n_columns == n_features


@pytest.mark.parametrize(("n_rows", "device"), [(1, "cpu"), (99, "cpu"), (100, "gpu"), (5000, "gpu")])
def test_a_batch_goes_to_its_device_by_either_door(n_rows, device):
    devices = {"cpu": Device("cpu"), "gpu": Device("gpu")}
    crossover = Crossover(devices["cpu"], devices["gpu"], 100)
    out = np.empty((n_rows, 1))

    crossover.score_rows(np.empty((n_rows, 2)), out)
    crossover.score_columns([np.empty(n_rows)] * 2, out)

    assert devices[device].sizes == [n_rows, n_rows]
    assert crossover.name == "cpu; from 100 rows gpu"
