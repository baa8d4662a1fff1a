"""From Arrow's buffers to numbers."""
