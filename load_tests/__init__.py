"""Load tests and benchmarks: of the engine under load, of its kernels, and beside its peers."""
