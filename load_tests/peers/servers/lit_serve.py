"""LitServe with its batching, ONNX Runtime in one worker: ``lit_serve.py FOLDER PORT SCRATCH``."""

import sys
from pathlib import Path

import litserve as ls
import numpy as np
import onnxruntime

MODEL = str(Path(sys.argv[1]) / "model.onnx")


class Late(ls.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])

    def decode_request(self, request):
        return np.asarray(request["inputs"][0]["data"], np.float32)

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, x):
        return self.session.run(["probabilities"], {"input": x})[0][:, 1]

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"outputs": [{"name": "score", "datatype": "FP32", "shape": [1], "data": [float(output)]}]}


if __name__ == "__main__":
    api = Late(max_batch_size=64, batch_timeout=0.002)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="error", generate_client_file=False)
