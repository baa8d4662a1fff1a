"""tritonclient, unchanged, as the judge of the wire."""

import asyncio
import zlib

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.engine.realtime.running import Lane

ROWS = np.array([[1, 2, 3, 4], [0, 0, 0, 1]], np.float32)


def matrix(module: object, *, binary: bool) -> list[triton.InferInput]:
    tensor = module.InferInput("rows", list(ROWS.shape), "FP32")  # type: ignore[attr-defined]
    tensor.set_data_from_numpy(ROWS, binary_data=binary)
    return [tensor]


def features(*, binary: bool) -> list[triton.InferInput]:
    columns = {
        "distance": ("FP64", np.array([100.0, 1.0])),
        "carrier": ("BYTES", np.array(["UA", "AA"], object)),
        "stops": ("INT8", np.array([2, 0], np.int8)),
        "night": ("BOOL", np.array([True, False])),
    }
    tensors = []
    for name, (datatype, values) in columns.items():
        tensor = triton.InferInput(name, [2], datatype)
        tensor.set_data_from_numpy(values, binary_data=binary)
        tensors.append(tensor)
    return tensors


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_infer(lane: Lane, binary_in: bool, binary_out: bool | None) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{lane.port}") as client:
        outputs = (
            None if binary_out is None else [triton.InferRequestedOutput("score", binary_data=binary_out)]
        )
        result = client.infer("numeric", matrix(triton, binary=binary_in), outputs=outputs, request_id="7")
        assert result.as_numpy("score").tolist() == [30.0, 4.0]
        assert result.get_response()["id"] == "7"
        result = client.infer("mixed", features(binary=binary_in), outputs=outputs)
        assert result.as_numpy("score").tolist() == [112.0, 1.0]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression_both_ways(lane: Lane, algorithm: str) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{lane.port}") as client:
        result = client.infer(
            "numeric",
            matrix(triton, binary=True),
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        assert result.as_numpy("score").tolist() == [30.0, 4.0]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_a_large_answer_comes_compressed_and_is_the_same(lane: Lane, algorithm: str, binary: bool) -> None:
    rows = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    tensor = triton.InferInput("rows", [400, 4], "FP32")
    tensor.set_data_from_numpy(rows)
    outputs = [triton.InferRequestedOutput("score", binary_data=binary)]
    with triton.InferenceServerClient(f"127.0.0.1:{lane.port}") as client:
        plain = client.infer("numeric", [tensor], outputs=outputs).as_numpy("score")
        packed = client.infer(
            "numeric", [tensor], outputs=outputs, response_compression_algorithm=algorithm
        ).as_numpy("score")
    assert plain.tobytes() == packed.tobytes()
    headers = {"Inference-Header-Content-Length": "0", "Accept-Encoding": algorithm}
    reply = lane.ask("POST", "/v2/models/numeric/infer", rows.tobytes(), headers)
    assert reply.headers["content-encoding"] == algorithm
    unpacked = zlib.decompress(reply.body, 31 if algorithm == "gzip" else 15)
    assert unpacked.endswith(plain.tobytes())
    assert int(reply.headers["inference-header-content-length"]) == len(unpacked) - plain.nbytes


def test_health_metadata_and_index(lane: Lane) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{lane.port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("numeric")
        assert not client.is_model_ready("nope")
        assert client.get_server_metadata()["name"] == "tandem"
        metadata = client.get_model_metadata("numeric")
        assert [tensor["name"] for tensor in metadata["inputs"]] == ["f0", "f1", "f2", "f3"]
        assert {model["name"] for model in client.get_model_repository_index()} == {"mixed", "numeric"}
        version = metadata["versions"][0]
        assert client.is_model_ready("numeric", version)
        result = client.infer("numeric", matrix(triton, binary=True), model_version=version)
        assert result.get_response()["model_version"] == version


def test_errors_are_sentences(lane: Lane) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{lane.port}") as client:
        with pytest.raises(InferenceServerException, match="no model 'nope'"):
            client.infer("nope", matrix(triton, binary=True))
        wrong = triton.InferInput("rows", [1, 3], "FP32")
        wrong.set_data_from_numpy(ROWS[:1, :3].copy())
        with pytest.raises(InferenceServerException, match=r"shape \[n, 4\]"):
            client.infer("numeric", [wrong])


def test_many_at_once(lane: Lane) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{lane.port}", concurrency=8) as client:
        waiting = [client.async_infer("numeric", matrix(triton, binary=True)) for _ in range(50)]
        assert all(one.get_result().as_numpy("score").tolist() == [30.0, 4.0] for one in waiting)


@pytest.mark.parametrize("binary", [True, False])
def test_the_aio_client(lane: Lane, binary: bool) -> None:
    async def scenario() -> None:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{lane.port}") as client:
            assert await client.is_server_ready()
            result = await client.infer("numeric", matrix(triton_aio, binary=binary))
            assert result.as_numpy("score").tolist() == [30.0, 4.0]

    asyncio.run(scenario())
