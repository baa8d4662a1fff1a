"""From tables, JSON rows and tensors to the numbers a model takes: one set of rules for every door."""
