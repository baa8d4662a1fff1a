"""Rows of a sample as requests in every format the engine speaks."""
