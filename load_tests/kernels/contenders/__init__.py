"""Who takes part in the kernel benchmark; each runs in a process and an environment of its own."""
