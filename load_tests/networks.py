"""A dense ONNX network as dear as a benchmark wants it, on whichever machine it runs."""

import statistics
import tempfile
import timeit
from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engine.packing import pack
from engine.scorer import Scorer

N_FEATURES = 23
SEED = 11
TRIED_WIDTH = 2048
N_TIMED = 41


def network(width: int) -> onnx.ModelProto:
    """Two hidden layers of ``width`` neurons with random weights, ``[n, 23]`` to ``[n, 1]``, float32."""
    random, layers = np.random.default_rng(SEED), (N_FEATURES, width, width, 1)
    nodes, weights, name = [], [], "x"
    for layer, (n_in, n_out) in enumerate(pairwise(layers)):
        matrix = random.standard_normal((n_in, n_out), dtype=np.float32) / np.float32(np.sqrt(n_in))
        weights.append(numpy_helper.from_array(matrix, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{layer}"], [f"z{layer}"]))
        name = f"a{layer}"
        activation = "Relu" if n_out > 1 else "Sigmoid"
        nodes.append(helper.make_node(activation, [f"z{layer}"], [name]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, N_FEATURES])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1])]
    graph = helper.make_graph(nodes, "dear", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def width_for(batch_s: float, batch_rows: int) -> int:
    """The width at which a batch takes so long here, alone; its time grows with the width's square."""
    with tempfile.TemporaryDirectory(prefix="tandem-width-") as folder:
        scorer = Scorer.load(pack(network(TRIED_WIDTH), name="tried", out=folder))
        X = np.ones((batch_rows, N_FEATURES), np.float32)
        took_s = statistics.median(timeit.repeat(lambda: scorer.score_rows(X), number=1, repeat=N_TIMED))
    return round(TRIED_WIDTH * (batch_s / took_s) ** 0.5)
