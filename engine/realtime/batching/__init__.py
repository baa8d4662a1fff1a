"""Which rows are scored when: admission, the queue and the batcher."""
