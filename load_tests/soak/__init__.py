"""``make soak``: an engine under mixed load, with reloads, killed replicas and batch jobs beside."""
