"""Triton's Python backend over ONNX Runtime; Triton batches the requests."""

import os
import sys

sys.path[:0] = os.environ["PEER_PATH"].split(":")

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        model = os.environ["LATE_MODEL"]
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(request, "input").as_numpy() for request in requests]
        scores = self.session.run(["probabilities"], {"input": np.concatenate(rows)})[0][:, 1:2]
        responses, at = [], 0
        for part in rows:
            output = pb_utils.Tensor("score", np.ascontiguousarray(scores[at : at + len(part)]))
            responses.append(pb_utils.InferenceResponse([output]))
            at += len(part)
        return responses
