"""Feature pipelines folded into a forest when it is packed: no cost at run time, the same bits."""
