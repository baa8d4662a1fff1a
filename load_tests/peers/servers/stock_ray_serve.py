"""Ray Serve as its documentation advises: FastAPI ingress, ``@serve.batch``, ONNX Runtime.

``stock_ray_serve.py FOLDER PORT SCRATCH``; HAProxy and the throughput settings come from the environment.
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import ray
from fastapi import FastAPI, Request
from ray import serve

app = FastAPI()
model, port = str(Path(sys.argv[1]) / "model.onnx"), int(sys.argv[2])


@serve.deployment(max_ongoing_requests=256)
@serve.ingress(app)
class Late:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def score(self, rows: list[list[float]]) -> list[float]:
        probabilities = self.session.run(["probabilities"], {"input": np.asarray(rows, np.float32)})[0]
        return probabilities[:, 1].tolist()

    @app.post("/v2/models/late/infer")
    async def infer(self, request: Request) -> dict:
        body = await request.json()
        score = await self.score(body["inputs"][0]["data"])
        output = {"name": "score", "datatype": "FP32", "shape": [1], "data": [score]}
        return {"model_name": "late", "outputs": [output]}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv[3])
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Late.bind())
    while True:
        time.sleep(3600)
