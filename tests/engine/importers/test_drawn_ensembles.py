"""ONNX tree ensembles drawn at random have ONNX Runtime's bits at every batch size, or are refused."""

import tempfile

import numpy as np
import onnx
import onnxruntime
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.errors import InvalidModel
from engine.packing import pack
from engine.scorer import Scorer
from tests.engine.importers.drawn_ensembles import Drawn, drawn_ensemble
from tests.engine.importers.margins import same_bits

BATCHES = (1, 2, 7, 64, 200)
QUICKLY = settings(
    max_examples=60,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


def session_of(graph: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def without_transform(graph: onnx.ModelProto) -> onnx.ModelProto:
    plain = onnx.ModelProto.FromString(graph.SerializeToString())
    kept = [given for given in plain.graph.node[0].attribute if given.name != "post_transform"]
    del plain.graph.node[0].attribute[:]
    plain.graph.node[0].attribute.extend(kept)
    return plain


def packed(drawn: Drawn) -> Scorer | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Scorer.load(pack(drawn.graph, name="drawn", out=folder))
        except InvalidModel as refusal:
            assert "\n" not in str(refusal)  # noqa: PT017  which of both is the draw's
            return None


@QUICKLY
@given(st.integers(0, 2**32))
def test_a_drawn_ensemble_has_the_runtimes_bits_in_every_batch(seed: int) -> None:
    drawn = drawn_ensemble(np.random.default_rng(seed))
    scorer = packed(drawn)
    if scorer is None:
        return
    linked = scorer.manifest.link.name != "identity"
    session = session_of(without_transform(drawn.graph) if linked else drawn.graph)
    for size in BATCHES:
        rows = drawn.rows[:size]
        try:
            (expected,) = session.run(["Y"], {"X": rows})
        except onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException:
            continue  # A row whose leaves name none of three classes: the runtime refuses it.
        got = scorer.score_rows(rows.astype(scorer.schema.dtype))
        if not linked:
            assert same_bits(got, expected)
            continue
        margins = np.empty(got.shape, scorer._margin_dtype)
        scorer._margins_of_rows(rows.astype(scorer.schema.dtype), margins)
        assert same_bits(margins.astype(expected.dtype), expected)
