"""Counts as the Open Inference Protocol's model statistics, in its names and its nanoseconds.

A request that was answered with scores is a success; what was refused, shed or malformed failed.
``batch_stats`` is empty, because it wants each size's own time: sizes are counted in buckets, in
``/metrics``, and time is not counted by size. So is ``memory_usage``: what a model takes of its process
is not known.
"""

from collections.abc import Sequence
from typing import Any

from engine.realtime.counting.counters import DOORS, FAMILIES, STATUSES, offset

_BUCKETS = {family.name: family.n_cells - 1 for family in FAMILIES}
_STAGES = {"queue": "queue", "compute_input": "decode", "compute_infer": "score", "compute_output": "encode"}
"""Our stage by the protocol's name."""


def model_statistics(name: str, version: str, cells: Sequence[int]) -> dict[str, Any]:
    """One entry of ``model_stats``.

    Args:
        name: The model.
        version: The revision served now; the counts are the model's, whatever revision scored.
        cells: As ``ModelCounters`` counts them, added over the replicas of a node.
    """
    failed = sum(
        cells[offset("tandem_requests_total", door, status)]
        for door in DOORS
        for status in STATUSES
        if status != "200"
    )
    nothing = {"count": 0, "ns": 0}
    return {
        "name": name,
        "version": version,
        "last_inference": cells[offset("tandem_last_scored_timestamp_seconds")] * 1000,
        "inference_count": cells[offset("tandem_rows_total")],
        "execution_count": _duration(cells, "tandem_batch_seconds")["count"],
        "inference_stats": {
            "success": _duration(cells, "tandem_request_seconds"),
            "fail": {"count": failed, "ns": cells[offset("tandem_failed_seconds_total")]},
            **{key: _duration(cells, "tandem_stage_seconds", stage) for key, stage in _STAGES.items()},
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [],
        "memory_usage": [],
    }


def _duration(cells: Sequence[int], family: str, *labels: str) -> dict[str, int]:
    at, n_buckets = offset(family, *labels), _BUCKETS[family]
    return {"count": sum(cells[at : at + n_buckets]), "ns": cells[at + n_buckets]}
