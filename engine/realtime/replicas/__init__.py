"""An endpoint as replicas on Ray Serve."""
