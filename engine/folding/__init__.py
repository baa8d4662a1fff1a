"""Feature pipelines folded into a model when it is packed.

In a forest they become splits, which costs nothing and keeps the bits; in a linear model weights and tables.
"""
