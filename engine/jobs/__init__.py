"""Batch jobs as a service of a running engine: a durable queue, one process per job, REST and a client."""
