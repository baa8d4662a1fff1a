"""BentoML with adaptive batching, ONNX Runtime."""

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=1, traffic={"timeout": 30, "max_concurrency": 512})
class Late:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        model = os.environ["LATE_MODEL"]
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=64, max_latency_ms=1000, route="/infer")
    def infer(self, rows: np.ndarray) -> np.ndarray:
        return self.session.run(["probabilities"], {"input": rows.astype(np.float32)})[0][:, 1]
