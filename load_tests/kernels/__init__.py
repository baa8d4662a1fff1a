"""Kernels beside other libraries."""
