"""The CUDA twins, and when they are used."""
