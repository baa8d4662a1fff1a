"""A model that kills the process which scores some rows, as other people's native code may."""

import platform
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from engine.bundle import Link, Manifest, Provenance, write_bundle
from engine.schema import Feature, Output, Schema


def make_deadly_bundle(directory: Path) -> str:
    """A graph that answers x; where x is 13 it divides so that the processor kills it."""
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Sub", ["whole", "fourteen"], ["distance"]),
        helper.make_node("Div", ["least", "distance"], ["inverse"]),
        helper.make_node("Cast", ["inverse"], ["floating"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floating", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    constants = [
        helper.make_tensor("fourteen", TensorProto.INT64, [1], [14]),
        helper.make_tensor("least", TensorProto.INT64, [1], [-(2**63)]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "deadly", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    schema = Schema((Feature("x", "float32"),), "float32", Output("y", "float32"))
    manifest = Manifest("deadly", "onnx", schema, Link(), Provenance("onnx"))
    files = {"model.onnx": model.SerializeToString()}
    return str(write_bundle(manifest, files, directory))


def numbers(*odd: int, value: float = 13) -> pa.Table:
    """Eight rows of 100, but 13 (which kills) or another value at the rows given."""
    values = np.full(8, 100, np.float32)
    values[list(odd)] = value
    return pa.table({"id": range(8), "x": values})


X86 = platform.machine() in {"x86_64", "AMD64"}
deadly = pytest.mark.skipif(not X86, reason="other processors divide so without dying of it")
