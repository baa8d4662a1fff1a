"""The largest rate that keeps a promise: searched for, and simulated."""
