"""The demonstration: real flights, from a trained model to equal bits in bulk and online."""
