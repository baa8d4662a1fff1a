"""Parquet jobs beside other ways."""
