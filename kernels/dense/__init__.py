"""Small neural networks: dense layers behind a first layer that the linear kernel computes."""
