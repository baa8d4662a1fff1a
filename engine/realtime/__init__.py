"""The real-time path: doors (HTTP, gRPC) to one batcher per model, on a listener of our own."""
