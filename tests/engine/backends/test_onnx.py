"""Graphs score as in ONNX Runtime, whatever the batch; those that do not fit their schema are refused."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from engine.backends.onnx import OnnxBackend, compare, gpu_is_usable, load
from engine.backends.onnx_cuda import CudaOnnxBackend, DeviceBucket
from engine.backends.onnx_ports import input_ports, output_port
from engine.backends.onnx_session import CAPACITIES, HostBucket, session_options
from engine.bundle import Bundle, Link, Manifest, Provenance
from engine.errors import Failed, InvalidBundle, ScoringFailed
from engine.schema import Feature, Output, Schema
from kernels.gpu.device import gpu_is_available

FLOAT, DOUBLE, INT64, STRING = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.STRING
NUMBERS = Schema(tuple(Feature(f"x{i}", "float32") for i in range(3)), "float32", Output(type="float32"))


def graph(inputs: list, outputs: list, nodes: list, weights: dict[str, np.ndarray] | None = None) -> bytes:
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*port) for port in inputs],
        [helper.make_tensor_value_info(*port) for port in outputs],
        tensors,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def perceptron(rows: int | str = "n", *, scaled: bool = False) -> bytes:
    """[rows, 3] → Gemm to 16 → Relu → Gemm to 2 → Softmax; ``scaled``, from a node that only CPUs have."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(3, 16)).astype(np.float32),
        "b1": random.normal(size=16).astype(np.float32),
        "w2": random.normal(size=(16, 2)).astype(np.float32),
        "b2": random.normal(size=2).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["X", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    if scaled:
        scaler = {"domain": "ai.onnx.ml", "offset": [0.1] * 3, "scale": [0.5] * 3}
        nodes = [helper.make_node("Scaler", ["X"], ["S"], **scaler), *nodes]
        nodes[1].input[0] = "S"
    return graph([("X", FLOAT, [rows, 3])], [("p", FLOAT, [rows, 2])], nodes, weights)


def backend_of(model: bytes, schema: Schema = NUMBERS) -> OnnxBackend:
    manifest = Manifest("graph", "onnx", schema, Link(), Provenance("onnx"))
    return load(Bundle(manifest, "0" * 64, {"model.onnx": model}))


def with_device_buffers(wrap: Callable[[Any], Any] = lambda session: session) -> CudaOnnxBackend:
    """What a GPU gets, its device buffers in the CPU's memory; ``wrap`` goes around the session."""
    providers = ["CPUExecutionProvider"]
    session = wrap(onnxruntime.InferenceSession(perceptron(), session_options(), providers=providers))
    inputs = input_ports(session, NUMBERS)
    bucket = partial(DeviceBucket, place="cpu")
    return CudaOnnxBackend(session, inputs, output_port(session, inputs, NUMBERS), bucket)


def scores_of(backend: OnnxBackend, X: np.ndarray) -> np.ndarray:
    out = np.full((len(X), backend.n_outputs), np.nan, backend.margin_dtype)
    backend.score_rows(X, out)
    return out


def rows_of(n_rows: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n_rows, 3)).astype(np.float32)


@pytest.mark.parametrize("n_rows", [0, 1, 2, 3, 64, 65, CAPACITIES[-1], CAPACITIES[-1] + 1, 3000])
def test_scores_are_onnx_runtimes_own(n_rows: int) -> None:
    X = rows_of(n_rows)
    session = onnxruntime.InferenceSession(perceptron(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"X": X})
    found = scores_of(backend_of(perceptron()), X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_row_scores_the_same_bits_in_every_batch_and_by_columns() -> None:
    X = rows_of(1500)
    backend = backend_of(perceptron())
    expected = scores_of(backend, X)
    for size in (1, 2, 5, 23, 64, 100, 1000):
        pieces = [scores_of(backend, X[start : start + size]) for start in range(0, len(X), size)]
        assert np.array_equal(np.concatenate(pieces), expected)
    out = np.empty_like(expected)
    backend.score_columns(tuple(np.ascontiguousarray(column) for column in X.T), out)
    assert np.array_equal(out, expected)


def test_a_call_takes_the_smallest_bucket_that_fits_a_third_of_which_is_padding_at_most() -> None:
    backend = backend_of(perceptron())
    taken = {
        n: [(stop - start, len(bucket.inputs[0][0])) for start, stop, bucket in backend._pieces(n)]
        for n in (1, 2, 5, 8, 9, 12, 13, 1024, 1500)
    }
    assert {n: capacities for n, ((_, *capacities), *_) in taken.items()} == {
        1: [2], 2: [2], 5: [6], 8: [8], 9: [12], 12: [12], 13: [16], 1024: [1024], 1500: [1024],
    }  # fmt: skip
    assert taken[1500] == [(1024, 1024), (476, 512)]
    steps = itertools.pairwise(CAPACITIES)
    assert all(smaller + 1 >= 2 / 3 * larger for smaller, larger in steps)


def test_threads_do_not_share_buffers() -> None:
    X = rows_of(6400)
    backend = backend_of(perceptron())
    pieces = [X[start : start + 64] for start in range(0, len(X), 64)]
    with ThreadPoolExecutor(4) as pool:
        scored = list(pool.map(lambda piece: scores_of(backend, piece), pieces * 5))
    assert np.array_equal(np.concatenate(scored[:100]), scores_of(backend, X))
    assert np.array_equal(np.concatenate(scored[400:]), scores_of(backend, X))


@pytest.mark.parametrize("n_rows", [0, 1, 5, 64, 1000, 20_000])
def test_buffers_in_a_devices_memory_give_the_same_scores(n_rows: int) -> None:
    X = rows_of(n_rows)
    assert np.array_equal(scores_of(with_device_buffers(), X), scores_of(backend_of(perceptron()), X))


def test_buffers_in_a_devices_memory_serve_one_thread_at_a_time() -> None:
    backend = with_device_buffers()
    X = rows_of(6400)
    pieces = [X[start : start + 64] for start in range(0, len(X), 64)]
    with ThreadPoolExecutor(4) as pool:
        scored = list(pool.map(lambda piece: scores_of(backend, piece), pieces))
    assert np.array_equal(np.concatenate(scored), scores_of(backend, X))


class ThreadsOfRuns:
    """A session that notes in which threads it runs."""

    def __init__(self, session):
        self._session, self.threads = session, set()

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run_with_iobinding(self, *arguments):
        self.threads.add(threading.get_ident())
        self._session.run_with_iobinding(*arguments)


def test_a_graph_is_captured_and_replayed_in_one_thread_whoever_asks() -> None:
    backend = with_device_buffers(ThreadsOfRuns)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n_rows: scores_of(backend, rows_of(n_rows)), range(1, 40)))
    threads = backend._session.threads
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_session_that_has_to_copy_gets_its_rows_in_each_call() -> None:
    session = onnxruntime.InferenceSession(perceptron(), session_options())
    inputs = input_ports(session, NUMBERS)
    output = output_port(session, inputs, NUMBERS)
    backend = CudaOnnxBackend(session, inputs, output, partial(HostBucket, bound=False))
    for n_rows in (5, 1500):
        X = rows_of(n_rows)
        assert np.array_equal(scores_of(backend, X), scores_of(backend_of(perceptron()), X))


def test_a_device_with_scores_of_its_own_is_not_used() -> None:
    cpu = backend_of(perceptron())
    compare(cpu, with_device_buffers(), NUMBERS)

    class Stale(OnnxBackend):
        """Answers the scores of the first rows that it saw, as a session does that is not told of others."""

        def score_rows(self, X, out):
            self.first = getattr(self, "first", X)
            super().score_rows(self.first, out)

    with pytest.raises(Failed, match=r"of (\d+) of 256 random rows differ by more than 1%.*use device cpu"):
        compare(
            cpu, Stale(cpu._session, cpu._inputs, output_port(cpu._session, cpu._inputs, NUMBERS)), NUMBERS
        )


@pytest.mark.skipif(not gpu_is_usable(), reason="needs a GPU")
@pytest.mark.parametrize("scaled", [False, True], ids=["all nodes on the GPU", "a node on the CPU"])
def test_on_a_gpu_scores_are_the_cpus_but_for_rounding_and_no_batch_changes_their_bits(scaled: bool) -> None:
    model = perceptron(scaled=scaled)
    manifest = Manifest("graph", "onnx", NUMBERS, Link(), Provenance("onnx"))
    backend = load(Bundle(manifest, "0" * 64, {"model.onnx": model}), "cuda")
    X = rows_of(3000)
    found = scores_of(backend, X)

    assert backend.name == "ONNX Runtime (CUDA)"
    np.testing.assert_allclose(found, scores_of(backend_of(model), X), rtol=1e-4, atol=1e-6)
    for size in (1, 2, 7, 64, 1000):
        pieces = [scores_of(backend, X[start : start + size]) for start in range(0, len(X), size)]
        assert np.array_equal(np.concatenate(pieces), found)
    out = np.empty_like(found)
    backend.score_columns(tuple(np.ascontiguousarray(column) for column in X.T), out)
    assert np.array_equal(out, found)


@pytest.mark.skipif(gpu_is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused() -> None:
    manifest = Manifest("graph", "onnx", NUMBERS, Link(), Provenance("onnx"))
    bundle = Bundle(manifest, "0" * 64, {"model.onnx": perceptron()})
    assert load(bundle, "auto").name == "ONNX Runtime (CPU)"
    with pytest.raises(Failed, match=r"install tandem-scoring\[gpu\]"):
        load(bundle, "cuda")


def test_a_graph_of_a_fixed_number_of_rows_is_padded_to_it() -> None:
    X = rows_of(11)
    assert np.array_equal(scores_of(backend_of(perceptron(4)), X), scores_of(backend_of(perceptron()), X))


def test_named_inputs_take_the_features_in_order() -> None:
    schema = Schema((Feature("a", "float64"), Feature("b", "int64", required=True)), output=Output("y"))
    nodes = [helper.make_node("Cast", ["b"], ["c"], to=DOUBLE), helper.make_node("Sub", ["a", "c"], ["y"])]
    model = graph([("a", DOUBLE, ["n", 1]), ("b", INT64, ["n", 1])], [("y", DOUBLE, ["n", 1])], nodes)
    X = np.array([[0.5, 3.0], [np.nan, 2.0]])
    assert str(scores_of(backend_of(model, schema), X).tolist()) == "[[-2.5], [nan]]"


def test_strings_get_the_word_of_their_code_and_nothing_for_missing() -> None:
    encoder = helper.make_node(
        "LabelEncoder",
        ["carrier"],
        ["y"],
        domain="ai.onnx.ml",
        keys_strings=["UA", "AA", ""],
        values_floats=[10.0, 20.0, 30.0],
        default_float=-1.0,
    )
    model = graph([("carrier", STRING, ["n"])], [("y", FLOAT, ["n"])], [encoder])
    schema = Schema((Feature("carrier", "category", ("AA", "UA", "ZZ")),), "float32", Output("y", "float32"))
    X = np.array([[0], [1], [2], [np.nan], [3]], np.float32)
    expected = [[20.0], [10.0], [-1.0], [30.0], [30.0]]
    assert scores_of(backend_of(model, schema), X).tolist() == expected
    out = np.empty((5, 1), np.float32)
    backend_of(model, schema).score_columns((X[:, 0],), out)
    assert out.tolist() == expected


def test_the_output_is_the_one_the_schema_names_or_the_last_of_floats() -> None:
    nodes = [
        helper.make_node("ReduceSum", ["X"], ["total"], keepdims=1),
        helper.make_node("ReduceMax", ["X"], ["y"], axes=[1], keepdims=0),
        helper.make_node("ReduceMin", ["X"], ["z"], axes=[1], keepdims=0),
    ]
    model = graph([("X", FLOAT, ["n", 3])], [("y", FLOAT, ["n"]), ("z", FLOAT, ["n"])], nodes[1:])
    named = Schema(NUMBERS.features, "float32", Output("y", "float32"))
    X = np.array([[1, 2, 3]], np.float32)
    assert scores_of(backend_of(model, named), X).tolist() == [[3.0]]
    assert scores_of(backend_of(model), X).tolist() == [[1.0]]


def test_an_output_that_is_not_one_row_per_row_is_refused() -> None:
    node = helper.make_node("Unsqueeze", ["X", "axis"], ["y"])
    model = graph([("X", FLOAT, ["n", 3])], [("y", FLOAT, ["m", "n", 3])], [node], {"axis": np.array([0])})
    with pytest.raises(InvalidBundle, match=r"expected one row of scores per row, got the shape \[1, 2, 3\]"):
        backend_of(model)


def test_a_graph_of_other_width_than_the_schema_is_refused() -> None:
    schema = Schema((*NUMBERS.features, Feature("more")))
    with pytest.raises(InvalidBundle, match="expected 3 features for the graph, got 4 in its schema"):
        backend_of(perceptron(), schema)


def test_an_integer_input_needs_a_required_feature() -> None:
    model = graph(
        [("X", INT64, ["n", 1])], [("y", FLOAT, ["n", 1])], [helper.make_node("Cast", ["X"], ["y"], to=FLOAT)]
    )
    with pytest.raises(InvalidBundle, match="int64, which has no missing value; expected feature 'x' to be"):
        backend_of(model, Schema((Feature("x", "int64"),)))


def test_what_the_runtime_cannot_read_is_refused() -> None:
    with pytest.raises(InvalidBundle, match="ONNX Runtime does not read the graph of graph@000000000000"):
        backend_of(perceptron()[:100])


def test_a_failure_inside_the_graph_is_the_engines_own_error() -> None:
    shape = np.array([3, 1], np.int64)
    gather = helper.make_node("Gather", ["w", "i"], ["y"])
    cast = helper.make_node("Cast", ["X"], ["i"], to=INT64)
    model = graph(
        [("X", FLOAT, ["n"])], [("y", FLOAT, ["n"])], [cast, gather], {"w": shape.astype(np.float32)}
    )
    backend = backend_of(model, Schema((Feature("x", "float32"),), "float32", Output(type="float32")))
    with pytest.raises(ScoringFailed, match="ONNX Runtime failed on rows that keep the schema"):
        scores_of(backend, np.array([[7.0]], np.float32))
