"""Numeric kernels shared by the batch and the real-time path. Imports NumPy and Numba only."""
