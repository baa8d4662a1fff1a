"""Scoring of Parquet: planned once, run anywhere, committed exactly once."""
